"""`ChainValidator`: the protocol of objects that validate certification paths for a layer."""

from typing import Protocol

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Flow


class ChainValidator(Protocol):
    """Validates certification paths in this process. `TrustStore` and `SpiffeTrust` implement this protocol.

    Example:
        >>> from mtls_middleware.certificate import Verification
        >>> from mtls_middleware.errors import Refused
        >>> class PinnedCertificates:
        ...     def __init__(self, thumbprints: set[str]) -> None:
        ...         self._thumbprints = thumbprints
        ...
        ...     def validate(self, certificate: ClientCertificate, now: float) -> ClientCertificate:
        ...         if certificate.thumbprint not in self._thumbprints:
        ...             raise Refused("client_certificate_refused", "the certificate is not pinned")
        ...         return certificate.with_verification(Verification.BY_TRUST_STORE)
    """

    def validate(self, certificate: ClientCertificate, now: float) -> ClientCertificate | Flow[ClientCertificate]:
        """Return the certificate with the verification `BY_TRUST_STORE`, or a flow that returns this certificate.

        `now`: seconds since the epoch. Raises `Refused("client_certificate_refused", reason)` if the certificate is not
        valid, and `Unavailable` if this cannot be determined now.
        """
