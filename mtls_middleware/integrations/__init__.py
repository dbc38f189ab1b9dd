"""RFC 8705 for authorization server libraries, and users, certificates and scopes for web frameworks."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.integrations.certificate_user import CertificateIdentity, CertificateUser

__all__ = ["CertificateIdentity", "CertificateUser"]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__, {"integrations.certificate_user": ["CertificateIdentity", "CertificateUser"]}
    )
