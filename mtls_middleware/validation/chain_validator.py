"""`ChainValidator`: what a layer needs of the object that validates certification paths."""

from typing import Protocol

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Flow


class ChainValidator(Protocol):
    """Validates certification paths in this process. `TrustStore` and `SpiffeTrust` are such validators."""

    def validate(self, certificate: ClientCertificate, now: float) -> ClientCertificate | Flow[ClientCertificate]:
        """The same certificate with the verification `BY_TRUST_STORE`, or a flow that returns it.

        `now`: seconds since the epoch. Raises `Refused("client_certificate_refused", reason)`, or `Unavailable`.
        """
