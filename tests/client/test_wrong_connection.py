"""Attempts to send a token over a connection that is not meant for it: another server, name, certificate or scheme."""

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from mtls_middleware.client import (
    AsyncCertificateTransport,
    CertificateFiles,
    CredentialsNotSent,
)
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.testing import CertificateAuthority
from tests.client.conftest import World
from tests.client.http2_server import HTTP2Server
from tests.client.servers import Received, Server

BOTH = pytest.mark.parametrize("way", ["sync", "async"])
AT_EACH_CALL = pytest.mark.usefixtures("at_each_call")


def send(world: World, way: str, url: str, **options: Any) -> httpx2.Response:
    """Send one request with a token and these options of `request`."""
    auth = world.auth()
    if way == "sync":
        with world.client(auth) as client:
            return client.get(url, **options)

    async def run() -> httpx2.Response:
        async with world.async_client(auth) as client:
            return await client.get(url, **options)

    return asyncio.run(run())


@BOTH
@pytest.mark.parametrize("name", ["other.example", b"other.example", "127.0.0.2"])
def test_no_other_name_is_verified_than_that_of_the_url(world: World, way: str, name: Any) -> None:
    with Server(world.authority, "other.example") as other:
        with pytest.raises(ConfigurationError, match="sni_hostname"):
            send(world, way, other.host, extensions={"sni_hostname": name})
        assert not other.received


def test_a_connection_with_another_name_is_not_opened_for_later_requests(world: World) -> None:
    """httpcore2 would reuse it for the same host and port, whatever name TLS has verified."""
    with Server(world.authority, "other.example") as other, world.client() as client:
        with pytest.raises(ConfigurationError, match="sni_hostname"):
            client.get(other.host, extensions={"sni_hostname": "other.example"})
        with pytest.raises(httpx2.ConnectError):
            client.get(other.host, auth=world.auth())
        assert not other.received


@BOTH
def test_the_name_of_the_url_itself_may_be_given(world: World, way: str) -> None:
    assert send(world, way, "/", extensions={"sni_hostname": "127.0.0.1"}).status_code == 200


@BOTH
def test_a_client_with_verify_false_verifies_nevertheless(world: World, way: str) -> None:
    with Server(CertificateAuthority("CN=Other CA")) as other:
        with pytest.raises(httpx2.ConnectError):
            world.get(way, world.auth(), url=other.host, verify=False)
        assert not other.received


@BOTH
@pytest.mark.parametrize("scheme", ["http", "ws", "wss", "ftp", "HTTP"])
def test_no_other_scheme_gets_the_token(world: World, way: str, scheme: str) -> None:
    with pytest.raises(CredentialsNotSent, match="only over https"):
        send(world, way, world.api.host.replace("https", scheme))
    assert not world.api.received


@BOTH
@pytest.mark.parametrize("route", ["mounts", "proxy"])
def test_another_transport_of_the_client_gets_no_token(world: World, way: str, route: str) -> None:
    """httpx2 prefers the transports of `mounts` and `proxy` to `transport`."""
    context = world.files.current().ssl_context(world.roots)
    kind: Any = httpx2.HTTPTransport if way == "sync" else httpx2.AsyncHTTPTransport
    with Server(world.authority) as other:
        if route == "mounts":
            expected: type[Exception] = ConfigurationError
            options: dict[str, Any] = {"mounts": {"https://": kind(verify=context)}}
        else:
            expected, options = httpx2.ProxyError, {"proxy": httpx2.Proxy(other.host, ssl_context=context)}
        with pytest.raises(expected):
            world.get(way, world.auth(), **options)
        received = [*other.received, *world.api.received]
    assert [each.token for each in received] in ([], [None])


@BOTH
@pytest.mark.parametrize("change", ["host", "scheme", "path", "port"])
def test_a_hook_that_changes_the_url_gets_no_token_sent(world: World, way: str, change: str) -> None:
    with Server(world.authority) as other:
        port = httpx2.URL(other.host).port
        changes: dict[str, Any] = {
            "host": {"host": "localhost"},
            "scheme": {"scheme": "http"},
            "path": {"path": "/elsewhere"},
            "port": {"port": port},
        }

        def redirect(request: httpx2.Request) -> None:
            request.url = request.url.copy_with(**changes[change])

        async def redirect_async(request: httpx2.Request) -> None:
            redirect(request)

        hooks = {"request": [redirect if way == "sync" else redirect_async]}
        with pytest.raises(CredentialsNotSent):
            world.get(way, world.auth(), event_hooks=hooks)
        assert not other.received
        assert not world.api.received


@BOTH
def test_a_redirect_to_the_same_url_is_the_same_server(world: World, way: str) -> None:
    """This is the only redirect that gets the token: the same URL, over a connection of the same certificate."""
    world.api.respond = lambda received: (302, {"Location": "/"}, b"")
    with pytest.raises(httpx2.TooManyRedirects):
        world.get(way, world.auth(), follow_redirects=True, max_redirects=2)
    assert {(each.path, each.token_thumbprint == each.thumbprint) for each in world.api.received} == {("/", True)}


@BOTH
@pytest.mark.parametrize(
    "location",
    [
        "//{host}/",
        "https:{host}/",
        "https:/{host}/",
        "https://127.0.0.1:1@{host}/",
        "/\\{host}/",
        "?next=1",
        "#part",
        "./x",
    ],
)
def test_no_form_of_location_gets_the_token(world: World, way: str, location: str) -> None:
    with Server(world.authority) as other:
        target = location.format(host=other.host.removeprefix("https://"))
        world.api.respond = lambda received: (307, {"Location": target}, b"")
        with pytest.raises((CredentialsNotSent, httpx2.RequestError)):
            world.get(way, world.auth(), follow_redirects=True)
        assert not [each for each in other.received if each.token]
        assert len([each for each in world.api.received if each.token]) == 1


@AT_EACH_CALL
@BOTH
def test_a_renewal_during_the_token_request_keeps_the_old_pair(world: World, way: str) -> None:
    def renewed(received: Received) -> tuple[int, dict[str, str], Any]:
        if received.path == "/token":
            world.renew()
        return world.server.accept(received)

    world.server.respond = renewed
    (response,) = world.get(way, world.auth())
    assert response.status_code == 200
    (received,) = world.api.received
    assert received.token_thumbprint == received.thumbprint != world.files.current().thumbprint


@AT_EACH_CALL
@BOTH
def test_a_renewal_before_the_repetition_uses_the_new_pair(world: World, way: str) -> None:
    auth = world.auth()

    def reject_and_renew(received: Received) -> tuple[int, dict[str, str], Any]:
        world.api.respond = world.api.accept
        world.renew()
        return 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}, b""

    world.api.respond = reject_and_renew
    (response,) = world.get(way, auth)
    assert response.status_code == 200
    first, second = world.api.received
    assert first.thumbprint != second.thumbprint == world.files.current().thumbprint
    assert all(each.token_thumbprint == each.thumbprint for each in (first, second))


@AT_EACH_CALL
def test_a_renewal_back_to_old_files_uses_the_old_token_with_them(world: World) -> None:
    auth, old = world.auth(), [(world.directory / name).read_bytes() for name in ("client.pem", "client-key.pem")]
    with world.client(auth) as client:
        client.get("/")
        world.renew()
        client.get("/")
        for name, content in zip(("client.pem", "client-key.pem"), old, strict=True):
            (world.directory / name).write_bytes(content)
        client.get("/")
    thumbprints = [each.thumbprint for each in world.api.received]
    assert thumbprints[0] == thumbprints[2] != thumbprints[1]
    assert all(each.token_thumbprint == each.thumbprint for each in world.api.received)


@AT_EACH_CALL
def test_a_request_that_is_sent_again_gets_a_token_only_by_authentication(world: World) -> None:
    with world.client(world.auth()) as client:
        request = client.get("/").request
        world.renew()
        with pytest.raises(CredentialsNotSent, match="sent again without CertificateBoundAuth"):
            client.send(request, auth=None)
        assert client.send(request).status_code == 200
    first, second = world.api.received
    assert first.thumbprint != second.thumbprint == second.token_thumbprint


@BOTH
def test_clients_with_two_certificates_share_no_connection_and_no_token(world: World, way: str, tmp_path: Path) -> None:
    world.authority.issue("CN=other").write(tmp_path, name="other")
    other = CertificateFiles(tmp_path / "other.pem", tmp_path / "other-key.pem")
    auths = [world.auth(), world.auth(certificate=other)]

    async def run() -> None:
        async with world.async_client() as client:
            await asyncio.gather(*(client.get("/", auth=auths[number % 2]) for number in range(10)))

    if way == "async":
        asyncio.run(run())
    else:
        with world.client() as client:
            for number in range(10):
                client.get("/", auth=auths[number % 2])
    assert {each.thumbprint for each in world.api.received} == {
        world.files.current().thumbprint,
        other.current().thumbprint,
    }
    assert all(each.token_thumbprint == each.thumbprint for each in world.api.received)


@BOTH
def test_a_forked_child_opens_a_connection_of_its_own(world: World, way: str) -> None:
    """With the connection of its parent, the child could read the response to a request of the parent."""

    def in_child(send: Callable[[], httpx2.Response]) -> None:
        child = os.fork()
        if child == 0:
            status = 0
            with contextlib.suppress(BaseException):
                status = send().status_code
            os._exit(0 if status == 200 else 1)
        assert os.waitpid(child, 0)[1] == 0

    if way == "sync":
        with world.client() as client:
            world.api.respond = lambda received: (200, {}, {})
            client.get("/")
            in_child(lambda: client.get("/"))
            client.get("/")
    else:
        transport = AsyncCertificateTransport(world.files, roots=world.roots)
        world.api.respond = lambda received: (200, {}, {})

        async def send() -> httpx2.Response:
            return await httpx2.AsyncClient(transport=transport).get(world.api.host)

        with asyncio.Runner() as runner:
            runner.run(send())
            in_child(lambda: asyncio.run(send()))
            runner.run(send())
            runner.run(transport.aclose())
    first, child, last = (each.connection for each in world.api.received)
    assert first == last != child


@AT_EACH_CALL
@pytest.mark.parametrize("http2", [False, True])
def test_tokens_stay_with_their_certificate_under_load(world: World, http2: bool) -> None:
    """Renewals and rejected tokens during many requests."""
    auth, chance = world.auth(), random.Random(7)

    async def run(url: str) -> None:
        transport = AsyncCertificateTransport(world.files, roots=world.roots, http2=http2)
        async with httpx2.AsyncClient(transport=transport, timeout=20) as client:
            for _ in range(12):
                tasks = [asyncio.create_task(client.get(url, auth=auth)) for _ in range(10)]
                await asyncio.sleep(chance.random() / 50)
                world.renew()
                if world.api.received:
                    world.api.revoked.add(world.api.received[-1].token or "")
                await asyncio.gather(*tasks)
            assert len(transport._pools._pools) == 1
            assert transport._pools._pools[0].responses == 0

    with HTTP2Server(world.authority) as second:
        asyncio.run(run(second.host if http2 else world.api.host))
        pairs = (
            [(thumbprint, fields["authorization"].removeprefix("Bearer ")) for thumbprint, fields in second.received]
            if http2
            else [(each.thumbprint, each.token) for each in world.api.received]
        )
    assert len({thumbprint for thumbprint, _ in pairs}) > 3
    for thumbprint, token in pairs:
        assert jwt.decode(token or "", options={"verify_signature": False})["cnf"]["x5t#S256"] == thumbprint
