"""What an attacker in the network, a client or a responder of another CA can try with OCSP responses."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import OCSP, ocsp_response
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.ocsp_records import OCSPRecord
from mtls_middleware.validation.ocsp_response import Requirements, UnusableOCSPResponse, build_request, verify
from tests.key_server import until
from tests.validation import ocsp_der
from tests.validation.authority import HOUR
from tests.validation.ocsp_der import ECDSA_SHA256, RSA_PSS, RSA_SHA256, tlv
from tests.validation.responder import GOOD, REVOKED, SHA1, UNKNOWN, Responder
from tests.validation.test_ocsp import outcome, store_of
from tests.validation.unusual_certificates import Authority, signed

RSA_CA = Authority(rsa.generate_private_key(65_537, 2048))
OTHER_RSA_KEY = rsa.generate_private_key(65_537, 2048)
OCSP_SIGNING = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
NO_CHECK = (x509.OCSPNoCheck(), False)


@pytest.fixture(scope="module")
def client(ca):
    return ca.issue("CN=billing")


@pytest.fixture
def server(ca):
    with Responder(ca) as running:
        yield running


def requested(authority, certificate, nonce=None):
    return build_request(StatusRequest(certificate, authority.certificate), SHA1, nonce)


def read(authority, request, octets):
    """The name of the status, or the reason why there is none."""
    try:
        return verify(octets, request, authority.certificate, time.time(), Requirements()).status.name
    except UnusableOCSPResponse as failure:
        return str(failure)


def response(authority, request, **options):
    now = time.time()
    return ocsp_der.response(authority, ocsp_der.single(request, now=now), now=now, **options)


def responder_of(authority):
    return authority.issue("CN=OCSP", extended_key_usage=(), extensions=[OCSP_SIGNING, NO_CHECK])


def signed_by(authority, request, signer, more=b""):
    """A response that this certificate signs, which it includes."""
    key_hash = x509.SubjectKeyIdentifier.from_public_key(signer.x509.public_key()).digest
    sign = ocsp_der.ecdsa(signer.key)
    return response(authority, request, sign=sign, certificates=signer.der + more, key_hash=key_hash)


def pss(digest):
    return padding.PSS(padding.MGF1(digest), digest.digest_size)


PKCS1, SHA256, SHA512 = padding.PKCS1v15(), hashes.SHA256(), hashes.SHA512()
# By name: the algorithm that the response states, the key, the padding and the hash of the signature; is it valid?
SIGNATURES = {
    "PKCS 1": (RSA_SHA256, RSA_CA.key, PKCS1, SHA256, True),
    "PSS": (RSA_PSS, RSA_CA.key, pss(SHA256), SHA256, True),
    "PSS with SHA-512": (RSA_PSS, RSA_CA.key, pss(SHA512), SHA512, True),
    "PSS with SHA-1": (RSA_PSS, RSA_CA.key, pss(SHA1), SHA1, False),
    "PSS with two hashes": (RSA_PSS, RSA_CA.key, pss(SHA512), SHA256, False),
    "PKCS 1 as PSS": (RSA_PSS, RSA_CA.key, PKCS1, SHA256, False),
    "PSS as PKCS 1": (RSA_SHA256, RSA_CA.key, pss(SHA256), SHA256, False),
    "PSS as ECDSA": (ECDSA_SHA256, RSA_CA.key, pss(SHA256), SHA256, False),
    "PSS with another key": (RSA_PSS, OTHER_RSA_KEY, pss(SHA256), SHA256, False),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_counts_only_as_what_it_is(name):
    algorithm, key, scheme, digest, is_valid = SIGNATURES[name]
    request = requested(RSA_CA, signed(RSA_CA, ec.generate_private_key(ec.SECP256R1())).x509)
    octets = response(RSA_CA, request, algorithm=algorithm, sign=lambda octets: key.sign(octets, scheme, digest))
    found = read(RSA_CA, request, octets)
    assert found == "GOOD" if is_valid else "its signer" in found


@pytest.mark.parametrize("signature", [b"", b"\0", b"\1" * 256])
def test_a_signature_of_no_key_counts_as_none(signature):
    request = requested(RSA_CA, signed(RSA_CA, ec.generate_private_key(ec.SECP256R1())).x509)
    for algorithm in (RSA_SHA256, RSA_PSS, ECDSA_SHA256):
        octets = response(RSA_CA, request, algorithm=algorithm, sign=lambda _: signature)
        assert "its signer" in read(RSA_CA, request, octets)


def test_an_ecdsa_signature_does_not_count_as_rsa_pss(ca, client):
    request = requested(ca, client.x509)
    assert "its signer" in read(ca, request, response(ca, request, algorithm=RSA_PSS))


def slow_certificate(name):
    """A certificate that no CA of ours issued, with an RSA key whose exponent makes a verification slow."""
    numbers = rsa.generate_private_key(65_537, 3072).public_key().public_numbers()
    key = rsa.RSAPublicNumbers(numbers.n - 2, numbers.n).public_key()
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key).serial_number(1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), SHA256)


@pytest.mark.parametrize("algorithm", [RSA_SHA256, RSA_PSS], ids=["PKCS 1", "PSS"])
def test_a_key_that_the_ca_did_not_certify_verifies_nothing(ca, client, monkeypatch, algorithm):
    # Each verification with this key takes 6 ms, in which an event loop would stand still.
    keys, has_signature = [], ocsp_response._has_signature

    def has_signature_and_note(response, key, *scheme):
        keys.append(key)
        return has_signature(response, key, *scheme)

    monkeypatch.setattr(ocsp_response, "_has_signature", has_signature_and_note)
    request, slow = requested(ca, client.x509), slow_certificate(ca.certificate.subject)
    octets = response(
        ca,
        request,
        algorithm=algorithm,
        sign=lambda _: b"\1" * 384,
        certificates=slow.public_bytes(Encoding.DER) * 10,
        responder=tlv(0xA1, ca.certificate.subject.public_bytes()),
    )
    assert "issuer of the responder's certificate" in read(ca, request, octets)
    assert keys
    assert not any(isinstance(each, rsa.RSAPublicKey) for each in keys)


def test_the_delegate_is_found_among_other_certificates_with_its_name(ca, client):
    now, request = time.time(), requested(ca, client.x509)
    responder, impostor = responder_of(ca), responder_of(CertificateAuthority())
    named = tlv(0xA1, responder.x509.subject.public_bytes())
    octets = ocsp_der.response(
        ca,
        ocsp_der.single(request, now=now),
        now=now,
        responder=named,
        certificates=impostor.der + client.der + responder.der,
        sign=ocsp_der.ecdsa(responder.key),
    )
    assert read(ca, request, octets) == "GOOD"


def test_a_good_response_within_an_error_is_not_used(ca, client):
    request = requested(ca, client.x509)
    octets = response(ca, request)
    start = octets.index(tlv(10, b"\0"))
    for status in (1, 2, 3, 5, 6):
        changed = octets[:start] + tlv(10, bytes([status])) + octets[start + 3 :]
        assert "the responder's status is" in read(ca, request, changed)
    assert read(ca, request, octets) == "GOOD"


def test_another_type_of_response_is_not_used(ca, client):
    request = requested(ca, client.x509)
    octets = response(ca, request)
    other = ocsp_der.BASIC[:-1] + b"\2"
    assert "not a readable" in read(ca, request, octets.replace(ocsp_der.BASIC, other))


@pytest.mark.parametrize("count", [0, 1])
def test_a_critical_extension_in_another_encoding_is_not_overlooked(ca, client, count):
    now, request = time.time(), requested(ca, client.x509)
    extension = ocsp_der.extension(critical=True).replace(ocsp_der.CRITICAL, bytes.fromhex("010101"))
    others = [ocsp_der.single(request, now=now, serial=1)] * count
    octets = ocsp_der.response(ca, ocsp_der.single(request, now=now, extensions=extension), *others, now=now)
    assert "not a readable" in read(ca, request, octets)


NONCE = bytes(range(32))


def nonce(octets):
    return tlv(0x30, bytes.fromhex("06092b0601050507300102") + tlv(4, tlv(4, octets)))


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        (nonce(NONCE), "GOOD"),
        (nonce(b""), "the nonce differs from that of the request"),
        (nonce(NONCE[:31]), "the nonce differs from that of the request"),
        (nonce(NONCE + b"\0"), "the nonce differs from that of the request"),
        (nonce(NONCE) * 2, "not a readable"),
        (nonce(b"") + nonce(NONCE), "not a readable"),
    ],
)
def test_the_nonce_must_be_that_of_the_request(ca, client, extensions, reason):
    request = requested(ca, client.x509, NONCE)
    assert reason in read(ca, request, response(ca, request, extensions=extensions))


def test_a_client_cannot_be_its_own_responder(ca, client):
    request = requested(ca, client.x509)
    assert "no extendedKeyUsage OCSPSigning" in read(ca, request, signed_by(ca, request, client))


def test_a_delegate_cannot_delegate(ca, client):
    below = ca.intermediate("CN=Delegate", extensions=[OCSP_SIGNING, NO_CHECK])
    request = requested(ca, client.x509)
    octets = signed_by(ca, request, responder_of(below), below.certificate.public_bytes(Encoding.DER))
    assert "issuer of the responder's certificate" in read(ca, request, octets)


def test_the_ca_above_is_not_responsible(ca):
    below = ca.intermediate("CN=below")
    request = requested(below, below.issue().x509)
    octets = response(ca, request, certificates=ca.certificate.public_bytes(Encoding.DER))
    assert "issuer of the responder's certificate" in read(below, request, octets)


def test_a_delegate_of_the_ca_above_is_not_responsible(ca):
    below = ca.intermediate("CN=below")
    request = requested(below, below.issue().x509)
    assert "issuer of the responder's certificate" in read(below, request, signed_by(ca, request, responder_of(ca)))


@pytest.mark.parametrize("status", [GOOD, UNKNOWN])
@pytest.mark.parametrize("ends", [HOUR, None])
def test_an_older_response_does_not_undo_a_revocation(ca, client, server, status, ends):
    store, now = store_of(ca, OCSP(server.url, nonce="none", soft_fail=True)), time.time()
    server.options |= {"status": REVOKED, "begins": -60, "ends": 30, "now": now}
    assert outcome(store, client, now) == "refused"
    server.options |= {"status": status, "begins": -90, "ends": ends}
    for later in (40, 80, 120):
        assert outcome(store, client, now + later) == "refused"


def test_a_response_for_a_century_is_cached_for_max_age(ca, client, server):
    store, now = store_of(ca, OCSP(server.url, max_age=600)), time.time()
    server.options |= {"begins": -10 * 365 * 24 * HOUR, "ends": 100 * 365 * 24 * HOUR, "now": now}
    assert outcome(store, client, now) == "good"
    server.options["status"] = REVOKED
    assert outcome(store, client, now + 601) == "refused"


def test_responses_of_an_attacker_do_not_stay_in_memory(ca, client, server, monkeypatch):
    records, begin = set(), OCSPRecord.begin
    monkeypatch.setattr(OCSPRecord, "begin", lambda record, attempt: records.add(record) or begin(record, attempt))
    # The first request after 80 % of the time begins a renewal. There is no later request for this certificate.
    source, now = OCSP(server.url), time.time()
    server.options["now"] = now
    assert outcome(store_of(ca, source), client, now) == "good"
    server.body = b"\0" * 65_000
    assert outcome(store_of(ca, source), client, now + 0.85 * HOUR) == "good"
    (record,) = records
    until(lambda: len(server.sent) == 2 and record.attempt is None, seconds=20)
    assert record.failures == 1


def test_responses_that_differ_by_an_oid_are_one_log_line(ca, server, caplog):
    store, now = store_of(ca, OCSP(server.url)), time.time() // 30 * 30
    for number in range(1, 6):
        identifier = tlv(6, bytes([0x2A] + [0x81] * number + [3]))
        critical = tlv(0x30, identifier + ocsp_der.CRITICAL + tlv(4, b"\5\0"))
        client = ca.issue()
        request = requested(ca, client.x509)
        server.body = ocsp_der.response(ca, ocsp_der.single(request, now=now), now=now, extensions=critical)
        assert outcome(store, client, now) == "unavailable"
    assert sum("a critical extension that is not supported" in each for each in caplog.messages) == 1


@pytest.mark.parametrize("status", [201, 206, 301, 304, 401, 503])
def test_a_good_response_with_another_http_status_is_not_used(ca, client, server, status):
    server.http_status = status
    assert outcome(store_of(ca, OCSP(server.url)), client, time.time()) == "unavailable"
