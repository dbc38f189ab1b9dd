"""Attempts to get the token while a request is sent: hooks, traces, copies, other transports, cancelled requests."""

import asyncio
import copy
import pickle
import pprint
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest

from mtls_middleware.client import (
    AsyncCertificateTransport,
    CertificateBoundAuth,
    CertificateTransport,
    CredentialsNotSent,
)
from tests.client.conftest import World
from tests.client.http2_server import HTTP2Server
from tests.client.servers import Received, Server
from tests.client.test_token_secrecy import tokens, values_in

BOTH = pytest.mark.parametrize("way", ["sync", "async"])
REJECTION = (401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}, b"")


def send(world: World, way: str, auth: CertificateBoundAuth, method: str = "GET", **options: Any) -> httpx2.Response:
    """Send one request with these options of `request`."""
    if way == "sync":
        with world.client(auth) as client:
            return client.request(method, options.pop("url", "/"), **options)

    async def run() -> httpx2.Response:
        async with world.async_client(auth) as client:
            return await client.request(method, options.pop("url", "/"), **options)

    return asyncio.run(run())


def for_both(way: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, or an asynchronous function that calls it."""

    async def run(*arguments: Any) -> Any:
        return function(*arguments)

    return function if way == "sync" else run


@BOTH
@pytest.mark.parametrize("http2", [False, True])
def test_a_trace_of_the_user_sees_no_token(world: World, way: str, http2: bool) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    trace = for_both(way, lambda name, info: seen.append((name, info)))
    with HTTP2Server(world.authority) as second:
        url = second.host if http2 else world.api.host
        kind: Any = CertificateTransport if way == "sync" else AsyncCertificateTransport
        transport = kind(world.files, roots=world.roots, http2=http2)
        if way == "sync":
            with httpx2.Client(transport=transport, auth=world.auth()) as client:
                client.get(url, extensions={"trace": trace}, headers={"X-Name": "kept"})
        else:

            async def run() -> None:
                async with httpx2.AsyncClient(transport=transport, auth=world.auth()) as client:
                    await client.get(url, extensions={"trace": trace}, headers={"X-Name": "kept"})

            asyncio.run(run())
        received = [fields["authorization"] for _, fields in second.received] if http2 else tokens(world)
    assert world.server.issued[0] in received[0]
    requests = [info["request"] for _, info in seen if "request" in info]
    assert len(requests) > 3
    assert all((b"X-Name", b"kept") in each.headers for each in requests)
    assert not [each for each in values_in(*requests) if world.server.issued[0] in str(each)]


@BOTH
def test_a_trace_that_is_none_is_ignored(world: World, way: str) -> None:
    assert send(world, way, world.auth(), extensions={"trace": None}).status_code == 200


@BOTH
def test_an_event_hook_cannot_copy_the_token(world: World, way: str) -> None:
    auth = world.auth()
    world.get(way, auth)
    seen: list[Any] = []

    def remember(request: httpx2.Request) -> None:
        extensions = request.extensions
        seen.append(pickle.loads(pickle.dumps(extensions)))
        seen.append(copy.deepcopy(extensions))
        seen.append(copy.deepcopy(request).extensions)
        seen.append(pprint.pformat([extensions, vars(request)]))

    world.get(way, auth, event_hooks={"request": [for_both(way, remember)]})
    secret = tokens(world)[-1]
    assert len(seen) == 4
    assert not [each for each in values_in(*seen) if secret in str(each)]


@BOTH
def test_an_event_hook_may_send_another_request(world: World, way: str) -> None:
    auth, inner = world.auth(), world.auth(client_id="other")

    def in_sync(request: httpx2.Request) -> None:
        if request.url.path == "/":
            assert client.get("/inner", auth=inner).status_code == 200
            with pytest.raises(httpx2.HTTPStatusError):
                client.get("/without", auth=None).raise_for_status()

    async def in_async(request: httpx2.Request) -> None:
        if request.url.path == "/":
            assert (await client.get("/inner", auth=inner)).status_code == 200
            with pytest.raises(httpx2.HTTPStatusError):
                (await client.get("/without", auth=None)).raise_for_status()

    client: Any
    if way == "sync":
        with world.client(auth, event_hooks={"request": [in_sync]}) as client:
            assert client.get("/").status_code == 200
    else:

        async def run() -> None:
            nonlocal client
            async with world.async_client(auth, event_hooks={"request": [in_async]}) as client:
                assert (await client.get("/")).status_code == 200

        asyncio.run(run())
    outer, other = world.server.issued
    assert [(each.path, each.token) for each in world.api.received] == [
        ("/inner", other),
        ("/without", None),
        ("/", outer),
    ]


class Repeating(httpx2.BaseTransport):
    """Sends a copy of each request twice, as transports that retry or cache do."""

    def __init__(self, transport: httpx2.BaseTransport, changes: dict[str, Any]) -> None:
        self._transport, self._changes = transport, changes

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        same = {"method": request.method, "url": request.url, "headers": request.headers, "stream": request.stream}
        for _ in range(2):
            copied = httpx2.Request(**{**same, "extensions": request.extensions, **self._changes})
            response = self._transport.handle_request(copied)
            response.read()
        return response

    def close(self) -> None:
        self._transport.close()


def test_a_transport_around_the_transport_may_send_copies(world: World) -> None:
    transport = Repeating(CertificateTransport(world.files, roots=world.roots), {})
    with httpx2.Client(transport=transport, auth=world.auth()) as client:
        assert client.get(world.api.host).status_code == 200
    assert len(world.api.received) == 2
    assert all(each.token_thumbprint == each.thumbprint for each in world.api.received)


def test_a_transport_around_the_transport_cannot_change_the_url(world: World) -> None:
    with Server(world.authority) as other:
        transport = Repeating(CertificateTransport(world.files, roots=world.roots), {"url": other.host})
        with (
            httpx2.Client(transport=transport, auth=world.auth()) as client,
            pytest.raises(CredentialsNotSent, match="redirect"),
        ):
            client.get(world.api.host)
        assert not other.received


@BOTH
def test_the_extension_of_the_library_cannot_be_given_by_the_user(world: World, way: str) -> None:
    with pytest.raises(CredentialsNotSent, match="'mtls_middleware' of the request is reserved"):
        send(world, way, world.auth(), extensions={"mtls_middleware": "x"})
    assert not world.api.received


@BOTH
def test_extensions_of_an_earlier_request_give_no_token(world: World, way: str) -> None:
    (response,) = world.get(way, world.auth())
    with world.client() as client, pytest.raises(CredentialsNotSent):
        client.get("/", extensions=response.request.extensions)
    assert len(world.api.received) == 1


@pytest.mark.parametrize("stage", ["token", "connection", "response"])
def test_a_cancelled_request_has_no_token_below_it(world: World, stage: str) -> None:
    auth = world.auth()
    if stage != "token":
        world.get("sync", auth)
    server: Server = world.server if stage == "token" else world.api
    server.received.clear()
    server.stall = 60

    async def run() -> httpx2.Request:
        async with world.async_client(auth) as client:
            request = client.build_request("GET", "/")
            with anyio.CancelScope() as scope:  # cancels again at each await, unlike `Task.cancel`
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.send, request)
                    while stage != "connection" and not server.received:  # noqa: ASYNC110 (a thread changes the list)
                        await anyio.sleep(0.01)
                    scope.cancel()
            pool_list = client._transport._pools._pools  # type: ignore[attr-defined]  # internal state
            assert [each.responses for each in pool_list] in ([], [0])
            return request

    request = asyncio.run(run())
    secrets = world.server.issued
    assert not [each for each in values_in(request) if any(secret in str(each) for secret in secrets)]


@pytest.mark.usefixtures("at_each_call")
def test_a_cancelled_response_of_an_old_certificate_closes_its_connection(world: World) -> None:
    async def run() -> None:
        async with world.async_client(world.auth()) as client:
            with anyio.CancelScope() as scope:
                async with client.stream("GET", "/") as response:
                    connection = response.extensions["network_stream"]
                    world.renew()
                    await client.get("/")
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
            pool_list = client._transport._pools._pools  # type: ignore[attr-defined]  # internal state
            assert [each.responses for each in pool_list] == [0]
            assert connection.get_extra_info("socket").fileno() == -1

    asyncio.run(run())


async def chunks() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


@BOTH
@pytest.mark.parametrize("body", ["iterator", "multipart", "read"])
def test_a_stream_is_sent_once_if_the_token_is_rejected(world: World, way: str, body: str) -> None:
    """A second attempt would send an empty body, or the rest of a file."""
    world.api.respond = lambda received: REJECTION
    if body == "multipart":
        options: dict[str, Any] = {"files": {"file": ("name", b"content")}}
    else:
        options = {"content": iter([b"a", b"b"]) if way == "sync" else chunks(), "headers": {"Content-Length": "2"}}
    auth = world.auth()
    if body == "read":  # the caller has read the stream into memory, so the request can be repeated
        request = httpx2.Request("POST", world.api.host, **options)
        if way == "sync":
            request.read()
        else:
            asyncio.run(request.aread())
        options = {"content": request.content}
    assert send(world, way, auth, "POST", **options).status_code == 401
    assert len(world.api.received) == (2 if body == "read" else 1)


@BOTH
def test_many_certificates_in_one_flow_leave_no_token_with_the_request(world: World, way: str) -> None:
    """A rejected token, a renewal, and the repetition: both credentials are removed."""

    def reject_once(received: Received) -> tuple[int, dict[str, str], Any]:
        world.api.respond = world.api.accept
        return REJECTION

    world.api.respond = reject_once
    response = send(world, way, world.auth())
    assert response.status_code == 200
    assert len(world.server.issued) == 2
    objects = [response.request, response.history, response.request.extensions]
    for each in (response, *response.history):
        each.extensions.pop("network_stream", None)
    for secret in world.server.issued:
        assert not [each for each in values_in(*objects) if secret in str(each)]


def test_requests_on_one_http2_connection_have_their_own_tokens(world: World) -> None:
    auths = [world.auth(client_id=name) for name in ("one", "two", "three")]

    async def run(url: str) -> None:
        transport = AsyncCertificateTransport(world.files, roots=world.roots, http2=True)
        async with httpx2.AsyncClient(transport=transport) as client:
            await client.get(url)  # opens the connection
            await asyncio.gather(*(client.get(f"{url}/{each % 3}", auth=auths[each % 3]) for each in range(30)))

    with HTTP2Server(world.authority) as api:
        asyncio.run(run(api.host))
        assert api.connections == 1
        sent = {(fields[":path"], fields.get("authorization")) for _, fields in api.received[1:]}
    assert len(sent) == len({path for path, _ in sent}) == len({token for _, token in sent}) == 3
    assert api.received[0][1].get("authorization") is None


@pytest.mark.usefixtures("at_each_call")
def test_one_request_in_many_threads_has_tokens_of_its_certificates(world: World) -> None:
    """The threads share the object in the request's extensions, and the certificate is renewed meanwhile."""
    with world.client(world.auth()) as client, ThreadPoolExecutor(8) as threads:
        request = client.build_request("GET", "/")
        running = [threads.submit(client.send, request) for _ in range(40)]
        while not all(each.done() for each in running):
            world.renew()
        assert {each.result().status_code for each in running} == {200}
    assert len({each.thumbprint for each in world.api.received}) > 1
    assert all(each.token_thumbprint == each.thumbprint for each in world.api.received)
    assert not [each for each in values_in(request) if any(token in str(each) for token in world.server.issued)]


@BOTH
def test_an_authentication_cannot_be_pickled_or_copied(world: World, way: str) -> None:
    auth = world.auth()
    world.get(way, auth)
    for function in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle"):
            function(auth)
