"""OCSP responses, with the verdict of OpenSSL and that of this library, and the reason for each difference.

docs/validation.md shows this table.
"""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.testing.issued_certificate import IssuedCertificate
from tests.validation import ocsp_der
from tests.validation.authority import HOUR
from tests.validation.responder import REVOKED, UNKNOWN, failure, respond
from tests.validation.unusual_certificates import RSA_1024, usage

NO_CHECK = (x509.OCSPNoCheck(), False)
OTHER_CA, IMPOSTOR = CertificateAuthority("CN=Other CA,O=Tests"), CertificateAuthority()  # the impostor has CA's name
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Received:
    """A request, and the CA that issued the certificate in it."""

    ca: CertificateAuthority
    der: bytes

    @functools.cached_property
    def request(self) -> ocsp.OCSPRequest:
        return ocsp.load_der_ocsp_request(self.der)

    def single(self, **options: Any) -> bytes:
        """A SingleResponse: see `ocsp_der.single`."""
        return ocsp_der.single(_CertID(self.request), now=time.time(), **options)

    def signed(self, *singles: bytes, **options: Any) -> bytes:
        """A response with these single responses: see `ocsp_der.response`."""
        return ocsp_der.response(self.ca, *singles, **{"now": time.time(), **options})


class _CertID:
    def __init__(self, request: ocsp.OCSPRequest) -> None:
        self.serial = request.serial_number
        self.name_hash, self.key_hash = request.issuer_name_hash, request.issuer_key_hash


@dataclass(frozen=True)
class Case:
    """How a responder responds, the two verdicts, and why they differ.

    `openssl`: good, revoked, unknown or unusable. `ours`: good, refused (403) or unavailable (503). `options`: further
    options of `openssl ocsp`.
    """

    respond: Callable[[Received], bytes]
    openssl: str
    ours: str
    why: str = ""
    options: tuple[str, ...] = ()


def built(**options: Any) -> Callable[[Received], bytes]:
    """A response with these `options` of `responder.respond`."""
    return lambda received: respond(received.ca, received.request, **options)


def delegated(
    *extensions: Any, purpose: Any = ExtendedKeyUsageOID.OCSP_SIGNING, issuer: Any = None, **options: Any
) -> Callable[[Received], bytes]:
    """A response of a delegated responder, whose certificate `issuer` or the CA has issued with these `options`."""

    def make(received: Received) -> bytes:
        purposes = [(x509.ExtendedKeyUsage([purpose]), False)] if purpose else []
        responder: IssuedCertificate = (issuer or received.ca).issue(
            "CN=OCSP responder", extended_key_usage=(), extensions=[*extensions, *purposes], **options
        )
        signer = {"key": responder.key, "named": responder.x509, "certificates": [responder.x509]}
        return respond(received.ca, received.request, **signer)

    return make


def earlier(**options: Any) -> Callable[[Received], bytes]:
    """A response to another request for the same certificate."""
    return built(nonce=b"e" * 32, **options)


def _large() -> Any:
    large = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\4\x83\1\x11\x70" + bytes(70_000))
    return delegated(NO_CHECK, (large, False))


def _several(*statuses: bytes) -> Callable[[Received], bytes]:
    return lambda received: received.signed(*(received.single(status=each) for each in statuses))


def _with_others(count: int) -> Callable[[Received], bytes]:
    return lambda received: received.signed(
        *(received.single(serial=number) for number in range(1, count + 1)), received.single()
    )


FIRST = "OpenSSL uses the first of several statuses"
CRITICAL = "OpenSSL ignores critical extensions of a response"
STRONG = "the library accepts no weaker algorithm or key, as in certification paths"
EXPIRED = {"not_before": datetime.now(UTC) - 3 * DAY, "not_after": datetime.now(UTC) - DAY}
UNKNOWN_CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)
CLIENT_AUTH, ANY = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE

CASES: Mapping[str, Case] = {
    "good": Case(built(), "good", "good"),
    "revoked": Case(built(status=REVOKED), "revoked", "refused"),
    "unknown": Case(built(status=UNKNOWN), "unknown", "refused"),
    "tryLater": Case(lambda _: failure("TRY_LATER"), "unusable", "unavailable"),
    "internalError": Case(lambda _: failure("INTERNAL_ERROR"), "unusable", "unavailable"),
    "malformedRequest": Case(lambda _: failure("MALFORMED_REQUEST"), "unusable", "unavailable"),
    "sigRequired": Case(lambda _: failure("SIG_REQUIRED"), "unusable", "unavailable"),
    "unauthorized": Case(lambda _: failure("UNAUTHORIZED"), "unusable", "unavailable"),
    "expired": Case(built(begins=-2 * HOUR, ends=-120), "unusable", "unavailable"),
    "nextUpdate before thisUpdate": Case(built(begins=20, ends=10), "unusable", "unavailable"),
    "thisUpdate in the future": Case(built(begins=200), "unusable", "unavailable"),
    "producedAt in the future": Case(
        lambda received: received.signed(received.single(), now=time.time() + HOUR),
        "good",
        "unavailable",
        "OpenSSL does not check producedAt",
    ),
    "producedAt with fractions of a second": Case(
        lambda received: received.signed(received.single(), produced=ocsp_der.tlv(0x18, b"20260101000000.5Z")),
        "good",
        "unavailable",
        "RFC 5280 4.1.2.5.2 forbids them, and `cryptography` rejects them",
    ),
    "no nextUpdate": Case(built(ends=None), "good", "good"),
    "no nextUpdate, no nonce, thisUpdate two hours ago": Case(
        built(ends=None, begins=-2 * HOUR, nonce=None), "unusable", "unavailable", options=("-status_age", "3600")
    ),
    "changed signature": Case(built(tamper=True), "unusable", "unavailable"),
    "signed by an unknown key": Case(built(key=OTHER_CA.key, named=OTHER_CA.certificate), "unusable", "unavailable"),
    "signed by another CA with the same name": Case(
        built(key=IMPOSTOR.key, named=IMPOSTOR.certificate, certificates=[IMPOSTOR.certificate], by_name=True),
        "unusable",
        "unavailable",
    ),
    "hash SHA-224": Case(built(digest=hashes.SHA224()), "good", "unavailable", STRONG),
    "delegated responder": Case(delegated(NO_CHECK), "good", "good"),
    "delegated responder with an RSA key": Case(delegated(NO_CHECK, key="rsa"), "good", "good"),
    "delegated responder without extendedKeyUsage": Case(delegated(NO_CHECK, purpose=None), "unusable", "unavailable"),
    "delegated responder with clientAuth": Case(delegated(NO_CHECK, purpose=CLIENT_AUTH), "unusable", "unavailable"),
    "delegated responder with anyExtendedKeyUsage": Case(delegated(NO_CHECK, purpose=ANY), "unusable", "unavailable"),
    "delegated responder of another CA": Case(delegated(NO_CHECK, issuer=OTHER_CA), "unusable", "unavailable"),
    "delegated responder of another CA with the same name": Case(
        delegated(NO_CHECK, issuer=IMPOSTOR), "unusable", "unavailable"
    ),
    "delegated responder, expired": Case(delegated(NO_CHECK, **EXPIRED), "unusable", "unavailable"),
    "delegated responder with an unknown critical extension": Case(
        delegated(NO_CHECK, UNKNOWN_CRITICAL), "unusable", "unavailable"
    ),
    "delegated responder without nocheck": Case(
        delegated(),
        "good",
        "unavailable",
        "OpenSSL does not check whether the responder's certificate is revoked; `responder_lists` makes it usable here",
    ),
    "delegated responder, keyUsage keyEncipherment": Case(
        delegated(NO_CHECK, (usage("key_encipherment"), True)),
        "good",
        "unavailable",
        "OpenSSL does not check keyUsage of the responder's certificate",
    ),
    "delegated responder, RSA key of 1024 bits": Case(delegated(NO_CHECK, key=RSA_1024), "good", "unavailable", STRONG),
    "status of another serial number": Case(built(serial=7), "unusable", "unavailable"),
    "status of another issuer": Case(built(issuer=OTHER_CA.certificate), "unusable", "unavailable"),
    "no status": Case(lambda received: received.signed(), "unusable", "unavailable"),
    "two statuses: good, then revoked": Case(
        _several(ocsp_der.GOOD_DER, ocsp_der.revoked(0)), "good", "unavailable", FIRST
    ),
    "two statuses: revoked, then good": Case(
        _several(ocsp_der.revoked(0), ocsp_der.GOOD_DER), "revoked", "unavailable", FIRST
    ),
    "99 statuses of other certificates": Case(_with_others(99), "good", "good"),
    "100 statuses of other certificates": Case(
        _with_others(100), "good", "unavailable", "the library reads at most 100 statuses"
    ),
    "critical extension in the response": Case(
        lambda received: received.signed(received.single(), extensions=ocsp_der.extension(critical=True)),
        "good",
        "unavailable",
        CRITICAL,
    ),
    "critical extension in the status": Case(
        lambda received: received.signed(received.single(extensions=ocsp_der.extension(critical=True))),
        "good",
        "unavailable",
        CRITICAL,
    ),
    "replayed, with the nonce of another request": Case(earlier(), "unusable", "unavailable"),
    "replayed, without a nonce": Case(built(nonce=None, begins=-HOUR / 2), "good", "good"),
    "replayed, without a nonce, expired": Case(
        built(nonce=None, begins=-2 * HOUR, ends=-HOUR), "unusable", "unavailable"
    ),
    "70,000 bytes": Case(_large(), "good", "unavailable", "the library reads at most 65,536 bytes"),
    "one more byte": Case(
        lambda received: built()(received) + b"\0", "good", "unavailable", "OpenSSL ignores what follows the response"
    ),
    "one byte less": Case(lambda received: built()(received)[:-1], "unusable", "unavailable"),
    "empty": Case(lambda _: b"", "unusable", "unavailable"),
    "HTML": Case(lambda _: b"<html></html>", "unusable", "unavailable"),
    "a certificate": Case(
        lambda received: received.ca.certificate.public_bytes(Encoding.DER), "unusable", "unavailable"
    ),
}
