"""A self-signed client's certificates behind its `jwks_uri`, from a real server: when it is asked, and how often."""

import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware import RegisteredClient
from mtls_middleware.effects.remote_document import COOL_DOWN
from mtls_middleware.errors import Unavailable
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator
from tests.key_server import KeyServer, answer, die, raw
from tests.token_endpoint.roles import (
    SELF_SIGNED,
    Ask,
    authentication_result,
    jwk,
    jwks,
    own_certificates,
    presented,
    refused,
)

OLD, NEW, STRANGER = self_signed("CN=edge"), self_signed("CN=edge"), self_signed("CN=edge")
NOW = time.time()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer(jwks(OLD)) as running:
        yield running


def trusting(server: KeyServer, **options: Any) -> ClientAuthenticator:
    """An authenticator that fetches from loopback, as tests must."""
    chosen = {"allow_http": True, "allow_private": True, **options}
    return ClientAuthenticator({"edge": own_certificates(jwks_uri=server.url)}, **chosen)


def edge(ask: Ask, authenticator: ClientAuthenticator, certificate: Any, *, after: float = 0) -> bool:
    """Whether `edge` is let in so many seconds after the first request."""
    try:
        return ask(authenticator, presented(certificate), client_id="edge", now=NOW + after) is not None
    except Unavailable:
        raise
    except Exception as error:
        if getattr(error, "code", None) != "invalid_client":
            raise
        return False


@pytest.mark.standard("B11", "B12")
@pytest.mark.case("136")
def test_certificates_are_fetched_once_and_remembered(ask: Ask, server: KeyServer) -> None:
    authenticator = trusting(server)
    assert server.requests == 0
    assert all(edge(ask, authenticator, OLD, after=each) for each in range(0, 60, 10))
    assert server.requests == 1


@pytest.mark.standard("B11")
def test_a_new_certificate_is_found_by_one_look_more(ask: Ask, server: KeyServer) -> None:
    authenticator = trusting(server)
    assert edge(ask, authenticator, OLD)
    server.jwks = jwks(NEW)
    assert edge(ask, authenticator, NEW, after=COOL_DOWN)
    assert server.requests == 2
    assert not edge(ask, authenticator, OLD, after=COOL_DOWN + 1)  # withdrawn with the rotation
    assert server.requests == 2


@pytest.mark.case("139")
def test_a_flood_of_wrong_certificates_costs_one_look_per_cool_down(ask: Ask, server: KeyServer) -> None:
    authenticator = trusting(server)
    assert not any(edge(ask, authenticator, STRANGER, after=each) for each in range(30))
    assert server.requests == 1  # the first look, and none more within its cool-down
    assert not any(edge(ask, authenticator, STRANGER, after=COOL_DOWN + each) for each in range(29))
    assert server.requests == 2
    assert edge(ask, authenticator, OLD, after=COOL_DOWN + 29)
    assert server.requests == 2


def test_a_certificate_without_client_costs_no_look(ask: Ask, server: KeyServer) -> None:
    authenticator = trusting(server)
    with refused():
        ask(authenticator, STRANGER, client_id="nobody")
    with refused():
        ask(authenticator, None, client_id="edge")
    with refused("invalid_request"):
        ask(authenticator, OLD, client_id="edge", form=[("client_secret", "x")])
    assert server.requests == 0


def test_clients_that_share_an_address_share_its_answer(ask: Ask, server: KeyServer) -> None:
    clients = {name: own_certificates(client_id=name, jwks_uri=server.url) for name in ("edge", "edge2")}
    authenticator = ClientAuthenticator(clients, allow_http=True, allow_private=True)
    for name, client in clients.items():
        assert ask(authenticator, presented(OLD), client_id=name, now=NOW) is client
    assert server.requests == 1


def test_an_outage_is_503_at_first_and_nothing_afterwards(ask: Ask, server: KeyServer) -> None:
    server.behaviour = die
    authenticator = trusting(server)
    with pytest.raises(Unavailable) as down:
        edge(ask, authenticator, OLD)
    assert 1 <= down.value.retry_after <= COOL_DOWN
    server.behaviour = None
    assert edge(ask, authenticator, OLD, after=COOL_DOWN)
    server.behaviour = die
    assert edge(ask, authenticator, OLD, after=1200)  # old, and better than nothing for an hour
    with pytest.raises(Unavailable):
        edge(ask, authenticator, OLD, after=6000)


USELESS = {
    "status 404": answer(404),
    "status 500": answer(500),
    "a redirect": answer(302, b"", Location="/elsewhere"),
    "HTML": answer(200, b"<html>", "text/html"),
    "no JSON": answer(200, b"{"),
    "no key set": answer(200, b'{"key": []}'),
    "a list": answer(200, b"[]"),
    "no UTF-8": answer(200, b'{"keys": ["\xff"]}'),
    "nested": answer(200, b"[" * 100_000),
    "too large": answer(200, b" " * 300_000),
    "cut short": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"keys": []}'),
    "no HTTP": raw(b"garbage\r\n\r\n"),
    "a bomb": answer(200, b"\x1f\x8b" + b"\0" * 100, **{"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("behaviour", USELESS.values(), ids=USELESS)
def test_an_unusable_jwks_response_admits_no_client(ask: Ask, server: KeyServer, behaviour: Any) -> None:
    server.behaviour = behaviour
    with pytest.raises(Unavailable):
        edge(ask, trusting(server), OLD)
    assert server.requests == 1


def test_an_empty_key_set_is_an_answer(ask: Ask, server: KeyServer) -> None:
    """The client has withdrawn all of its certificates."""
    server.jwks = {"keys": []}
    assert not edge(ask, trusting(server), OLD)


@pytest.mark.standard("B12", "B13", "B14")
@pytest.mark.case("139")
def test_entries_behind_an_address_are_held_to_the_same_rules(ask: Ask, server: KeyServer) -> None:
    server.jwks = {"keys": [jwk(STRANGER, x5c=jwk(OLD)["x5c"]), jwk(STRANGER, x5c=None), 7, jwk(OLD)]}
    authenticator = trusting(server)
    assert not edge(ask, authenticator, STRANGER)
    assert edge(ask, authenticator, OLD)


@pytest.mark.standard("P5")
def test_public_keys_can_be_compared_behind_an_address_too(ask: Ask, server: KeyServer) -> None:
    authenticator = trusting(server, match="public_key")
    assert edge(ask, authenticator, self_signed("CN=renewed", key=OLD.key))
    assert not edge(ask, authenticator, STRANGER)


# --- which addresses ---


@pytest.mark.standard("C10")
def test_plain_http_is_refused_without_the_switch(ask: Ask, server: KeyServer) -> None:
    authenticator = trusting(server, allow_http=False)
    assert not edge(ask, authenticator, OLD)
    assert server.requests == 0


def test_loopback_is_refused_without_the_switch(ask: Ask, server: KeyServer) -> None:
    for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
        client = own_certificates(jwks_uri=url)
        authenticator = ClientAuthenticator({"edge": client}, allow_http=True)
        with pytest.raises(Unavailable):
            edge(ask, authenticator, OLD)
    assert server.requests == 0


@pytest.mark.standard("C10")
def test_the_server_is_verified(ask: Ask) -> None:
    authority, other = CertificateAuthority(), CertificateAuthority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with KeyServer(jwks(OLD), tls=_serving(context, authority)) as server:
        trusted = trusting(server, allow_http=False, ssl_context=authority.client_context())
        assert edge(ask, trusted, OLD)
        for wrong in (other.client_context(), None):
            with pytest.raises(Unavailable):
                edge(ask, trusting(server, allow_http=False, ssl_context=wrong), OLD)


def _serving(context: ssl.SSLContext, authority: CertificateAuthority) -> ssl.SSLContext:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        context.load_cert_chain(*authority.server().write(directory))
    return context


def test_clients_with_hopeless_addresses_are_refused_and_break_nothing(ask: Ask) -> None:
    """Registered by anybody: names that IDNA refuses, addresses that lead to ourselves."""
    for url in (
        f"https://{'a' * 70}.example/jwks",
        "https://a..example/jwks",
        "https://.example/jwks",
        "https://2130706433/jwks",
        "https://0x7f.1/jwks",
        "https://[::1]/jwks",
        "https://[::ffff:169.254.169.254]/jwks",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/jwks",
    ):
        client = RegisteredClient(client_id="edge", token_endpoint_auth_method=SELF_SIGNED, jwks_uri=url)
        with pytest.raises(Unavailable):
            edge(ask, ClientAuthenticator({"edge": client}), OLD)


def test_many_clients_with_addresses_share_one_tls_context() -> None:
    """A context holds every CA of the system: one for each client would be megabytes each."""
    urls = [f"https://[::1]:{port}/jwks" for port in range(1, 6)]
    clients = {url: own_certificates(client_id=url, jwks_uri=url) for url in urls}
    authenticator = ClientAuthenticator(clients)
    for url in urls:
        with pytest.raises(Unavailable):
            authentication_result(authenticator, OLD, client_id=url)
    contexts = {id(document._tls) for url in urls if (document := authenticator._key_sets.get(url))}
    assert len(contexts) == 1
