"""Defines the operations that a flow can yield, and two drivers that carry them out: one blocks, and one awaits.

A flow is a generator that makes a decision. It yields an operation, such as `Fetch` or `Call`. The driver then sends
the result to the flow, or throws the exception into it. So the same decision code works under WSGI and ASGI.
"""

import contextlib
import inspect
import weakref
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
from mtls_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

    # Imported for type checkers only, because this module imports asyncio: see the comment at `_begin`.
    from mtls_middleware.effects.limits import Shares

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """Calls `function` with `arguments`. If the function raises an exception, the exception is thrown into the flow.

    Under ASGI, the function may be `async`. A function that does I/O should be `async` there, because a plain function
    blocks the event loop.
    """

    function: Callable[..., T | Awaitable[T]]
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Starts the exchange `fetch`. The flow continues without the result, which another flow reads later."""

    fetch: Fetch


@dataclass(frozen=True, slots=True)
class Wait(Generic[T]):
    """Waits at most `timeout` seconds for `outcome`, which a thread sets. After that, the flow gets `TimeoutError`."""

    outcome: "Future[T]"
    timeout: float


@dataclass(frozen=True, slots=True)
class FetchFor:
    """Performs an HTTP exchange on behalf of a client. `shares`: the limits on concurrent exchanges for that client."""

    fetch: Fetch
    shares: "Shares"


Need = Fetch | FetchFor | Begin | Call[Any] | Wait[Any]
Flow = Generator[Need, Any, T]


@overload
def ask(need: Fetch) -> Flow[Response]: ...
@overload
def ask(need: Begin) -> Flow[None]: ...
@overload
def ask(need: Call[T]) -> Flow[T]: ...
@overload
def ask(need: Wait[T]) -> Flow[T]: ...
def ask(need: Need) -> Flow[Any]:
    """Yield `need` from a flow, and return its typed result. Raises `FetchFailed` if a `Fetch` fails.

    Example: `response = yield from ask(Fetch(url, tls, 5, 65_536))`
    """
    return (yield need)


def on_behalf_of(client: Callable[[], "Shares"], flow: Flow[T]) -> Flow[T]:
    """Run `flow` inside another flow. Its exchanges over persistent connections count towards the limits of one client.

    `client`: a function that returns the limits (`Share`) of the client.

    Example: `token = yield from on_behalf_of(lambda: shares(certificate, address), flow)`
    """
    with contextlib.closing(flow):
        try:
            need = next(flow)
            while True:
                if isinstance(need, Fetch) and need.connections is not None:
                    need = FetchFor(need, client())
                try:
                    answer = yield need
                except Exception as failure:  # noqa: BLE001 (the flow handles it)
                    need = flow.throw(failure)
                else:
                    need = flow.send(answer)
        except StopIteration as stop:
            value: T = stop.value
            return value


class BlockingDriver:
    """Runs flows under WSGI. Blocks during I/O."""

    def run(self, flow: Flow[T]) -> T:
        """Run a flow, and return its result. Raises the exceptions of the flow."""
        with contextlib.closing(flow):
            try:
                need = next(flow)
                while True:
                    try:
                        answer = _perform(need)
                    except Exception as failure:  # noqa: BLE001 (the flow handles it)
                        need = flow.throw(failure)
                    else:
                        need = flow.send(answer)
            except StopIteration as stop:
                value: T = stop.value
                return value


# Maximum number of flows that begin in one iteration of an event loop. Each flow takes about 0.1 ms. If a server reads
# 500 requests at once, their flows must not block the loop for 50 ms.
_IN_ONE_TURN = 50


class AwaitingDriver:
    """Runs flows under ASGI. Awaits during I/O."""

    def __init__(self) -> None:
        # One count for each event loop, because a loop that ends before its next iteration must not delay another loop.
        self._in_this_turn: weakref.WeakKeyDictionary[AbstractEventLoop, int] = weakref.WeakKeyDictionary()

    async def _my_turn(self) -> None:
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # without a running asyncio loop, the caller uses another event loop, such as trio's
            return
        begun = self._in_this_turn
        while begun.get(loop, 0) >= _IN_ONE_TURN:  # noqa: ASYNC110 (each sleep is one iteration of the loop)
            await asyncio.sleep(0)
        if loop not in begun:
            loop.call_soon(begun.pop, loop)  # this callback runs in the next iteration, before the flows that wait
        begun[loop] = begun.get(loop, 0) + 1

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow, and return its result. Raises the exceptions of the flow."""
        with contextlib.closing(flow):
            await self._my_turn()
            try:
                need = next(flow)
                while True:
                    try:
                        answer = await _perform_async(need)
                    except Exception as failure:  # noqa: BLE001 (the flow handles it)
                        need = flow.throw(failure)
                    else:
                        need = flow.send(answer)
            except StopIteration as stop:
                value: T = stop.value
                return value


def _perform(need: Need) -> Any:
    match need:
        case Fetch():
            return _fetch(need, ())
        case FetchFor():
            return _fetch(need.fetch, need.shares)
        case Begin():
            return _begin(need.fetch)
        case Call():
            return _call(need)
        case Wait():
            return need.outcome.result(need.timeout)


async def _perform_async(need: Need) -> Any:
    match need:
        case Fetch():
            return await _fetch_async(need, ())
        case FetchFor():
            return await _fetch_async(need.fetch, need.shares)
        case Begin():
            return await _begin_async(need.fetch)
        case Call():
            return await _call_async(need)
        case Wait():
            return await _result_of(need.outcome, need.timeout)


# asyncio is imported only at the first exchange, because its import takes as long as that of this whole package, and
# many applications make no exchanges.
def _begin(need: Fetch) -> None:
    from mtls_middleware.effects.background import begin

    begin(need)


async def _begin_async(need: Fetch) -> None:
    import asyncio

    from mtls_middleware.effects.background import begin

    begin(need, asyncio.get_running_loop())


def _fetch(need: Fetch, of: "Shares") -> Response:
    from mtls_middleware.effects.background import waiting

    with waiting(need, of) as seconds:
        try:
            return need.outcome.result(seconds)
        except (FetchFailed, TimeoutError) as failure:
            raise _own_failure(failure, seconds) from None


async def _result_of(outcome: "Future[T]", timeout: float) -> T:  # noqa: ASYNC109 (the timeout of `Future.result`)
    import asyncio

    async with asyncio.timeout(timeout):
        return await asyncio.wrap_future(outcome)


async def _fetch_async(need: Fetch, of: "Shares") -> Response:
    import asyncio

    from mtls_middleware.effects.background import waiting

    with waiting(need, of, asyncio.get_running_loop()) as seconds:
        try:
            return await _result_of(need.outcome, seconds)
        except (FetchFailed, TimeoutError) as failure:
            raise _own_failure(failure, seconds) from None


def _own_failure(failure: Exception, seconds: float) -> FetchFailed:
    """Return a new exception for `failure`, which the callers that share an exchange also get."""
    return failure.copy() if isinstance(failure, FetchFailed) else FetchFailed(f"not complete within {seconds} s")


def _call(call: Call[T]) -> T:
    answer = call.function(*call.arguments)
    if not inspect.isawaitable(answer):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise ConfigurationError(f"{call.function!r} is async, and WSGI cannot await: expected a plain function")


async def _call_async(call: Call[T]) -> T:
    answer = call.function(*call.arguments)
    if inspect.isawaitable(answer):
        awaited: T = await answer
        return awaited
    return answer
