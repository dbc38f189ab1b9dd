"""One websocket in process: the side of the server, and applications for it."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.gateways import Request, scope_of
from tests.layers.clock import Clock, clock

__all__ = ["clock"]

CLOSE = {"type": "websocket.close", "code": 1008, "reason": ""}
DISCONNECT = {"type": "websocket.disconnect", "code": 1008, "reason": ""}
LIFETIME = 1000


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtls_middleware.asgi_websocket._INTERVAL", 0.01)


@pytest.fixture
def client(mtls_ca: CertificateAuthority, clock: Clock) -> IssuedCertificate:
    ends = datetime.fromtimestamp(clock.now + LIFETIME, UTC)
    return mtls_ca.issue("CN=client,O=Tests", not_after=ends)


class Socket:
    """The server's side of one websocket."""

    def __init__(self, client: IssuedCertificate | None, *headers: tuple[str, str]) -> None:
        self.scope = scope_of(Request(tls=client, headers=headers), "websocket")
        self.given: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.given.put_nowait({"type": "websocket.connect"})
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return await self.given.get()

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def types(self) -> list[str]:
        return [each["type"].removeprefix("websocket.") for each in self.sent]


class Echo:
    """Accepts, then echoes until the disconnect; remembers what it received, and may send more after it."""

    def __init__(self, *, after: int = 0) -> None:
        self.received: list[Any] = []
        self._after = after

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        self.received.append(await receive())
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            self.received.append(message)
            await send({"type": "websocket.send", "text": message["text"]})
        self.received.append(message)
        for _ in range(self._after):
            await send({"type": "websocket.send", "text": "too late"})
            self.received.append(await receive())


async def run(app: Any, socket: Socket, *steps: Callable[[], Any]) -> asyncio.Task[Any]:
    """Call the application; make a step each 50 ms while it runs. Everything ends within five seconds, or fails."""
    task = asyncio.create_task(app(socket.scope, socket.receive, socket.send))
    for step in steps:
        await asyncio.sleep(0.05)
        step()
    async with asyncio.timeout(5):
        await asyncio.wait([task])
    return task


def play(app: Any, socket: Socket, *steps: Callable[[], Any]) -> None:
    async def playing() -> None:
        before = asyncio.all_tasks()
        (await run(app, socket, *steps)).result()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        assert not [each for each in asyncio.get_running_loop()._scheduled if not each.cancelled()]

    asyncio.run(playing())


def expire(clock: Clock, skew: float = 60) -> Callable[[], None]:
    def step() -> None:
        clock.now += LIFETIME + skew + 1

    return step


def text(socket: Socket, words: str) -> Callable[[], None]:
    return lambda: socket.given.put_nowait({"type": "websocket.receive", "text": words})


def hang_up(socket: Socket) -> Callable[[], None]:
    return lambda: socket.given.put_nowait({"type": "websocket.disconnect", "code": 1000})


def closings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [vars(each)["mtls"] for each in caplog.records if hasattr(each, "mtls")]
    return [each for each in found if each["outcome"] == "closed"]


class Revoked:
    """A rule that returns or raises what the test has set."""

    def __init__(self) -> None:
        self.answer: bool | Exception = False

    def __call__(self, _certificate: Any) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return not self.answer

    def becomes(self, answer: bool | Exception) -> Callable[[], None]:
        return lambda: setattr(self, "answer", answer)
