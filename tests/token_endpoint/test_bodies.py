"""The body of a request to a token endpoint: what is a form, read once, up to a limit, and left whole."""

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mtls_middleware.request import MAX_BODY
from mtls_middleware.token_endpoint import ClientAuthenticator
from mtls_middleware.validation import TrustStore
from tests.gateways import both_gateways
from tests.layers.clock import Clock, clock
from tests.token_endpoint.layer import GOOD, LAYERS, error, messages
from tests.token_endpoint.posts import FORM, Post, layers, send, send_asgi, send_wsgi
from tests.token_endpoint.registrations import AUTHENTICATOR, BILLING, CA, CLIENTS
from tests.token_endpoint.roles import basic

__all__ = ["clock"]

# --- who it says it is from, on the wire ---


@both_gateways
@pytest.mark.standard("B2")
@pytest.mark.case("137")
def test_client_id_is_said_once_and_in_the_body(gateway: str) -> None:
    for post, expected in (
        (replace(GOOD, body=b"client_id=billing&client_id=billing"), "400 invalid_request"),
        (replace(GOOD, body=b"client_id=billing&client%5Fid=edge"), "400 invalid_request"),
        (replace(GOOD, query="client_id=billing"), "400 invalid_request"),
        (replace(GOOD, query="client%5fid"), "400 invalid_request"),
        (replace(GOOD, body=b"grant_type=x", query="client_id=billing"), "400 invalid_request"),
        (replace(GOOD, body=b"grant_type=x"), "401 invalid_client"),
        (replace(GOOD, body=b""), "401 invalid_client"),
        (replace(GOOD, body=b"client_id="), "401 invalid_client"),
        (replace(GOOD, body=b"client_id"), "401 invalid_client"),
        (replace(GOOD, body=b"Client_ID=billing"), "401 invalid_client"),
        (replace(GOOD, body=b"client_id=billing;grant_type=x"), "401 invalid_client"),
        (replace(GOOD, headers=[("Authorization", basic("web"))]), "400 invalid_request"),
        (replace(GOOD, headers=[("Authorization", basic("billing"))] * 2), "400 invalid_request"),
        (replace(GOOD, body=b"", headers=[("Authorization", basic("web"))] * 2), "400 invalid_request"),
    ):
        assert error(send(gateway, LAYERS, post)) == expected, post
    assert send(gateway, LAYERS, replace(GOOD, query="tenant=a&x")).client is CLIENTS["billing"]


@both_gateways
@pytest.mark.case("143")
def test_a_body_that_is_not_a_utf_8_form_is_rejected(gateway: str) -> None:
    utf_16 = "client_id=billing".encode("utf-16")
    multipart = b'--x\r\nContent-Disposition: form-data; name="client_id"\r\n\r\nbilling\r\n--x--\r\n'
    for body, content_type in (
        (utf_16, f"{FORM}; charset=utf-16"),
        (b"client_id=billing", f"{FORM}; charset=utf-16"),
        (utf_16, FORM),
        (multipart, "multipart/form-data; boundary=x"),
        (b'{"client_id": "billing"}', "application/json"),
        (b"client_id=billing", "text/plain"),
        (b"client_id=billing", None),
        (b"client_id=billing", ""),
        (b"client_id=billing", f"{FORM}, application/json"),
        (b"client_id=billing", f"{FORM}; charset=utf-8; charset=utf-16"),
        (b"client_id=b\xffilling", FORM),
        (b"client_id=b%ffilling", FORM),
        (b"&".join(b"a=b" for _ in range(201)), FORM),
    ):
        post = replace(GOOD, body=body, content_type=content_type)
        assert error(send(gateway, LAYERS, post)) == "400 invalid_request", (body[:40], content_type)
    for content_type in (f"{FORM};charset=UTF-8", f'{FORM}; charset="utf-8"', FORM.upper(), f" {FORM} ; charset=utf-8"):
        assert send(gateway, LAYERS, replace(GOOD, content_type=content_type)).client is CLIENTS["billing"]


# --- the body ---


def padded(length: int) -> Post:
    start = b"client_id=billing&pad="
    return replace(GOOD, body=start + b"x" * (length - len(start)))


@both_gateways
@pytest.mark.case("143")
def test_a_body_is_read_up_to_a_limit(gateway: str) -> None:
    outcome = send(gateway, LAYERS, padded(MAX_BODY))
    assert outcome.client is CLIENTS["billing"]
    assert outcome.bodies == [padded(MAX_BODY).octets, b""]
    for length in (MAX_BODY + 1, 10_000_000):
        assert error(send(gateway, LAYERS, padded(length))) == "413 invalid_request"


class Counting(io.BytesIO):
    """An input that tells how much was taken from it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.case("143")
def test_no_more_than_the_limit_is_taken_in() -> None:
    source = Counting(padded(10_000_000).octets)
    outcome = send_wsgi(LAYERS, GOOD, **{"wsgi.input": source, "CONTENT_LENGTH": "10000000"})
    assert error(outcome) == "413 invalid_request"
    assert source.taken == 0
    chunked = {"wsgi.input": source, "wsgi.input_terminated": True}
    assert error(send_wsgi(LAYERS, GOOD, without=["CONTENT_LENGTH"], **chunked)) == "413 invalid_request"
    assert source.taken <= MAX_BODY + 1


@pytest.mark.case("143")
def test_wsgi_chunked_body_is_read_where_the_server_ends_it() -> None:
    for length in ({}, {"CONTENT_LENGTH": ""}):
        outcome = send_wsgi(LAYERS, GOOD, without=["CONTENT_LENGTH"], **{"wsgi.input_terminated": True}, **length)
        assert outcome.client is CLIENTS["billing"]
        assert outcome.bodies == [GOOD.octets, b""]


@pytest.mark.case("143")
def test_wsgi_body_without_length_or_end_is_none() -> None:
    """Reading it could wait for ever (PEP 3333)."""

    class Waiting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            pytest.fail("read")

    outcome = send_wsgi(LAYERS, GOOD, without=["CONTENT_LENGTH"], **{"wsgi.input": Waiting()})
    assert error(outcome) == "401 invalid_client"


@pytest.mark.case("143")
@pytest.mark.parametrize("length", ["-1", "+5", "5.0", "abc", "0x5", " 5", "5,5", "\u0665", "1e2", "-"])
def test_a_wsgi_content_length_that_is_not_a_number_is_rejected(length: str) -> None:
    assert error(send_wsgi(LAYERS, GOOD, CONTENT_LENGTH=length)) == "400 invalid_request"


@pytest.mark.case("143")
def test_wsgi_lengths_that_lie() -> None:
    whole = len(GOOD.octets)
    assert error(send_wsgi(LAYERS, GOOD, CONTENT_LENGTH=str(whole + 1))) == "400 invalid_request"
    assert error(send_wsgi(LAYERS, GOOD, CONTENT_LENGTH="9" * 5000)) == "413 invalid_request"
    shorter = send_wsgi(LAYERS, GOOD, CONTENT_LENGTH=str(len("client_id=billing")))
    assert shorter.bodies == [b"client_id=billing", b""]  # what we decided on is what the application gets


@pytest.mark.case("143")
@pytest.mark.parametrize("raised", [OSError, ConnectionResetError, TimeoutError])
def test_wsgi_input_that_breaks_off_is_the_clients_doing(raised: type[OSError]) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise raised
            return super().read(5)

    assert error(send_wsgi(LAYERS, GOOD, **{"wsgi.input": Broken(GOOD.octets)})) == "400 invalid_request"


def test_wsgi_input_may_come_in_pieces() -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(1)

    outcome = send_wsgi(LAYERS, GOOD, **{"wsgi.input": Dripping(GOOD.octets)})
    assert outcome.client is CLIENTS["billing"]
    assert outcome.bodies == [GOOD.octets, b""]


@pytest.mark.case("143")
def test_asgi_body_may_come_in_many_messages() -> None:
    single = [bytes([each]) for each in GOOD.octets]
    for sent in (messages(*single), messages(b"", GOOD.octets, b""), [{"type": "http.request", "body": GOOD.octets}]):
        outcome = send_asgi(LAYERS, GOOD, sent)
        assert outcome.client is CLIENTS["billing"]
        assert outcome.bodies == [GOOD.octets, b""]


@pytest.mark.case("143")
def test_asgi_client_that_goes_away_is_not_taken_for_a_short_body() -> None:
    cut = [{"type": "http.request", "body": b"client_id=billing", "more_body": True}, {"type": "http.disconnect"}]
    for sent in (cut, cut[1:]):
        assert error(send_asgi(LAYERS, GOOD, sent)) == "400 invalid_request"


@pytest.mark.case("143")
def test_asgi_body_without_end_is_cut_off() -> None:
    endless = messages(*[b"x" * 1000] * 10_000)
    assert error(send_asgi(LAYERS, GOOD, endless)) == "413 invalid_request"


class Late(io.BytesIO):
    """A body that takes as many seconds as it has octets."""

    def __init__(self, octets: bytes, seconds: float, clock: Clock) -> None:
        super().__init__(octets)
        self._seconds, self._clock = seconds / len(octets), clock

    def read(self, _size: int | None = -1, /) -> bytes:
        found = super().read(1)
        self._clock.now += self._seconds * len(found)
        return found

    def messages(self) -> Iterator[dict[str, Any]]:
        while found := self.read():
            yield {"type": "http.request", "body": found, "more_body": True}
        yield {"type": "http.request"}


@both_gateways
@pytest.mark.parametrize(("seconds", "stored", "expected"), [
    (50, False, "200"), (50, True, "200"), (70, False, "400 invalid_request"), (70, True, "400 invalid_request"),
])  # fmt: skip
def test_slow_body_does_not_outlive_the_certificate(
    gateway: str, seconds: float, stored: bool, expected: str, clock: Clock
) -> None:
    """A client cannot keep requests for the time after its certificate has expired."""
    authenticator = ClientAuthenticator(CLIENTS, trust_store=TrustStore([CA.certificate])) if stored else AUTHENTICATOR
    late = Late(GOOD.octets, seconds, clock)
    if gateway == "wsgi":
        outcome = send_wsgi(layers(authenticator), GOOD, **{"wsgi.input": late})
    else:
        outcome = send_asgi(layers(authenticator), GOOD, late.messages())
    assert ("200" if outcome.reached else error(outcome)) == expected


@both_gateways
def test_trust_store_validates_when_the_body_is_complete(gateway: str, clock: Clock) -> None:
    ends = datetime.fromtimestamp(clock.now - 30, UTC)  # within the tolerance of a minute, for half a minute more
    post = replace(GOOD, certificate=CA.issue("CN=billing", dns=["billing.internal"], not_after=ends))
    authenticator = ClientAuthenticator(CLIENTS, trust_store=TrustStore([CA.certificate]))
    for seconds, expected in ((20, "200"), (40, "401 invalid_client")):
        begun, late = clock.now, Late(GOOD.octets, seconds, clock)
        if gateway == "wsgi":
            outcome = send_wsgi(layers(authenticator), post, **{"wsgi.input": late})
        else:
            outcome = send_asgi(layers(authenticator), post, late.messages())
        assert ("200" if outcome.reached else error(outcome)) == expected
        clock.now = begun


@both_gateways
def test_bodies_of_other_paths_are_not_touched(gateway: str) -> None:
    """No limit, no form: it is the application's."""
    post = Post(body=b"\xff" * 100_000, content_type="application/octet-stream", path="/upload", certificate=BILLING)
    outcome = send(gateway, LAYERS, post)
    assert outcome.bodies == [post.octets, b""]
    assert outcome.client is None
