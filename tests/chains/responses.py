"""OCSP responses as plain data that is easy to change: a sound one for each CA of a PKI, and a few changes to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.chains.changes import add, unknown
from tests.chains.drafts import NOW, PKI, WRONG_KEY, Draft, Extension, key
from tests.validation import ocsp_der
from tests.validation.responder import failure

DAY = 86_400
_DER = {"good": ocsp_der.GOOD_DER, "revoked": ocsp_der.revoked(NOW - 2 * DAY), "unknown": ocsp_der.UNKNOWN_DER}
_RESPONDER_KEY, _OTHER_RESPONDER_KEY = 60, 61
_NO_CHECK: Extension = (x509.OCSPNoCheck(), False)


class CertID(NamedTuple):
    """A certificate as OCSP names it (RFC 6960 4.1.1)."""

    name_hash: bytes
    key_hash: bytes
    serial: int


def cert_id(issuer: Draft, serial: int) -> CertID:
    digest = hashes.Hash(hashes.SHA1())
    digest.update(x509.Name.from_rfc4514_string(issuer.subject).public_bytes())
    return CertID(digest.finalize(), key_hash(key(issuer.key).public_key()), serial)


def key_hash(public_key: CertificatePublicKeyTypes) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(public_key).digest


@dataclass
class StatusDraft:
    """The status of one certificate. Days are from now. `count`: how often the response contains it."""

    status: str = "good"
    begins: float = -0.02
    ends: float | None = 1
    count: int = 1
    extensions: bytes = b""


@dataclass
class ResponseDraft:
    """The response about all certificates of one CA.

    `delegate`: the responder's certificate, if the CA itself does not sign. `signer`: the number of the key that signs,
    if it is not that of the CA or of the delegate. `error`: the name of an error status of the whole response.
    """

    issuer: Draft
    statuses: dict[int, StatusDraft]
    delegate: Draft | None = None
    signer: int | None = None
    error: str | None = None
    has_certificate: bool = True
    produced: float = -0.01
    extensions: bytes = b""
    is_changed: bool = False
    changes: list[str] = field(default_factory=list)

    def build(self) -> bytes:
        if self.error is not None:
            return failure(self.error)
        named = self.issuer if self.delegate is None else self.delegate
        certificates = b""
        if self.delegate is not None and self.has_certificate:
            certificates = self.delegate.build().public_bytes(Encoding.DER)
        octets = ocsp_der.response(
            None,
            *(single for serial, each in self.statuses.items() for single in self._singles(serial, each)),
            now=NOW + self.produced * DAY,
            extensions=self.extensions,
            certificates=certificates,
            key_hash=key_hash(key(named.key).public_key()),
            sign=ocsp_der.ecdsa(key(self.signer or named.key)),
        )
        if not self.is_changed:
            return octets
        signature = ocsp.load_der_ocsp_response(octets).signature
        return octets.replace(signature, signature[:-1] + bytes([signature[-1] ^ 1]))

    def _singles(self, serial: int, each: StatusDraft) -> list[bytes]:
        found = cert_id(self.issuer, serial)
        ends = None if each.ends is None else each.ends * DAY
        options = {
            "status": _DER[each.status],
            "extensions": each.extensions,
            "begins": each.begins * DAY,
            "ends": ends,
        }
        return [ocsp_der.single(found, now=NOW, **options)] * each.count


def draw(pki: PKI, random: Random) -> list[ResponseDraft]:
    """Return a response for each CA of a PKI."""
    certificates = [*pki.between, *pki.leaves]
    responses = []
    # One of the certificates of each CA: a cross-certificate has the name and the key of another certificate.
    for authority in {(each.subject, each.key): each for each in pki.authorities[::-1]}.values():
        serials = sorted({each.serial for each in certificates if each.issuer and each.issuer.is_like(authority)})
        statuses = {serial: StatusDraft(random.choice(["good"] * 16 + ["revoked", "unknown"])) for serial in serials}
        responses.append(ResponseDraft(authority, statuses, _delegate(authority) if random.random() < 0.5 else None))
    for _ in range(random.choice([0, 0, 1, 1, 2])):
        name, response = random.choice(sorted(OF_A_RESPONSE)), random.choice(responses)
        OF_A_RESPONSE[name](response, random)
        response.changes.append(f"response: {name}")
    for response in responses:
        for serial in response.statuses:
            if random.random() < 0.15:
                name = random.choice(sorted(OF_A_STATUS))
                OF_A_STATUS[name](response.statuses[serial], random)
                response.changes.append(f"status: {name}")
    return responses


def _delegate(issuer: Draft) -> Draft:
    return Draft(
        "CN=Responder,O=Acme",
        _RESPONDER_KEY,
        700,
        issuer,
        ca=False,
        usage=("digital_signature",),
        purposes=[ExtendedKeyUsageOID.OCSP_SIGNING],
        more=[_NO_CHECK],
    )


Change = Callable[[Any, Random], None]


def _put(name: str, values: list[Any], target: Any, random: Random) -> None:
    setattr(target, name, random.choice(values))


def _of_delegate(change: Change) -> Change:
    """A change to the responder's certificate, which the response then has."""

    def apply(response: ResponseDraft, random: Random) -> None:
        response.delegate = response.delegate or _delegate(response.issuer)
        change(response.delegate, random)

    return apply


def _issue_elsewhere(draft: Draft, _: Random) -> None:
    """Another CA with the same name issues the certificate."""
    assert draft.issuer is not None
    draft.issuer = Draft(draft.issuer.subject, WRONG_KEY, 701)


_PURPOSES = [
    None,
    [ExtendedKeyUsageOID.CLIENT_AUTH],
    [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.OCSP_SIGNING],
]
OF_A_RESPONSE: Mapping[str, Change] = {
    "none": partial(_put, "error", ["TRY_LATER", "UNAUTHORIZED", "INTERNAL_ERROR"]),
    "signed by another key": partial(_put, "signer", [WRONG_KEY, _OTHER_RESPONDER_KEY]),
    "changed signature": partial(_put, "is_changed", [True]),
    "produced in the future": partial(_put, "produced", [0.5]),
    "critical extension": partial(_put, "extensions", [ocsp_der.extension(critical=True)]),
    "extension": partial(_put, "extensions", [ocsp_der.extension(critical=False)]),
    "no certificate": partial(_put, "has_certificate", [False]),
    "delegate: purposes": _of_delegate(partial(_put, "purposes", _PURPOSES)),
    "delegate: usage": _of_delegate(partial(_put, "usage", [None, ("key_encipherment",), ("content_commitment",)])),
    "delegate: expired": _of_delegate(partial(_put, "ends", [-1])),
    "delegate: not yet valid": _of_delegate(partial(_put, "begins", [1])),
    "delegate: signed by another key": _of_delegate(partial(_put, "signer", [WRONG_KEY])),
    "delegate: of another CA": _of_delegate(_issue_elsewhere),
    "delegate: without nocheck": _of_delegate(partial(_put, "more", [[]])),
    "delegate: critical extension": _of_delegate(partial(add, unknown, True)),
    "delegate: a CA": _of_delegate(partial(_put, "ca", [True])),
}
OF_A_STATUS: Mapping[str, Change] = {
    "revoked": partial(_put, "status", ["revoked"]),
    "unknown": partial(_put, "status", ["unknown"]),
    "expired": partial(_put, "ends", [-0.01]),
    "not yet valid": partial(_put, "begins", [0.5]),
    "without nextUpdate": partial(_put, "ends", [None]),
    "missing": partial(_put, "count", [0]),
    "twice": partial(_put, "count", [2]),
    "critical extension": partial(_put, "extensions", [ocsp_der.extension(critical=True)]),
    "extension": partial(_put, "extensions", [ocsp_der.extension(critical=False)]),
}
