"""What applications in server processes tell of the certificate that the middleware attached.

Every interpreter that embeds an application of these tests reads this file.
"""

from typing import Any

from mtls_middleware import client_certificate


def certificate_of(request: Any) -> dict[str, object] | None:
    """As JSON can carry it: whose, who vouched for it, how many stand above it; of an environ or a scope."""
    certificate = client_certificate(request)
    if certificate is None:
        return None
    return {
        "thumbprint": certificate.thumbprint,
        "verification": certificate.verification.name,
        "chain": len(certificate.chain),
    }
