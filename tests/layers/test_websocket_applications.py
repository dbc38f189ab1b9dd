"""How applications and frameworks see the end of a websocket."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mtls_middleware import access_token, client_certificate
from mtls_middleware.asgi import protect
from mtls_middleware.asgi_websocket import WebsocketWatch
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import Request, scope_of
from tests.layers.clock import Clock, clock
from tests.layers.websockets import (
    CLOSE,
    DISCONNECT,
    LIFETIME,
    Echo,
    Socket,
    client,
    closings,
    expire,
    often,
    play,
    run,
    text,
)

__all__ = ["client", "clock", "often"]


def test_close_before_accept_is_a_close_and_the_accept_is_dropped(client: IssuedCertificate, clock: Clock) -> None:
    received: list[Any] = []

    async def slow(_scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.2)
        received.append(await receive())
        await send({"type": "websocket.accept"})
        received.append(await receive())

    socket = Socket(client)
    play(protect(slow, source=ServerTLS()), socket, expire(clock))
    assert socket.sent == [CLOSE]
    assert received == [{"type": "websocket.connect"}, DISCONNECT]


def test_application_that_ignores_the_end_does_not_stop_the_event_loop(client: IssuedCertificate, clock: Clock) -> None:
    turns: list[int] = []

    async def stubborn(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while len(turns) < 10:
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0 if socket.types()[-1] == "close" else 0.001)
        assert (await receive()) == DISCONNECT

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            if socket.types()[-1:] == ["close"]:
                turns.append(1)

    socket = Socket(client)

    async def playing() -> None:
        counting = asyncio.create_task(count())
        (await run(protect(stubborn, source=ServerTLS()), socket, expire(clock))).result()
        counting.cancel()

    asyncio.run(playing())


def test_cancelled_application_leaves_nothing(client: IssuedCertificate, clock: Clock) -> None:
    socket = Socket(client)

    async def playing() -> None:
        before = asyncio.all_tasks()
        task = asyncio.create_task(protect(Echo(), source=ServerTLS())(socket.scope, socket.receive, socket.send))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before
        clock.now += LIFETIME * 2
        await asyncio.sleep(0.05)
        assert socket.types() == ["accept"]

    asyncio.run(playing())


def test_error_of_the_application_comes_out_and_leaves_nothing(client: IssuedCertificate, clock: Clock) -> None:
    async def failing(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        play(protect(failing, source=ServerTLS()), Socket(client))


def test_message_is_not_lost_if_the_application_gives_up_waiting(client: IssuedCertificate, clock: Clock) -> None:
    """Starlette and anyio cancel a receive() and call it again."""
    received: list[Any] = []

    async def impatient(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while len(received) < 20:
            try:
                async with asyncio.timeout(0.001):
                    received.append((await receive())["text"])
            except TimeoutError:
                pass

    socket = Socket(client)

    async def playing() -> None:
        task = asyncio.create_task(protect(impatient, source=ServerTLS())(socket.scope, socket.receive, socket.send))
        for number in range(20):
            await asyncio.sleep(0.0011)
            socket.given.put_nowait({"type": "websocket.receive", "text": str(number)})
        async with asyncio.timeout(5):
            await task

    asyncio.run(playing())
    assert received == [str(number) for number in range(20)]


def test_timeout_of_the_server_is_not_taken_for_the_end(client: IssuedCertificate, clock: Clock) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    socket = Socket(client)
    connect = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        if connect:
            return connect.pop()
        raise TimeoutError("the server's own")

    with pytest.raises(TimeoutError, match="own"):
        asyncio.run(protect(app, source=ServerTLS())(socket.scope, receive, socket.send))


async def outlived(socket: Socket, send: Any, clock: Clock) -> None:
    """A websocket from before its certificate expires until the application has returned."""
    task = asyncio.create_task(protect(Echo(), source=ServerTLS())(socket.scope, socket.receive, send))
    await asyncio.sleep(0.05)
    clock.now += LIFETIME * 2
    async with asyncio.timeout(5):
        await task


def test_closing_a_websocket_of_a_disconnected_client_raises_nothing(client: IssuedCertificate, clock: Clock) -> None:
    socket = Socket(client)

    async def send(message: Any) -> None:
        if message["type"] == "websocket.close":
            raise OSError("gone")
        socket.sent.append(message)

    asyncio.run(outlived(socket, send, clock))


def test_server_that_rejects_the_code_gets_another_one(client: IssuedCertificate, clock: Clock) -> None:
    """daphne's websocket library raises an exception for codes below 3000; the websocket must end all the same."""
    socket = Socket(client)

    async def send(message: Any) -> None:
        if message.get("code") == 1008:
            raise Exception("invalid close code 1008")  # noqa: TRY002 (as autobahn does)
        socket.sent.append(message)

    asyncio.run(outlived(socket, send, clock))
    assert socket.sent == [{"type": "websocket.accept"}, {**CLOSE, "code": 3003}]


@pytest.mark.parametrize("last", ["websocket.close", "websocket.http.response.start"])
def test_websocket_that_the_application_ended_is_checked_no_more(
    last: str, client: IssuedCertificate, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": last, "status": 200})
        clock.now += LIFETIME * 2
        await asyncio.sleep(0.1)  # work of its own
        await send({"type": "websocket.http.response.body", "body": b"all of it"})

    socket = Socket(client)
    play(protect(app, source=ServerTLS()), socket)
    assert len(socket.sent) == 2
    assert not closings(caplog)


def test_streamed_response_is_not_cut(client: IssuedCertificate, clock: Clock) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(5):
            clock.now += LIFETIME
            await asyncio.sleep(0.02)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    socket = Socket(client)
    socket.scope = scope_of(Request(tls=client))
    play(protect(app, source=ServerTLS()), socket)
    assert len(socket.sent) == 7


def watches() -> int:
    return sum(type(each) is WebsocketWatch for each in gc.get_objects())


def test_many_websockets_leave_nothing_in_memory(client: IssuedCertificate, clock: Clock) -> None:
    app, before = protect(Echo(), source=ServerTLS()), watches()

    async def playing() -> None:
        sockets = [Socket(client) for _ in range(200)]
        tasks = [asyncio.create_task(app(each.scope, each.receive, each.send)) for each in sockets]
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 201  # no task of ours
        for each in sockets:
            each.given.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.gather(*tasks)

    asyncio.run(playing())
    gc.collect()
    assert watches() <= before


def test_another_event_loop_checks_at_each_message(client: IssuedCertificate, clock: Clock) -> None:
    """Driven by hand, as trio would: there is no timer, and still nothing passes after the end."""
    socket, echo = Socket(client), Echo(after=1)
    app = protect(echo, source=ServerTLS())
    given: list[Any] = [{"type": "websocket.receive", "text": "secret"}, {"type": "websocket.connect"}]

    async def receive() -> Any:
        if len(given) == 1:
            clock.now += LIFETIME * 2
        return given.pop()

    with pytest.raises(StopIteration):
        app(socket.scope, receive, socket.send).send(None)
    assert socket.types() == ["accept", "close"]
    assert echo.received[1:] == [DISCONNECT, DISCONNECT]


def starlette(received: list[Any]) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocketDisconnect

    async def live(websocket: Any) -> None:
        await websocket.accept()
        try:
            async for words in websocket.iter_text():
                await websocket.send_text(words)
            received.append("end of the iteration")
            await websocket.send_text("too late")
        except (WebSocketDisconnect, RuntimeError) as error:  # pragma: no cover (which it is shows in the assertion)
            received.append(repr(error))

    return Starlette(routes=[WebSocketRoute("/", live)])


def quart(received: list[Any]) -> Any:
    from quart import Quart, websocket

    app = Quart(__name__)

    @app.websocket("/")
    async def live() -> None:
        try:
            while True:
                await websocket.send(await websocket.receive())
        except asyncio.CancelledError:
            received.append("end of the iteration")
            raise

    return app


@pytest.mark.parametrize("make", [starlette, quart])
def test_framework_takes_the_end_as_a_client_that_left(
    make: Callable[[list[Any]], Any], client: IssuedCertificate, clock: Clock
) -> None:
    received: list[Any] = []
    socket = Socket(client)
    socket.scope["headers"] += [(b"host", b"server.test")]
    play(protect(make(received), source=ServerTLS()), socket, text(socket, "one"), expire(clock))
    assert socket.types() == ["accept", "send", "close"]
    assert received == ["end of the iteration"]


def test_application_reads_what_it_was_opened_with(client: IssuedCertificate, clock: Clock) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Awaitable[Any], send: Any) -> None:
        seen.append((client_certificate(scope), access_token(scope)))

    play(protect(app, source=ServerTLS()), Socket(client))
    assert seen == [(client.client_certificate(), None)]
