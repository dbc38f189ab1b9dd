"""A request whose task is cancelled while a layer waits: the client gets 503 if the server still accepts a response."""

import asyncio
import logging
from typing import Any

import pytest

from mtls_middleware import asgi
from mtls_middleware.effects.flow import Call, Flow, ask
from mtls_middleware.sources import ServerTLS
from tests.gateways import Request, scope_of


class Echo:
    """An application that must not be reached."""

    scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope


BEARER = ("Authorization", "Bearer x")


class SlowTokens:
    """A validator that waits until it is cancelled."""

    def validate(self, _text: str, _now: float) -> Flow[Any]:
        return (yield from ask(Call(asyncio.sleep, (60,))))


class Server:
    """The part of a server that takes the messages of the response."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.sent: list[Any] = []
        self.scope = scope_of(Request(headers=[BEARER]))

    async def receive(self) -> Any:
        return {"type": "websocket.connect" if self.scope["type"] == "websocket" else "http.request"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def statuses(self) -> list[int]:
        return [each["status"] for each in self.sent if "status" in each]

    async def begin(self, app: Any = None) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task((app or self.app)(self.scope, self.receive, self.send))
        await asyncio.sleep(0.02)
        return task


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(echo: Echo) -> Server:
    inner = asgi.CertificateBoundTokenMiddleware(echo, SlowTokens(), binding="when_present")
    return Server(asgi.ClientCertificateMiddleware(inner, ServerTLS()))


def test_a_cancelled_request_gets_503_and_its_task_ends_as_usual(
    server: Server, echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        task = await server.begin()
        task.cancel()
        await task
        assert not task.cancelled()
        assert task.cancelling() == 0

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert server.statuses == [503]
    assert [each["type"] for each in server.sent] == ["http.response.start", "http.response.body"]
    assert (b"retry-after", b"1") in server.sent[0]["headers"]
    assert echo.scope is None
    (record,) = [each for each in caplog.records if each.name == "mtls_middleware.decision"]
    assert record.levelname == "WARNING"
    assert "was cancelled before a decision" in record.getMessage()


def test_the_cancellation_is_raised_if_the_server_accepts_no_response(server: Server, echo: Echo) -> None:
    async def send(message: Any) -> None:
        raise RuntimeError("the connection is closed")

    async def run() -> None:
        task = await server.begin()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    server.send = send  # type: ignore[method-assign]  # for this server only
    asyncio.run(run())
    assert echo.scope is None


def test_a_client_that_does_not_read_delays_the_end_by_a_second_at_most(server: Server) -> None:
    async def send(message: Any) -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        task = await server.begin()
        task.cancel()
        await asyncio.wait([task], timeout=20)
        assert task.cancelled()

    server.send = send  # type: ignore[method-assign]  # for this server only
    asyncio.run(run())


def test_a_second_cancellation_ends_the_task_at_once(server: Server) -> None:
    sends = asyncio.Event()

    async def send(message: Any) -> None:
        sends.set()
        await asyncio.sleep(0.9)
        server.sent.append(message)

    async def run() -> None:
        task = await server.begin()
        task.cancel()
        await sends.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server.send = send  # type: ignore[method-assign]  # for this server only
    asyncio.run(run())
    assert server.sent == []


def test_a_websocket_is_rejected_before_it_is_accepted(server: Server, echo: Echo) -> None:
    server.scope["type"] = "websocket"

    async def run() -> None:
        task = await server.begin()
        task.cancel()
        await task

    asyncio.run(run())
    assert server.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert echo.scope is None


def test_a_timeout_around_the_layers_sees_a_complete_response(server: Server) -> None:
    """Middleware outside of the layers must not send a second response."""

    async def with_timeout(scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(0.05):
                await server.app(scope, receive, send)
        except TimeoutError:
            await send({"type": "http.response.start", "status": 504, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        await (await server.begin(with_timeout))

    asyncio.run(run())
    assert server.statuses == [503]


def test_a_task_group_around_the_layers_still_ends_by_its_own_exception(server: Server) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise ZeroDivisionError

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.app(server.scope, server.receive, server.send))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        asyncio.run(run())
    assert server.statuses == [503]


def test_the_cancellation_of_the_application_passes_through() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    server = Server(asgi.ClientCertificateMiddleware(app, ServerTLS()))

    async def run() -> None:
        task = await server.begin()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert server.sent == []
