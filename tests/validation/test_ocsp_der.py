"""OCSP responses that no builder makes: several statuses, critical extensions, repeated certificates."""

import time
from functools import partial

import pytest
from cryptography.x509 import ocsp

from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.ocsp_response import Requirements, UnusableOCSPResponse, build_request, verify
from tests.validation import ocsp_der
from tests.validation.ocsp_der import GOOD_DER, UNKNOWN_DER, extension, revoked
from tests.validation.responder import GOOD, REVOKED, SHA1, UNKNOWN, respond

NOW = time.time()
single, response = partial(ocsp_der.single, now=NOW), partial(ocsp_der.response, now=NOW)
REVOKED_DER = revoked(NOW - 3600)


@pytest.fixture(scope="module")
def client(ca):
    return ca.issue("CN=billing")


@pytest.fixture(scope="module")
def request_of(ca):
    return lambda each: build_request(StatusRequest(each.x509, ca.certificate), SHA1, None)


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
    assert read(ca, request, response(ca, single(request, status=UNKNOWN_DER))) == "UNKNOWN"
    builder = ocsp.load_der_ocsp_request(request.der)
    for status in (GOOD, REVOKED, UNKNOWN):
        assert read(ca, request, respond(ca, builder, status=status), time.time()) == status.name


def test_only_the_status_of_the_certificate_counts(ca, client, request_of):
    request = request_of(client)
    others = [single(request, serial=each, status=REVOKED_DER) for each in (1, 2)]
    assert read(ca, request, response(ca, *others, single(request))) == "GOOD"
    assert "0 statuses" in read(ca, request, response(ca, *others))
    assert "0 statuses" in read(ca, request, response(ca))


@pytest.mark.parametrize("pair", [(GOOD_DER, REVOKED_DER), (REVOKED_DER, GOOD_DER), (GOOD_DER, GOOD_DER)])
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
