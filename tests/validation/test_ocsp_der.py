"""OCSP responses that no builder makes: several statuses, critical extensions, repeated certificates."""

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.ocsp_response import Requirements, UnusableOCSPResponse, build_request, verify
from tests.validation.authority import _tlv as tlv
from tests.validation.responder import GOOD, REVOKED, SHA1, UNKNOWN, respond

NOW = time.time()
CRITICAL = bytes.fromhex("0101ff")
ALGORITHM = tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))  # ecdsa-with-SHA256
BASIC = bytes.fromhex("06092b0601050507300101")  # id-pkix-ocsp-basic


@pytest.fixture(scope="module")
def client(ca):
    return ca.issue("CN=billing")


@pytest.fixture(scope="module")
def request_of(ca):
    return lambda each: build_request(StatusRequest(each.x509, ca.certificate), SHA1, None)


def generalized(moment):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(moment)).encode()


def single(request, *, status=b"\x80\x00", serial=None, extensions=b""):
    """A SingleResponse; `status`: the DER of certStatus."""
    number = request.serial if serial is None else serial
    algorithm = tlv(0x30, bytes.fromhex("06052b0e03021a0500"))  # SHA-1
    hashed = tlv(4, request.name_hash) + tlv(4, request.key_hash)
    cert_id = tlv(0x30, algorithm + hashed + tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big")))
    times = tlv(0x18, generalized(NOW - 60)) + tlv(0xA0, tlv(0x18, generalized(NOW + 3600)))
    return tlv(0x30, cert_id + status + times + (tlv(0xA1, tlv(0x30, extensions)) if extensions else b""))


def response(ca, *singles, extensions=b"", certificates=b"", key_hash=None):
    key_hash = key_hash or x509.SubjectKeyIdentifier.from_public_key(ca.certificate.public_key()).digest
    signed = tlv(
        0x30,
        tlv(0xA2, tlv(4, key_hash))
        + tlv(0x18, generalized(NOW))
        + tlv(0x30, b"".join(singles))
        + (tlv(0xA1, tlv(0x30, extensions)) if extensions else b""),
    )
    signature = tlv(3, b"\0" + ca.key.sign(signed, ec.ECDSA(hashes.SHA256())))
    included = tlv(0xA0, tlv(0x30, certificates)) if certificates else b""
    basic = tlv(0x30, signed + ALGORITHM + signature + included)
    return tlv(0x30, tlv(10, b"\0") + tlv(0xA0, tlv(0x30, BASIC + tlv(4, basic))))


def extension(critical):
    return tlv(0x30, bytes.fromhex("06032a0304") + (CRITICAL if critical else b"") + tlv(4, b"\x05\x00"))


REVOKED_DER = tlv(0xA1, tlv(0x18, generalized(NOW - 3600)))


def read(ca, request, octets, now=NOW):
    """The name of the status, or the reason why there is none."""
    try:
        return verify(octets, request, ca.certificate, now, Requirements()).status.name
    except UnusableOCSPResponse as failure:
        return str(failure)


def test_one_status_is_read_as_the_builder_writes_it(ca, client, request_of):
    request = request_of(client)
    assert read(ca, request, response(ca, single(request))) == "GOOD"
    assert read(ca, request, response(ca, single(request, status=REVOKED_DER))) == "REVOKED"
    assert read(ca, request, response(ca, single(request, status=b"\x82\x00"))) == "UNKNOWN"
    builder = ocsp.load_der_ocsp_request(request.der)
    for status in (GOOD, REVOKED, UNKNOWN):
        assert read(ca, request, respond(ca, builder, status=status), time.time()) == status.name


def test_only_the_status_of_the_certificate_counts(ca, client, request_of):
    request = request_of(client)
    others = [single(request, serial=each, status=REVOKED_DER) for each in (1, 2)]
    assert read(ca, request, response(ca, *others, single(request))) == "GOOD"
    assert "0 statuses" in read(ca, request, response(ca, *others))
    assert "0 statuses" in read(ca, request, response(ca))


@pytest.mark.parametrize("pair", [(b"\x80\x00", REVOKED_DER), (REVOKED_DER, b"\x80\x00"), (b"\x80\x00", b"\x80\x00")])
def test_two_statuses_of_one_certificate_prove_nothing(ca, client, request_of, pair):
    request = request_of(client)
    singles = [single(request, status=each) for each in pair]
    assert "2 statuses" in read(ca, request, response(ca, *singles))


@pytest.mark.parametrize("more", [0, 1])
def test_a_critical_extension_is_rejected_wherever_it_is(ca, client, request_of, more):
    request = request_of(client)
    others = [single(request, serial=1)] * more
    for critical in (False, True):
        with_single = response(ca, single(request, extensions=extension(critical)), *others)
        with_response = response(ca, single(request), *others, extensions=extension(critical))
        for each in (with_single, with_response):
            assert ("critical extension" in read(ca, request, each)) is critical
            assert critical or read(ca, request, each) == "GOOD"


def test_statuses_and_certificates_are_limited(ca, client, request_of):
    request = request_of(client)
    many = [single(request, serial=each) for each in range(1, 102)]
    assert "more than 100 statuses" in read(ca, request, response(ca, *many, single(request)))
    for count, reason in ((10, "its signer"), (11, "more than 10 certificates")):
        octets = response(ca, single(request), certificates=ca.issue().der * count, key_hash=b"x" * 20)
        assert reason in read(ca, request, octets)


def test_trailing_octets_are_rejected(ca, client, request_of):
    request = request_of(client)
    octets = response(ca, single(request))
    assert "not a readable" in read(ca, request, octets + b"\0")
    assert "not a readable" in read(ca, request, octets[:-1])
