"""`WebsocketWatch`: closes an open websocket when its certificate or token is no longer valid.

It decides nothing: the layers give the checks. One timer per websocket, and no task while nothing happens.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from mtls_middleware.asgi_messages import Message, Receive, Send
from mtls_middleware.effects.flow import AwaitingDriver, Flow
from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.layers.decisions import closed
from mtls_middleware.layers.interface import Layer, LayerRequest
from mtls_middleware.layers.websocket_lifetime import Recheck

if TYPE_CHECKING:
    import asyncio

Checks = Sequence[tuple[Layer, Recheck]]

# Seconds between two checks. Two seconds are promised; half of them are left for a busy event loop. A timer for the end
# of the period alone would miss a clock that was set, and the time that a virtual machine was suspended.
_EVERY = 1.0
# Seconds that a check with I/O may take, then the websocket ends: more than six exchanges in a row, of five each.
_CHECK_TIMEOUT = 35.0
# Seconds that the close may take after the application has ended: a client that does not read delays it.
_CLOSE_TIMEOUT = 10.0
_CODE = 1008  # RFC 6455 7.4.1: policy violation
# Forbidden, of IANA's registry: daphne's websocket library rejects 1008, and other codes below 3000, from applications.
_OTHER_CODE = 3003
# What an application ends a websocket with. The response to a handshake is a response like others, and is not cut.
_ENDS = ("websocket.close", "websocket.http.response.start")


def watched(
    view: LayerRequest, checks: Checks, receive: Receive, send: Send, driver: AwaitingDriver
) -> "WebsocketWatch | None":
    """A watch with these checks.

    `None` if nothing can close the websocket, or if an outer gateway has a watch, which then makes the checks.
    """
    if not checks:
        return None
    outer: WebsocketWatch | None = view.attached.watch
    if outer is not None:
        outer.add(view, checks)
        return None
    watch = WebsocketWatch(receive, send, driver)
    watch.add(view, checks)
    view.attached.watch = watch
    return watch


class _Check:
    """One check of an open websocket. `running`: its task, if it needs I/O; none of the others waits for it."""

    __slots__ = ("layer", "recheck", "running", "view")

    def __init__(self, view: LayerRequest, layer: Layer, recheck: Recheck) -> None:
        self.view, self.layer, self.recheck = view, layer, recheck
        self.running: asyncio.Task[None] | None = None


class WebsocketWatch:
    """Stands between the server and the application of one websocket. `closed`: it has ended the websocket.

    Its timer needs asyncio. Under another event loop, such as trio, it checks at each message, so that none passes in
    either direction after the end.
    """

    def __init__(self, receive: Receive, send: Send, driver: AwaitingDriver) -> None:
        self._receive, self._send, self._driver = receive, send, driver
        self._loop = _running_loop()
        self._checks: list[_Check] = []
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Timeout] = set()  # of each receive() that is under way
        self._closing: asyncio.Task[None] | None = None
        self._connected = self._over = False
        self.closed: bool = False

    def add(self, view: LayerRequest, checks: Checks) -> None:
        """Make these checks too, from the next second on."""
        self._checks += [_Check(view, layer, recheck) for layer, recheck in checks]

    async def run(self, app: Callable[..., Awaitable[None]], scope: MutableMapping[str, Any]) -> None:
        """Call the application; nothing of the watch is left when it returns or raises."""
        self._set_timer()
        try:
            await app(scope, self.receive, self.send)
        finally:
            self._end()
            await self._closed()

    async def receive(self) -> Message:
        """What the server has for the application: after the close, `websocket.disconnect` alone."""
        if not self._connected:  # frameworks expect websocket.connect first, whatever follows
            message = await self._receive()
            self._connected = True
            return message
        if self.closed:
            await self._turn()  # an application that ignores the disconnect must not stop the event loop
            return _disconnect()
        message = await (self._receive() if self._loop is None else self._receive_until_closed())
        await self._check_without_timer()
        if self.closed:
            return _disconnect()
        if message["type"] == "websocket.disconnect":
            self._end()
        return message

    async def _receive_until_closed(self) -> Message:
        import asyncio

        waiting = asyncio.timeout(None)
        try:
            async with waiting:
                self._waiting.add(waiting)
                return await self._receive()
        except TimeoutError:
            if not waiting.expired():
                raise
            return _disconnect()
        finally:
            self._waiting.discard(waiting)

    async def send(self, message: Message) -> None:
        """Pass a message to the server: after the close, drop it."""
        await self._check_without_timer()
        if self.closed:
            await self._turn()  # an application that sends without end must not stop the event loop
            return
        if message["type"] not in _ENDS:
            await self._send(message)
            return
        self._end()
        try:
            await self._send(message)
        except BaseException:
            self._resume()  # the server rejected the message, or the application gave it up: the websocket is open
            raise

    async def _turn(self) -> None:
        if self._loop is not None:
            import asyncio

            await asyncio.sleep(0)

    async def _check_without_timer(self) -> None:
        if self._loop is None and not self._over:
            self._tick()
            if self.closed:
                await self._send_close()

    def _set_timer(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(_EVERY, self._tick)

    def _end(self) -> None:
        """No more checks."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        for check in self._checks:
            if check.running is not None:
                check.running.cancel()

    def _resume(self) -> None:
        """Check again after all."""
        if not self.closed:
            self._over = False
            self._set_timer()

    def _tick(self) -> None:
        now = time.time()
        for check in self._checks:
            try:
                found = check.recheck(now)
                if isinstance(found, Generator):
                    self._begin(check, found)
            except BaseException as error:  # what cannot be decided must not stay open
                self._close(check, error)
                if not isinstance(error, Exception):
                    raise
                return
        self._set_timer()

    def _begin(self, check: _Check, flow: Flow[None]) -> None:
        """Decide at once if the flow needs nothing, as most do; otherwise in a task, one at a time."""
        if check.running is not None and not check.running.done():
            flow.close()
            return
        try:
            need = next(flow)
        except StopIteration:
            return
        if self._loop is None:
            flow.close()
            raise ConfigurationError(
                "a check of an open websocket needs I/O, which this library does with asyncio alone: use an asyncio "
                "worker, or give websocket_lifetime='connection'"
            )
        check.running = self._loop.create_task(self._decide(check, _resumed(flow, need)))

    async def _decide(self, check: _Check, flow: Flow[None]) -> None:
        import asyncio

        limit = asyncio.timeout(_CHECK_TIMEOUT)
        try:
            async with limit:
                await self._driver.run(flow)
        except BaseException as error:  # as in _tick
            if not self._over:
                late = f"a check of the websocket was not complete within {_CHECK_TIMEOUT:g} s"
                self._close(check, Unavailable(late, retry_after=1) if limit.expired() else error)
            if not isinstance(error, Exception):
                raise

    def _close(self, check: _Check, error: BaseException) -> None:
        self.closed = True
        self._end()
        if self._loop is not None:
            self._closing = self._loop.create_task(self._send_close())
            for waiting in self._waiting:
                waiting.reschedule(self._loop.time())
        known = error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
        closed(check.layer, known, check.view)

    async def _send_close(self) -> None:
        for code in (_CODE, _OTHER_CODE):
            with contextlib.suppress(Exception):  # the client may be gone, and each server says so in its own way
                await self._send({"type": "websocket.close", "code": code, "reason": ""})
                return

    async def _closed(self) -> None:
        """Wait until the close is sent."""
        if self._closing is None:
            return
        import asyncio

        try:
            await asyncio.wait([self._closing], timeout=_CLOSE_TIMEOUT)
        finally:
            self._closing.cancel()


def _running_loop() -> "asyncio.AbstractEventLoop | None":
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _disconnect() -> Message:
    return {"type": "websocket.disconnect", "code": _CODE, "reason": ""}


def _resumed(flow: Flow[None], need: Any) -> Flow[None]:
    """The rest of a flow that has already yielded its first need."""
    with contextlib.closing(flow):
        while True:
            failure: Exception | None = None
            answer = None
            try:
                answer = yield need
            except Exception as error:  # noqa: BLE001 (the flow's to handle)
                failure = error
            try:
                need = flow.send(answer) if failure is None else flow.throw(failure)
            except StopIteration:
                return
