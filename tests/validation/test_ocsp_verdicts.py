"""The verdicts of OpenSSL and of this library about the same requests and responses."""

import time
from pathlib import Path

import pytest

from mtls_middleware.validation import OCSP
from tests.validation import openssl_ocsp
from tests.validation.ocsp_cases import CASES, Received
from tests.validation.responder import Responder
from tests.validation.test_ocsp import outcome, store_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "validation.md").read_text("utf-8")
# The verdict of this library if it agrees with OpenSSL.
AGREED = {"good": "good", "revoked": "refused", "unknown": "refused", "unusable": "unavailable"}
STATUS = {"good": "accepted", "refused": "403", "unavailable": "503"}


@pytest.fixture(scope="module")
def client(ca):
    return ca.issue("CN=billing")


@pytest.fixture
def folder(ca, client, tmp_path):
    (tmp_path / "ca.pem").write_text(ca.pem)
    (tmp_path / "client.pem").write_text(client.pem)
    return tmp_path


@pytest.fixture
def server(ca):
    with Responder(ca) as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_each_response_has_the_two_verdicts_of_the_table(ca, client, folder, server, name):
    case = CASES[name]
    server.response = lambda der: case.respond(Received(ca, der))
    assert outcome(store_of(ca, OCSP(server.url)), client, time.time()) == case.ours
    (_, request), (response,) = server.asked[0], server.sent
    assert openssl_ocsp.read(folder, request, response, "client", *case.options) == case.openssl


@pytest.mark.parametrize("name", CASES)
def test_each_difference_is_explained_and_none_is_a_false_accept(name):
    case = CASES[name]
    assert bool(case.why) == (case.ours != AGREED[case.openssl])
    assert case.ours != "good" or case.openssl == "good"


@pytest.mark.parametrize("nonce", ["-nonce", "-no_nonce"])
@pytest.mark.parametrize("name", ["good", "revoked", "unknown", "tryLater", "expired", "delegated responder"])
def test_an_exchange_of_openssl_has_the_same_verdict(ca, client, folder, server, name, nonce):  # noqa: PLR0917 (fixtures)
    server.response = lambda der: CASES[name].respond(Received(ca, der))
    assert openssl_ocsp.asked(folder, server.url, "client", nonce) == CASES[name].openssl


def test_a_slow_response_is_accepted_by_neither(ca, client, folder, server):
    server.stall = 60
    began = time.monotonic()
    assert outcome(store_of(ca, OCSP(server.url, timeout=1)), client, time.time()) == "unavailable"
    assert openssl_ocsp.asked(folder, server.url, "client", "-timeout", "1") == "unusable"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_response_with_another_http_status_is_not_accepted(ca, client, folder, server, status):
    server.http_status = status
    assert outcome(store_of(ca, OCSP(server.url)), client, time.time()) == "unavailable"
    # OpenSSL 3.6 reads the body of an error, and OpenSSL 3.0 does not.
    expected = {"unusable"} if status == 302 else {"unusable", "good"}
    assert openssl_ocsp.asked(folder, server.url, "client") in expected


def test_the_page_shows_the_table():
    lines = [f"| {name} | {case.openssl} | {STATUS[case.ours]} | {case.why} |" for name, case in CASES.items()]
    assert [each for each in lines if each not in PAGE] == []
