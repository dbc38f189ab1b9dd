"""Several revocation sources, one of them a user's own."""

from collections.abc import Sequence
from pathlib import Path

from mtls_middleware.reusable import Reusable, once
from mtls_middleware.validation import OCSP, CertificateStatus, Revocation, RevocationLists, StatusRequest, TrustStore


class BlockedSerials:
    def statuses(self, requests: Sequence[StatusRequest], now: float) -> Reusable[Sequence[CertificateStatus]]:
        return once([CertificateStatus("revoked" if each.serial == 42 else "exempt") for each in requests])


responders: dict[str, str] = {"CN=Clients CA": "http://ocsp.ca.internal"}
sources: list[Revocation] = [
    OCSP(responders, signed_by=Path("responder.pem")),
    RevocationLists(["clients.crl"]),
    BlockedSerials(),
]
one = TrustStore(["clients.pem"], revocation=OCSP("http://ocsp.ca.internal", timeout=2, soft_fail=True))
several = TrustStore(["clients.pem"], revocation=sources)
mixed = TrustStore(["clients.pem"], revocation=[OCSP({"*": "http://ocsp.ca.internal"}), RevocationLists(["a.crl"])])
