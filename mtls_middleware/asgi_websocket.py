"""`WebsocketWatch`: closes an open websocket when its certificate or token is no longer valid.

The watch makes the checks that the layers provide. Each websocket has one timer, and a task only while a check needs
I/O.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from mtls_middleware.asgi_messages import Message, Receive, Send
from mtls_middleware.effects.flow import AwaitingDriver, Flow
from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.layers.decisions import record_closed
from mtls_middleware.layers.interface import Layer, LayerRequest
from mtls_middleware.layers.websocket_lifetime import Recheck

if TYPE_CHECKING:
    import asyncio

Checks = Sequence[tuple[Layer, Recheck]]

# Seconds between two checks of one websocket. The documentation promises that a websocket is closed within two seconds,
# so a busy event loop may delay a check by one second. A single timer for the end of the validity period would not
# notice that the clock was set, or that a virtual machine was suspended.
_INTERVAL = 1.0
# Maximum number of seconds for a check with I/O. After that, the websocket is closed. It is enough for six exchanges of
# five seconds.
_CHECK_TIMEOUT = 35.0
# Seconds for the close message after the application has ended. A client that does not read can delay it.
_CLOSE_TIMEOUT = 10.0
_CODE = 1008  # RFC 6455 7.4.1: policy violation
# The close code if the server cannot send 1008: "Forbidden" in IANA's registry. daphne's websocket library does not let
# applications send 1008.
_FALLBACK_CODE = 3003
# The messages with which an application ends a websocket.
_FINAL_MESSAGES = ("websocket.close", "websocket.http.response.start")


def watched(
    view: LayerRequest, checks: Checks, receive: Receive, send: Send, driver: AwaitingDriver
) -> "WebsocketWatch | None":
    """Return a watch that makes these checks.

    Returns `None` if `checks` is empty, or if the watch of an outer gateway makes the checks.
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
    """One check of an open websocket. `running`: its task while it needs I/O. The other checks do not wait for it."""

    __slots__ = ("layer", "recheck", "running", "view")

    def __init__(self, view: LayerRequest, layer: Layer, recheck: Recheck) -> None:
        self.view, self.layer, self.recheck = view, layer, recheck
        self.running: asyncio.Task[None] | None = None


class WebsocketWatch:
    """Passes the messages of one websocket between server and application, and closes the websocket if a check fails.

    `closed`: whether the watch has closed the websocket. The timer needs asyncio. Under another event loop, for example
    trio, the checks are made at each message, so that no message passes after a check has failed.
    """

    def __init__(self, receive: Receive, send: Send, driver: AwaitingDriver) -> None:
        self._receive, self._send, self._driver = receive, send, driver
        self._loop = _running_loop()
        self._checks: list[_Check] = []
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Timeout] = set()  # the timeouts of the receive() calls that are waiting
        self._closing: asyncio.Task[None] | None = None
        self._connected = self._ended = False
        self.closed: bool = False

    def add(self, view: LayerRequest, checks: Checks) -> None:
        """Add checks. They are made for the first time within a second."""
        self._checks += [_Check(view, layer, recheck) for layer, recheck in checks]

    async def run(self, app: Callable[..., Awaitable[None]], scope: MutableMapping[str, Any]) -> None:
        """Call the application. Cancels all timers and tasks when the application returns or raises an exception."""
        self._set_timer()
        try:
            await app(scope, self.receive, self.send)
        finally:
            self._end()
            await self._wait_for_close()

    async def receive(self) -> Message:
        """Return the next message for the application. After the close, it is always `websocket.disconnect`."""
        if not self._connected:  # frameworks expect websocket.connect first, even for a closed websocket
            message = await self._receive()
            self._connected = True
            return message
        if self.closed:
            await self._yield_to_loop()  # let other tasks run, even if the application ignores the disconnect in a loop
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
        """Pass a message to the server. After the close, messages are dropped."""
        await self._check_without_timer()
        if self.closed:
            await self._yield_to_loop()  # let other tasks run, even if the application sends in a loop
            return
        if message["type"] not in _FINAL_MESSAGES:
            await self._send(message)
            return
        self._end()
        try:
            await self._send(message)
        except BaseException:
            self._resume()  # the message was not sent, so the websocket is still open
            raise

    async def _yield_to_loop(self) -> None:
        if self._loop is not None:
            import asyncio

            await asyncio.sleep(0)

    async def _check_without_timer(self) -> None:
        if self._loop is None and not self._ended:
            self._tick()
            if self.closed:
                await self._send_close()

    def _set_timer(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(_INTERVAL, self._tick)

    def _end(self) -> None:
        """Stop the checks, and cancel a check that is in progress."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        for check in self._checks:
            if check.running is not None:
                check.running.cancel()

    def _resume(self) -> None:
        """Start the checks again."""
        if not self.closed:
            self._ended = False
            self._set_timer()

    def _tick(self) -> None:
        now = time.time()
        for check in self._checks:
            try:
                found = check.recheck(now)
                if isinstance(found, Generator):
                    self._begin(check, found)
            except BaseException as error:  # if a check raises any exception, the websocket is closed
                self._close(check, error)
                if not isinstance(error, Exception):
                    raise
                return
        self._set_timer()

    def _begin(self, check: _Check, flow: Flow[None]) -> None:
        """Run a check. If the check needs I/O, it continues in a task.

        While this task runs, the same check is not started again.
        """
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
                "a check of an open websocket needs I/O, for which this library needs asyncio: use an asyncio worker, "
                "or give websocket_lifetime='connection'"
            )
        check.running = self._loop.create_task(self._decide(check, _resumed(flow, need)))

    async def _decide(self, check: _Check, flow: Flow[None]) -> None:
        import asyncio

        limit = asyncio.timeout(_CHECK_TIMEOUT)
        try:
            async with limit:
                await self._driver.run(flow)
        except BaseException as error:  # fail closed, as in `_tick`
            if not self._ended:
                reason = f"a check of the websocket did not complete within {_CHECK_TIMEOUT:g} s"
                self._close(check, Unavailable(reason, retry_after=1) if limit.expired() else error)
            if not isinstance(error, Exception):
                raise

    def _close(self, check: _Check, error: BaseException) -> None:
        self.closed = True
        self._end()
        if self._loop is not None:
            self._closing = self._loop.create_task(self._send_close())
            for waiting in self._waiting:
                waiting.reschedule(self._loop.time())
        logged = error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
        record_closed(check.layer, logged, check.view)

    async def _send_close(self) -> None:
        for code in (_CODE, _FALLBACK_CODE):
            with contextlib.suppress(Exception):  # servers raise different exceptions if the client has disconnected
                await self._send({"type": "websocket.close", "code": code, "reason": ""})
                return

    async def _wait_for_close(self) -> None:
        """Wait until the close message is sent."""
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
    """Return a flow that first yields `need`, which `flow` has already yielded, and then continues `flow`."""
    with contextlib.closing(flow):
        while True:
            failure: Exception | None = None
            result = None
            try:
                result = yield need
            except Exception as error:  # noqa: BLE001 (passed to the flow, which handles it)
                failure = error
            try:
                need = flow.send(result) if failure is None else flow.throw(failure)
            except StopIteration:
                return
