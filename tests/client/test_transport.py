"""The transports: one pool for each certificate, and old pools that end with their last response."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from mtls_middleware.client import AsyncCertificateTransport, CertificateFiles, CertificateTransport
from mtls_middleware.errors import ConfigurationError
from tests.client.conftest import World

TRANSPORTS = pytest.mark.parametrize("kind", [CertificateTransport, AsyncCertificateTransport])


def pools(client: httpx2.Client | httpx2.AsyncClient) -> list[Any]:
    return client._transport._pools._pools  # type: ignore[union-attr,no-any-return]  # internal state


@pytest.mark.usefixtures("at_each_call")
def test_new_requests_use_the_new_certificate_and_the_old_pool_is_closed(world: World) -> None:
    first = world.files.current().thumbprint
    with world.client() as client:
        for _ in range(2):
            client.get("/")
        old = pools(client)[0]
        assert len(old.transport._pool.connections) == 1
        second = world.renew().thumbprint
        for _ in range(2):
            client.get("/")
        assert [each.thumbprint for each in world.api.received] == [first, first, second, second]
        assert len(pools(client)) == 1
        assert not old.transport._pool.connections


@pytest.mark.usefixtures("at_each_call")
def test_an_open_response_keeps_its_connection_until_it_is_closed(world: World) -> None:
    world.api.respond = lambda received: (200, {}, b"x" * 10_000_000)
    with world.client() as client, client.stream("GET", "/") as response:
        old = pools(client)[0]
        world.renew()
        client.get("/")
        assert len(pools(client)) == 2
        assert len(response.read()) == 10_000_000
        assert len(pools(client)) == 1
        assert not old.transport._pool.connections


@pytest.mark.usefixtures("at_each_call")
def test_an_open_response_of_an_async_client_keeps_its_connection(world: World) -> None:
    world.api.respond = lambda received: (200, {}, b"x" * 10_000_000)

    async def run() -> None:
        async with world.async_client() as client, client.stream("GET", "/") as response:
            old = pools(client)[0]
            world.renew()
            await client.get("/")
            assert len(pools(client)) == 2
            assert len(await response.aread()) == 10_000_000
            assert len(pools(client)) == 1
            assert not old.transport._pool.connections

    asyncio.run(run())


@pytest.mark.usefixtures("at_each_call")
def test_at_most_sixteen_old_pools_have_open_responses(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.api.respond = lambda received: (200, {}, b"x" * 10_000_000)
    with world.client() as client:
        responses = []
        for _ in range(18):
            responses.append(client.send(client.build_request("GET", "/"), stream=True))
            world.renew()
        world.api.respond = lambda received: (200, {}, {})
        client.get("/")
        assert len(pools(client)) == 17
        assert "the oldest connections are closed" in caplog.text
        with pytest.raises(httpx2.HTTPError):
            responses[0].read()
        assert len(responses[-1].read()) == 10_000_000
        for each in responses:
            each.close()
        assert len(pools(client)) == 1


@pytest.mark.usefixtures("at_each_call")
def test_a_failed_request_leaves_no_pool_behind(world: World) -> None:
    def fail(handler: Any) -> None:
        world.renew()
        handler.close_connection = True

    world.api.behaviour = fail
    with world.client() as client:
        for _ in range(5):
            with pytest.raises(httpx2.RemoteProtocolError):
                client.get("/")
        assert len(pools(client)) == 1
        assert pools(client)[0].responses == 0


def test_a_cancelled_request_leaves_no_pool_behind(world: World) -> None:
    world.api.stall = 60

    async def run() -> None:
        async with world.async_client() as client:
            task = asyncio.create_task(client.get("/"))
            while not world.api.received:  # noqa: ASYNC110 (a thread changes the list)
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert [each.responses for each in pools(client)] == [0]

    asyncio.run(run())


@pytest.fixture
def renewal(world: World) -> Iterator[threading.Event]:
    """Renews the files all the time, each time after 20 ms."""
    ends = threading.Event()

    def run() -> None:
        while not ends.wait(0.02):
            world.renew()

    thread = threading.Thread(target=run)
    thread.start()
    yield ends
    ends.set()
    thread.join()


@pytest.mark.usefixtures("at_each_call", "renewal")
def test_no_request_fails_while_certificates_are_renewed(world: World) -> None:
    auth = world.auth()

    async def tasks() -> list[int]:
        async with world.async_client(auth) as client:
            return [
                each.status_code
                for _ in range(10)
                for each in await asyncio.gather(*(client.get("/") for _ in range(4)))
            ]

    with world.client(auth) as client, ThreadPoolExecutor(5) as threads:
        running = [threads.submit(client.get, "/") for _ in range(40)]
        statuses = [*asyncio.run(tasks()), *(each.result().status_code for each in running)]
    assert statuses == [200] * 80
    assert all(each.token_thumbprint == each.thumbprint for each in world.api.received)
    assert len({each.thumbprint for each in world.api.received}) > 3


@TRANSPORTS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"certificate": "client.pem"}, "certificate="),
        ({"roots": "absent.pem"}, "roots="),
        ({"http2": "yes"}, "http2="),
        ({"proxy": "proxy.internal:3128"}, "proxy: expected"),
        ({"proxy": "ftp://user:hunter2@proxy.internal"}, "proxy: expected"),
        ({"proxy": "http://user:hunter2@"}, "proxy: expected"),
        ({"proxy": "http://user:hunter2@[::1"}, "proxy: expected"),
        ({"proxy": 3128}, "proxy: expected"),
        ({"limits": 100}, "limits=100: expected an httpx2.Limits, for example httpx2.Limits"),
        ({"limits": httpx2.Limits(max_connections=0)}, "expected max_connections to be an integer of at least 1"),
        ({"limits": httpx2.Limits(max_connections=cast("int", "9"))}, "expected max_connections"),
        ({"limits": httpx2.Limits(max_keepalive_connections=-1)}, "expected max_keepalive_connections"),
        ({"limits": httpx2.Limits(keepalive_expiry=float("nan"))}, "expected keepalive_expiry to be seconds"),
    ],
)
def test_a_wrong_argument_is_named(world: World, kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        kind(**{"certificate": world.files, **options})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@TRANSPORTS
@pytest.mark.parametrize(
    ("options", "module"), [({"http2": True}, "h2"), ({"proxy": "socks5://proxy.internal:1080"}, "socksio")]
)
def test_a_missing_dependency_is_named_at_construction(
    world: World, kind: Any, options: dict[str, Any], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if the module were not installed
    with pytest.raises(ConfigurationError, match=r"pip install 'httpx2\[(http2|socks)\]'"):
        kind(world.files, **options)


@TRANSPORTS
@pytest.mark.parametrize("make", [str, httpx2.URL, httpx2.Proxy])
def test_no_repr_contains_the_password_of_the_proxy(world: World, kind: Any, make: Any) -> None:
    transport = kind(world.files, roots=world.roots, proxy=make("http://user:hunter2@127.0.0.1:1"))
    transport._pools.acquire(None)  # creates the pool
    seen = [
        transport,
        *vars(transport).values(),
        *(each for part in vars(transport).values() for each in vars(part).items()),
    ]
    assert "127.0.0.1" in repr(seen)
    assert "hunter2" not in repr(seen)


@TRANSPORTS
def test_the_limits_apply_to_each_certificate(world: World, kind: Any) -> None:
    transport = kind(
        world.files, roots=world.roots, limits=httpx2.Limits(max_connections=3, max_keepalive_connections=2)
    )
    (pool, _) = transport._pools.acquire(None)
    connections = pool.transport._pool
    assert (connections._max_connections, connections._max_keepalive_connections) == (3, 2)


def test_a_proxy_is_used_if_it_is_given(world: World) -> None:
    transport = CertificateTransport(world.files, roots=world.roots, proxy="http://127.0.0.1:1")
    with httpx2.Client(transport=transport) as client, pytest.raises(httpx2.ConnectError):
        client.get(world.api.host)
    assert not world.api.received


def test_a_pool_of_a_renewed_certificate_serves_a_request_that_began_before(
    world: World, at_each_call: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are renewed after the token was obtained, and before the request is sent."""
    auth = world.auth()
    with world.client(auth, event_hooks={"request": [lambda request: world.renew()]}) as client:
        assert client.get("/").status_code == 200
        assert len(pools(client)) == 1  # the old pool ended with its response
    (received,) = world.api.received
    assert received.token_thumbprint == received.thumbprint != world.files.current().thumbprint


def test_files_of_the_transport_and_of_the_authentication_may_differ(world: World, tmp_path: Path) -> None:
    world.authority.issue("CN=other").write(tmp_path, name="other")
    other = CertificateFiles(tmp_path / "other.pem", tmp_path / "other-key.pem")
    with world.client(world.auth(certificate=other)) as client:
        assert client.get("/").status_code == 200
    assert world.api.received[0].thumbprint == other.current().thumbprint
