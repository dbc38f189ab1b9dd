"""Obtains certificate-bound access tokens, and presents them over connections of their certificate (RFC 8705)."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.certificate_files import CertificateFiles, CertificateKeyPair
    from mtls_middleware.client.auth import CertificateBoundAuth
    from mtls_middleware.client.contexts import ssl_context
    from mtls_middleware.client.errors import CredentialsNotSent, TokenError, TokenNotBound
    from mtls_middleware.client.transport import AsyncCertificateTransport, CertificateTransport

__all__ = [
    "AsyncCertificateTransport",
    "CertificateBoundAuth",
    "CertificateFiles",
    "CertificateKeyPair",
    "CertificateTransport",
    "CredentialsNotSent",
    "TokenError",
    "TokenNotBound",
    "ssl_context",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "certificate_files": ["CertificateFiles", "CertificateKeyPair"],
            "client.auth": ["CertificateBoundAuth"],
            "client.contexts": ["ssl_context"],
            "client.errors": ["CredentialsNotSent", "TokenError", "TokenNotBound"],
            "client.transport": ["AsyncCertificateTransport", "CertificateTransport"],
        },
    )
