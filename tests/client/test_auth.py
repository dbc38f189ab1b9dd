"""`CertificateBoundAuth`: obtains, caches and renews tokens, the same for sync and async clients."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from mtls_middleware.client import CertificateBoundAuth, CertificateFiles, TokenError
from mtls_middleware.effects import BlockingDriver
from mtls_middleware.errors import ConfigurationError
from tests.client.conftest import World

BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@BOTH
def test_requests_share_one_token_of_their_certificate(world: World, way: str) -> None:
    responses = world.get(way, world.auth(scopes=["read", "write"], resource="https://api.example"), times=3)
    assert [each.status_code for each in responses] == [200, 200, 200]
    (request,) = world.server.token_requests
    assert request.form == {
        "grant_type": "client_credentials",
        "client_id": "billing",
        "scope": "read write",
        "resource": "https://api.example",
    }
    thumbprint = world.files.current().thumbprint
    assert request.thumbprint == thumbprint
    assert {each.thumbprint for each in world.api.received} == {thumbprint}
    # The metadata is public, so the certificate is not presented for it.
    assert world.server.received[0].path == "/.well-known/oauth-authorization-server"
    assert world.server.received[0].thumbprint is None


@BOTH
def test_the_alias_of_the_token_endpoint_is_used(world: World, way: str) -> None:
    world.server.document = {
        "token_endpoint": "https://127.0.0.1:1/token",
        "mtls_endpoint_aliases": {"token_endpoint": f"{world.server.host}/token"},
    }
    assert world.get(way, world.auth())[0].status_code == 200


def test_the_document_of_openid_is_fetched_if_configured(world: World) -> None:
    world.get("sync", world.auth(discovery="openid"))
    assert world.server.received[0].path == "/.well-known/openid-configuration"


@BOTH
def test_an_invalid_token_is_replaced_once(world: World, way: str) -> None:
    auth = world.auth()
    world.get(way, auth)
    world.api.revoked.add(world.api.received[-1].token or "")
    assert world.get(way, auth)[0].status_code == 200
    assert len(world.server.token_requests) == 2

    world.api.respond = lambda received: (401, {"WWW-Authenticate": "Bearer error=invalid_token"}, {})
    before = len(world.api.received)
    assert world.get(way, auth)[0].status_code == 401
    assert len(world.api.received) - before == 2


@pytest.mark.parametrize("challenge", ['Bearer realm="x"', 'Bearer error="insufficient_scope"', ""])
def test_another_rejection_is_not_repeated(world: World, challenge: str) -> None:
    world.api.respond = lambda received: (401, {"WWW-Authenticate": challenge}, {})
    assert world.get("sync", world.auth())[0].status_code == 401
    assert len(world.api.received) == 1


def test_a_streamed_body_is_not_sent_twice_but_the_token_is_dropped(world: World) -> None:
    auth = world.auth()
    world.get("sync", auth)
    world.api.revoked.add(world.api.received[-1].token or "")
    with world.client(auth) as client:
        assert client.post("/", content=iter([b"x"]), headers={"Content-Length": "1"}).status_code == 401
        assert client.post("/", content=b"x").status_code == 200
    assert len(world.server.token_requests) == 2


def test_a_body_in_memory_is_sent_again(world: World) -> None:
    auth = world.auth()
    world.get("sync", auth)
    world.api.revoked.add(world.api.received[-1].token or "")
    with world.client(auth) as client:
        assert client.post("/", json={"a": 1}).status_code == 200


@pytest.mark.parametrize(
    ("expires_in", "leeway", "requests"), [(300, 30, 1), ("300", 30, 1), (None, 30, 1), (1, 30, 2), (301, 300, 2)]
)
def test_a_token_is_renewed_shortly_before_it_expires(
    world: World, monkeypatch: pytest.MonkeyPatch, expires_in: Any, leeway: float, requests: int
) -> None:
    world.server.response = {"expires_in": expires_in}
    auth = world.auth(leeway=leeway)
    world.get("sync", auth)
    now = time.time()
    ahead = 160 if leeway == 300 else 2  # a token is used for half of its lifetime at least
    monkeypatch.setattr("mtls_middleware.client.auth.time.time", lambda: now + ahead)
    world.get("sync", auth)
    assert len(world.server.token_requests) == requests


def test_a_token_is_not_used_after_the_clock_is_set_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = world.auth()
    world.get("sync", auth)
    now = time.time()
    monkeypatch.setattr("mtls_middleware.client.auth.time.time", lambda: now - 3600)
    world.get("sync", auth)
    assert len(world.server.token_requests) == 2


def test_first_requests_of_threads_and_tasks_share_one_token_request(world: World) -> None:
    world.server.stall = 0.2
    auth = world.auth()

    async def tasks() -> list[httpx2.Response]:
        async with world.async_client(auth) as client:
            return await asyncio.gather(*(client.get("/") for _ in range(20)))

    with world.client(auth) as client, ThreadPoolExecutor(20) as threads:
        running = [threads.submit(client.get, "/") for _ in range(10)]
        statuses = [each.status_code for each in asyncio.run(tasks())] + [each.result().status_code for each in running]
    assert statuses == [200] * 30
    assert len(world.server.token_requests) == 1


def test_a_caller_that_waited_for_the_metadata_gets_the_token_of_another(world: World) -> None:
    source, pair = world.auth()._tokens, world.files.current()
    waiting = source.current(pair, time.time())
    begin: Any = next(waiting)  # the exchange for the metadata
    token = BlockingDriver().run(source.current(pair, time.time()))
    begin.fetch.outcome.result(5)
    with pytest.raises(StopIteration) as ended:
        waiting.send(None)
    assert ended.value.value is token


@BOTH
def test_a_rejection_by_the_server_is_a_typed_error(world: World, way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = world.auth()
    world.server.respond = lambda received: (
        world.server.accept(received) if received.path != "/token" else (401, {}, {"error": "invalid_client"})
    )
    with pytest.raises(TokenError, match="status 401; error: invalid_client") as caught:
        world.get(way, auth)
    assert (caught.value.code, caught.value.oauth_error) == ("rejected", "invalid_client")
    assert not world.api.received
    assert "no token for client 'billing'" in caplog.text
    world.server.respond = world.server.accept  # a failure is not cached
    assert world.get(way, auth)[0].status_code == 200


def test_no_token_and_no_key_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = world.auth()
    response = world.get("sync", auth)[0]
    token = world.api.received[-1].token
    assert token is not None
    key = (world.directory / "client-key.pem").read_text().splitlines()[1]
    world.server.response = {"access_token": "not a token: \n"}
    with pytest.raises(TokenError) as caught:
        world.get("sync", world.auth())
    shown = (
        f"{caplog.text}{auth!r}{vars(auth)}{world.files!r}{world.files.current()!r}{response.request!r}{caught.value}"
    )
    shown += repr(response.request.extensions)
    assert token not in shown
    assert key not in shown
    assert "not a token" not in shown


def test_the_transport_must_be_the_one_of_this_library(world: World) -> None:
    context = world.files.current().ssl_context(world.roots)
    client = httpx2.Client(verify=context, auth=world.auth(), trust_env=False)
    with client, pytest.raises(ConfigurationError, match="CertificateTransport"):
        client.get(world.api.host)
    assert [each.token for each in world.api.received] == [None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"issuer": "http://as.example"}, "issuer="),
        ({"issuer": "https://as.example?x=1"}, "without query"),
        ({"client_id": ""}, "client_id="),
        ({"certificate": "c.pem"}, "certificate="),
        ({"scopes": "read"}, "scopes="),
        ({"scopes": ["read write"]}, "one scope"),
        ({"resource": "api"}, "resource="),
        ({"resource": ["https://api.example#x"]}, "resource="),
        ({"method": "client_secret_basic"}, "method="),
        ({"discovery": "oidc"}, "discovery="),
        ({"token_hosts": "as.example"}, "token_hosts="),
        ({"token_hosts": ["https://mtls.as.example"]}, "without scheme and port"),
        ({"token_hosts": ["mtls.as.example:8443"]}, "without scheme and port"),
        ({"roots": False}, "roots="),
        ({"roots": "absent.pem"}, "roots="),
        ({"leeway": 301}, "leeway="),
        ({"proxy": "proxy.internal"}, "proxy: expected"),
        ({"timeout": 0}, "timeout="),
    ],
)
def test_a_wrong_argument_is_named(world: World, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        world.auth(**options)


def test_requests_for_tokens_use_a_proxy_if_it_is_given(world: World) -> None:
    with pytest.raises(TokenError) as caught:
        world.get("sync", world.auth(proxy="http://user:secret@127.0.0.1:1"))
    assert caught.value.code == "unavailable"
    assert "secret" not in str(caught.value)
    assert not world.server.received


def test_a_minimal_configuration_needs_no_server(world: World) -> None:
    files = CertificateFiles(world.directory / "client.pem", world.directory / "client-key.pem")
    CertificateBoundAuth(issuer="https://as.example", client_id="billing", certificate=files)
