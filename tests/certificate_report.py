"""`certificate_of`: the certificate that the middleware attached, as JSON data from an application in a server process.

Every interpreter that embeds an application of these tests reads this file.
"""

from typing import Any

from mtls_middleware import client_certificate


def certificate_of(request: Any) -> dict[str, object] | None:
    """Return the thumbprint, the verification and the length of the chain. `request`: an environ or a scope."""
    certificate = client_certificate(request)
    if certificate is None:
        return None
    return {
        "thumbprint": certificate.thumbprint,
        "verification": certificate.verification.name,
        "chain": len(certificate.chain),
    }
