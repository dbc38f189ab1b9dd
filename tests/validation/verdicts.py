"""How tests ask: does this certificate validate, and if not, why?"""

from typing import Protocol

from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.effects.flow import BlockingDriver, Flow
from mtls_middleware.errors import Refused
from mtls_middleware.reusable import decide
from mtls_middleware.testing.issued_certificate import IssuedCertificate


class Store(Protocol):
    def validate(self, certificate: ClientCertificate, now: float) -> ClientCertificate | Flow[ClientCertificate]: ...


def presented(issued: IssuedCertificate) -> ClientCertificate:
    return issued.client_certificate(Verification.PRESENTED)


def reasons(store: Store, certificate: ClientCertificate | IssuedCertificate, now: float) -> tuple[str, ...]:
    """Nothing where the store validates it; else why not. Whatever is not a refusal of ours comes through."""
    if isinstance(certificate, IssuedCertificate):
        certificate = presented(certificate)
    try:
        found = BlockingDriver().run(decide(store, certificate, now)).value
    except Refused as refusal:
        return (refusal.code, *refusal.evidence[1:])
    assert found == certificate
    assert found.chain == certificate.chain
    assert found.verification is Verification.BY_TRUST_STORE
    return ()
