"""Attacks on the client: by a document, a token endpoint, a resource server, or a server that is slow or verbose."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from mtls_middleware.client import CertificateTransport, CredentialsNotSent, TokenError, TokenNotBound
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.testing import CertificateAuthority
from tests.client.conftest import World
from tests.client.servers import Received, Server

BOTH = pytest.mark.parametrize("way", ["sync", "async"])


def other_host(world: World) -> str:
    return world.server.host.replace("127.0.0.1", "localhost")


@BOTH
@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"issuer": ["https://127.0.0.1"]},
        {"token_endpoint": None},
        {"token_endpoint": "http://127.0.0.1/token"},
        {"token_endpoint": "https://user@127.0.0.1/token"},
        {"token_endpoint": "https://127.0.0.1.other.example/token"},
        {"mtls_endpoint_aliases": {"token_endpoint": "http://127.0.0.1/token"}},
        {"mtls_endpoint_aliases": {"token_endpoint": "https://mtls.example/token"}},
        {"mtls_endpoint_aliases": {"token_endpoint": ["https://127.0.0.1/token"]}},
        {"token_endpoint_auth_methods_supported": ["client_secret_basic"]},
        {"token_endpoint_auth_methods_supported": "tls_client_auth"},
    ],
)
def test_a_metadata_document_is_rejected(world: World, way: str, document: dict[str, Any]) -> None:
    world.server.document = document
    with pytest.raises(TokenError) as caught:
        world.get(way, world.auth())
    assert caught.value.code == "unavailable"
    assert not world.server.token_requests
    assert not world.api.received


def test_the_issuer_must_match_exactly(world: World) -> None:
    with pytest.raises(TokenError):
        world.get("sync", world.auth(issuer=f"{world.server.issuer}/"))


def test_an_alias_on_another_host_must_be_allowed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.server.document = {"mtls_endpoint_aliases": {"token_endpoint": f"{other_host(world)}/token"}}
    with pytest.raises(TokenError):
        world.get("sync", world.auth())
    assert "if this is correct, give token_hosts=['localhost']" in caplog.text
    assert world.get("sync", world.auth(token_hosts=["LOCALHOST"]))[0].status_code == 200


def test_an_alias_on_a_subdomain_of_the_issuer_is_accepted(world: World) -> None:
    from mtls_middleware.client.server_metadata import read_metadata

    body = b'{"issuer": "https://as.example", "token_endpoint": "https://%s/token"}'
    for host in (b"as.example", b"MTLS.AS.example", b"as.example:8443", b"as.example."):
        read_metadata(body % host, "https://as.example", "tls_client_auth", ())
    for host in (
        b"evil-as.example",
        b"example",
        b"as.example.evil",
        b"as.example@evil.example",
        b"evil\\\\.as.example",
    ):
        with pytest.raises(ValueError, match=r"its token.endpoint is"):
            read_metadata(body % host, "https://as.example", "tls_client_auth", ())


@BOTH
@pytest.mark.parametrize(
    "claims",
    [
        {"cnf": None},
        {"cnf": {}},
        {"cnf": "x5t#S256"},
        {"cnf": {"x5t#S256": "A" * 43}},
        {"cnf": {"x5t#S256": 1}},
        {"cnf": {"jkt": "A" * 43}},
    ],
)
def test_a_token_that_is_not_bound_to_the_certificate_is_not_used(
    world: World, way: str, claims: dict[str, Any]
) -> None:
    world.server.claims = claims
    with pytest.raises(TokenNotBound):
        world.get(way, world.auth())
    assert not world.api.received


def part(members: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "change", [lambda text: f"~~~~{text}", lambda text: f"{text}~~~~", lambda text: f"{text[:-1]}B"]
)
def test_a_jwt_that_only_lenient_parsers_read_is_not_used(world: World, change: Callable[[str], str]) -> None:
    """Lenient parsers ignore pad bits and characters that are not base64url."""
    claims = json.dumps({"cnf": {"x5t#S256": world.files.current().thumbprint}}).encode()
    claims += b" " * (3 - (len(claims) + 2) % 3)  # so that the last character has pad bits
    payload = change(base64.urlsafe_b64encode(claims).rstrip(b"=").decode())
    assert base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)) == claims
    world.server.response = {"access_token": f"{part({'alg': 'ES256'})}.{payload}.c2ln"}
    with pytest.raises(TokenNotBound):
        world.get("sync", world.auth())
    assert not world.api.received


@pytest.mark.parametrize("claims", [b'{"cnf": {}, "cnf": {"x5t#S256": "A"}}', b"[]", b'{"cnf"', b"\xff"])
def test_a_jwt_whose_claims_have_two_readings_is_not_used(world: World, claims: bytes) -> None:
    payload = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    world.server.response = {"access_token": f"{part({'alg': 'ES256'})}.{payload}.c2ln"}
    with pytest.raises(TokenNotBound, match="the claims of the JWT cannot be read"):
        world.get("sync", world.auth())
    assert not world.api.received


@pytest.mark.parametrize("flag", [None, False, "true"])
def test_an_opaque_token_needs_a_server_that_says_that_it_binds_tokens(world: World, flag: object) -> None:
    world.server.response = {"access_token": "opaque"}
    world.api.respond = lambda received: (200, {}, {})
    world.get("sync", world.auth())
    assert world.api.received[0].token == "opaque"
    world.server.document = {"tls_client_certificate_bound_access_tokens": flag}
    with pytest.raises(TokenNotBound, match="tls_client_certificate_bound_access_tokens"):
        world.get("sync", world.auth())


@BOTH
@pytest.mark.parametrize(
    "response",
    [
        {"token_type": "DPoP"},
        {"token_type": "mac"},
        {"token_type": None},
        {"token_type": ["Bearer"]},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "a\r\nHost: evil.example"},
        {"access_token": "a b"},
        {"access_token": "é"},
        {"access_token": "a" * 20_000},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": True},
        {"expires_in": "soon"},
        {"expires_in": float("nan")},
    ],
)
def test_a_response_that_is_not_a_bearer_token_is_rejected(world: World, way: str, response: dict[str, Any]) -> None:
    world.server.response = response
    with pytest.raises(TokenError) as caught:
        world.get(way, world.auth())
    assert caught.value.code == "invalid_response"
    assert not world.api.received


@pytest.mark.parametrize("expires_in", [b"1e999", b"1" + b"0" * 400, b'"999999999"'])
def test_a_token_is_renewed_after_a_day_at_most(
    world: World, expires_in: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(received: Received) -> tuple[int, dict[str, str], Any]:
        status, headers, content = world.server.accept(received)
        return (
            status,
            headers,
            json.dumps(content).encode().replace(b"300", expires_in),
        )

    world.server.respond = respond
    auth = world.auth()
    world.get("sync", auth)
    now = time.time()
    monkeypatch.setattr("mtls_middleware.client.auth.time.time", lambda: now + 86_400)
    world.get("sync", auth)
    assert len(world.server.token_requests) == 2


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"", "invalid_response"),
        (200, b"<html>", "invalid_response"),
        (200, b"[]", "invalid_response"),
        (200, b"[" * 60_000, "invalid_response"),
        (200, b'{"access_token": "a", "access_token": "b", "token_type": "Bearer"}', "invalid_response"),
        (200, b"\xff\xfe", "invalid_response"),
        (200, b'{"x": "%s"}' % (b"a" * 70_000), "unavailable"),
        (204, b"", "rejected"),
        (400, b'{"error": "invalid_grant\\nforged line"}', "rejected"),
        (400, b"garbage", "rejected"),
        (429, b"", "unavailable"),
        (500, b"", "unavailable"),
        (503, b'{"error": "temporarily_unavailable"}', "unavailable"),
    ],
)
def test_garbage_from_the_token_endpoint_is_a_typed_error(
    world: World, status: int, body: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.server.respond = lambda received: (
        (status, {}, body) if received.path == "/token" else world.server.accept(received)
    )
    with pytest.raises(TokenError) as caught:
        world.get("sync", world.auth())
    assert caught.value.code == code
    assert "forged line" not in caplog.text


@BOTH
@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/token"])
def test_a_redirect_of_the_authorization_server_is_not_followed(world: World, way: str, path: str) -> None:
    def respond(received: Received) -> tuple[int, dict[str, str], Any]:
        if received.path == path:
            return 307, {"Location": f"{other_host(world)}/elsewhere"}, b""
        return world.server.accept(received)

    world.server.respond = respond
    with pytest.raises(TokenError):
        world.get(way, world.auth(), follow_redirects=True)
    assert "/elsewhere" not in [each.path for each in world.server.received]


@BOTH
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["same", "other"])
def test_a_redirect_never_gets_the_token(world: World, way: str, status: int, target: str) -> None:
    with Server(world.authority) as other:
        location = f"{other.host if target == 'other' else world.api.host}/elsewhere"
        world.api.respond = lambda received: (
            (status, {"Location": location}, b"") if received.path == "/" else (200, {}, {})
        )
        auth = world.auth()
        assert world.get(way, auth)[0].status_code == status  # httpx2 follows no redirect by default
        with pytest.raises(CredentialsNotSent, match="redirect"):
            world.get(way, auth, follow_redirects=True)
        assert not other.received
        assert {each.path for each in world.api.received} == {"/"}


def test_the_next_request_of_a_redirect_gets_no_token_by_itself(world: World) -> None:
    world.api.respond = lambda received: (302, {"Location": "/elsewhere"}, b"")
    with world.client(world.auth()) as client:
        response = client.get("/")
        assert response.next_request is not None
        with pytest.raises(CredentialsNotSent):
            client.send(response.next_request, auth=None)


def test_a_token_is_not_sent_over_http(world: World) -> None:
    with pytest.raises(CredentialsNotSent, match="only over https"):
        world.get("sync", world.auth(), url=world.api.host.replace("https", "http"))
    assert not world.api.received


def test_extensions_of_a_user_cannot_pass_for_credentials(world: World) -> None:
    with world.client() as client, pytest.raises(CredentialsNotSent):
        client.get("/", extensions={"mtls_middleware": "x"})


@BOTH
def test_a_server_that_another_ca_certified_gets_nothing(world: World, way: str) -> None:
    with Server(CertificateAuthority("CN=Other CA")) as other:
        with pytest.raises(httpx2.ConnectError):
            world.get(way, world.auth(), url=other.host)
        with pytest.raises(TokenError):
            world.get(way, world.auth(issuer=other.host))
        assert not other.received


@pytest.mark.parametrize("roots", [False, True, 0, "", b"x"])
def test_verification_cannot_be_switched_off(world: World, roots: Any) -> None:
    with pytest.raises(ConfigurationError, match="roots="):
        CertificateTransport(world.files, roots=roots)


def test_a_proxy_of_the_environment_is_not_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for way in ("sync", "async"):
        assert world.get(way, world.auth())[0].status_code == 200


@BOTH
@pytest.mark.parametrize("which", ["stall", "drip", "endless"])
def test_a_slow_or_endless_response_ends_within_the_timeout(world: World, way: str, which: str) -> None:
    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        chunk = b"{" if which == "drip" else b" " * 65_536
        try:
            while not handler.owner._released.is_set():
                handler.wfile.write(chunk)
                handler.owner.wait(0.05 if which == "drip" else 0)
        except OSError:
            return

    auth = world.auth(timeout=0.5)
    if which == "stall":
        world.server.stall = 60
    else:
        world.server.behaviour = drip
    begun = time.monotonic()
    with pytest.raises(TokenError) as caught:
        world.get(way, auth)
    assert caught.value.code == "unavailable"
    assert time.monotonic() - begun < 20
