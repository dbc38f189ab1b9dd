"""The token is only in the bytes of a connection: not in requests, responses, exceptions, logs and tracebacks."""

import asyncio
import gc
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

import httpx2
import pytest

from mtls_middleware.client import TokenError
from tests.client.conftest import World
from tests.client.servers import Server

BOTH = pytest.mark.parametrize("way", ["sync", "async"])
TESTS = str(Path(__file__).parents[1])
NOT_FOLLOWED = (type, ModuleType, FunctionType, TracebackType, FrameType)


def tokens(world: World) -> list[str]:
    """Return the tokens that the API received. There is at least one."""
    found = [each.token for each in world.api.received if each.token]
    assert found
    return found


def fields(request: httpx2.Request) -> str:
    return f"{request.headers.raw}{request!r}{request.extensions!r}{pickle.dumps(request)!r}"


@BOTH
def test_the_request_of_a_response_has_no_token(world: World, way: str) -> None:
    (response,) = world.get(way, world.auth())
    assert "Authorization" not in response.request.headers
    for token in tokens(world):
        assert token not in fields(response.request)
        assert token not in repr(response.extensions)


@BOTH
def test_both_requests_of_a_repetition_have_no_token(world: World, way: str) -> None:
    auth = world.auth()
    world.get(way, auth)
    world.api.revoked.update(tokens(world))
    (response,) = world.get(way, auth)
    assert len(response.history) == 1
    for each in (response, *response.history):
        assert not [token for token in tokens(world) if token in fields(each.request)]


def broken(handler: Any) -> None:
    handler.close_connection = True


def cut(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    handler.wfile.write(b"x")
    handler.close_connection = True


def values_in(*objects: Any) -> Iterator[object]:
    """Yield all values in attributes and containers below `objects`, but not the values of functions and frames."""
    found, waiting = set(), list(objects)
    while waiting:
        value = waiting.pop()
        if id(value) in found or isinstance(value, NOT_FOLLOWED) or callable(value):
            continue
        found.add(id(value))
        yield value
        waiting += gc.get_referents(value)


@BOTH
def test_no_value_below_a_response_has_the_token(world: World, way: str) -> None:
    (response,) = world.get(way, world.auth())
    del response.extensions["network_stream"]  # the connection, with all objects of the event loop
    secret = tokens(world)[0]
    assert not [each for each in values_in(response) if secret in str(each)]


@BOTH
@pytest.mark.parametrize("behaviour", [broken, cut])
def test_no_value_below_an_exception_has_the_token(world: World, way: str, behaviour: Callable[[Any], None]) -> None:
    world.api.behaviour = behaviour
    with pytest.raises(httpx2.RemoteProtocolError) as caught:
        world.get(way, world.auth())
    secret = tokens(world)[0]
    assert not [each for each in values_in(caught.value, caught.value.request) if secret in str(each)]


@BOTH
@pytest.mark.parametrize("behaviour", [broken, cut])
def test_the_request_of_an_exception_has_no_token(world: World, way: str, behaviour: Callable[[Any], None]) -> None:
    world.api.behaviour = behaviour
    with pytest.raises(httpx2.RemoteProtocolError) as caught:
        world.get(way, world.auth())
    for token in tokens(world):
        assert token not in fields(caught.value.request)
        assert token not in f"{caught.value!r}{caught.value}{caught.value.__cause__!r}"


def test_the_request_of_a_timeout_has_no_token(world: World) -> None:
    world.api.stall = 60
    with pytest.raises(httpx2.ReadTimeout) as caught:
        world.get("sync", world.auth(), timeout=0.3)
    assert "Authorization" not in caught.value.request.headers


def test_the_request_of_a_cancelled_task_has_no_token(world: World) -> None:
    world.api.stall = 60

    async def run() -> httpx2.Request:
        async with world.async_client(world.auth()) as client:
            request = client.build_request("GET", "/")
            task = asyncio.create_task(client.send(request))
            while not world.api.received:  # noqa: ASYNC110 (a thread changes the list)
                await asyncio.sleep(0.01)
            assert "Authorization" not in request.headers  # also not while it is sent
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return request

    request = asyncio.run(run())
    assert not [token for token in tokens(world) if token in fields(request)]


@BOTH
@pytest.mark.parametrize("hook", ["request", "response"])
def test_an_event_hook_sees_no_token(world: World, way: str, hook: str) -> None:
    seen = []

    def remember(event: Any) -> None:
        seen.append(fields(event.request if hook == "response" else event))

    async def remember_async(event: Any) -> None:
        remember(event)

    world.get(way, world.auth(), event_hooks={hook: [remember if way == "sync" else remember_async]})
    assert len(seen) == 1
    assert not [token for token in tokens(world) if token in seen[0]]


@BOTH
def test_a_redirect_that_another_client_follows_has_no_token(world: World, way: str) -> None:
    """httpx2 copies the fields of the request to the request for the redirect, and keeps them for http to https."""
    context = world.files.current().ssl_context(world.roots)
    with Server(world.authority) as other:
        for target in (f"{other.host}/elsewhere", "/elsewhere"):
            world.api.respond = lambda received, target=target: (302, {"Location": target}, b"")
            (response,) = world.get(way, world.auth())
            assert response.next_request is not None
            with httpx2.Client(verify=context, trust_env=False) as client:
                client.send(httpx2.Request("GET", response.next_request.url, headers=response.next_request.headers))
        assert [each.token for each in other.received] == [None]
    assert [each.token for each in world.api.received if each.path == "/elsewhere"] == [None]


@BOTH
def test_the_token_replaces_an_authorization_field_only_on_the_wire(world: World, way: str) -> None:
    sent = []

    def record(handler: Any) -> None:
        sent.append((handler.headers.get_all("Authorization"), handler.headers.get_all("X-Two")))
        handler.send_response(204)
        handler.end_headers()

    world.api.behaviour = record
    headers = [("Authorization", "Basic eDp5"), ("X-Two", "1"), ("authorization", "Basic eDp6"), ("X-Two", "2")]
    (response,) = world.get(way, world.auth(), headers=headers)
    assert response.request.headers.get_list("Authorization") == ["Basic eDp5", "Basic eDp6"]
    assert sent == [([f"Bearer {world.server.issued[0]}"], ["1", "2"])]


@BOTH
def test_no_log_record_of_any_library_has_the_token(world: World, way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="")
    world.get(way, world.auth(), times=2)
    assert "send_request_headers" in caplog.text  # httpcore2 logs at DEBUG
    shown = "".join(repr(vars(each)) for each in caplog.records)
    assert not [token for token in tokens(world) if token in shown]


def test_one_request_in_many_threads_never_has_the_token(world: World) -> None:
    """A caller may send one request object several times at once. No thread may see the token of another one."""
    from concurrent.futures import ThreadPoolExecutor

    world.api.stall = 0.05
    with world.client(world.auth()) as client, ThreadPoolExecutor(8) as threads:
        request = client.build_request("GET", "/")
        running = [threads.submit(client.send, request) for _ in range(24)]
        seen = []
        while not all(each.done() for each in running):
            seen.append("Authorization" in request.headers)
        assert {each.result().status_code for each in running} == {200}
    assert not any(seen)


def test_a_request_with_credentials_is_pickled_without_them(world: World) -> None:
    (response,) = world.get("sync", world.auth())
    copy = pickle.loads(pickle.dumps(response.request))
    assert copy.extensions == {}
    world.api.received.clear()
    with world.client() as client:
        assert client.send(httpx2.Request("GET", copy.url, headers=copy.headers)).status_code == 401
    assert [each.token for each in world.api.received] == [None]


def locals_of(error: BaseException | None) -> Iterator[str]:
    """Yield the local variables of the frames of an exception and of its causes, as tools for error reports do."""
    while error is not None:
        yield repr(error)
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if not frame.f_code.co_filename.startswith(TESTS):
                yield from (repr(value) for value in frame.f_locals.values())
        error = error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__


def refuse(world: World) -> dict[str, Any]:
    return {"url": "https://127.0.0.1:1/"}


def stall(world: World) -> dict[str, Any]:
    world.api.stall = 60
    return {"timeout": 0.3}


def close(world: World) -> dict[str, Any]:
    world.api.behaviour = broken
    return {}


def break_a_line(world: World) -> dict[str, Any]:
    """Applications may copy a value of their own client to a field."""
    return {"headers": {"X-Name": "a\r\nb"}}


def bind_to_another(world: World) -> dict[str, Any]:
    world.server.claims = {"cnf": {"x5t#S256": "A" * 43}}
    return {}


def send_no_type(world: World) -> dict[str, Any]:
    world.server.response = {"token_type": None}
    return {}


@BOTH
@pytest.mark.parametrize("prepare", [refuse, stall, close, break_a_line, bind_to_another, send_no_type])
def test_local_variables_in_a_traceback_have_no_token(
    world: World, way: str, prepare: Callable[[World], dict[str, Any]]
) -> None:
    options = prepare(world)
    with pytest.raises((httpx2.TransportError, TokenError)) as caught:
        world.get(way, world.auth(), **options)
    assert world.server.issued
    shown = "".join(locals_of(caught.value))
    assert "TokenSource" in shown or "CertificateTransport" in shown
    assert not [token for token in world.server.issued if token in shown]


@BOTH
def test_pprint_shows_no_token_and_no_key(world: World, way: str) -> None:
    (response,) = world.get(way, world.auth())
    key = (world.directory / "client-key.pem").read_text().splitlines()[1]
    shown = pprint.pformat([response.extensions, response.request.extensions, vars(response.request), vars(response)])
    assert "Credentials" in shown
    for secret in (*tokens(world), key):
        assert secret not in shown


def test_a_request_that_http_does_not_allow_leaves_no_pool_behind(world: World) -> None:
    with world.client(world.auth()) as client:
        with pytest.raises(httpx2.LocalProtocolError, match="Illegal header value") as caught:
            client.get("/", headers={"X-Name": "a\r\nb"})
        assert caught.value.request.url.path == "/"
        (pool,) = client._transport._pools._pools  # type: ignore[attr-defined]  # internal state
        assert pool.responses == 0
    assert not world.api.received


@BOTH
def test_a_response_has_the_certificate_of_its_connection_without_the_key(world: World, way: str) -> None:
    (response,) = world.get(way, world.auth())
    assert response.extensions["mtls_middleware"] == world.files.current().certificate
