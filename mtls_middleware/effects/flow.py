"""What a flow may request, and the two drivers that carry it out: one blocks, one awaits.

A flow is a generator that makes a decision. It yields a need, such as `Fetch` or `Call`, and the driver resumes it with
the result, or throws the failure into it. The drivers decide nothing, so each decision is written once.
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

    from mtls_middleware.effects.limits import Shares  # which needs asyncio, see below

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """Call a function, which may be `async` under ASGI. An exception that it raises is thrown into the flow.

    Under ASGI, a plain function that does I/O blocks the event loop: use an `async` function there.
    """

    function: Callable[..., T | Awaitable[T]]
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin this exchange and continue without its outcome, which another flow reads later."""

    fetch: Fetch


@dataclass(frozen=True, slots=True)
class FetchFor:
    """Make this exchange on behalf of a client, within the client's shares of the connections to that server."""

    fetch: Fetch
    shares: "Shares"


Need = Fetch | FetchFor | Begin | Call[Any]
Flow = Generator[Need, Any, T]


@overload
def ask(need: Fetch) -> Flow[Response]: ...
@overload
def ask(need: Begin) -> Flow[None]: ...
@overload
def ask(need: Call[T]) -> Flow[T]: ...
def ask(need: Need) -> Flow[Any]:
    """Yield `need` from a flow, and return its typed result. Raises `FetchFailed` if a `Fetch` fails.

    Example: `response = yield from ask(Fetch(url, tls, 5, 65_536))`
    """
    return (yield need)


def on_behalf_of(client: Callable[[], "Shares"], flow: Flow[T]) -> Flow[T]:
    """The same flow. Its exchanges over persistent connections count as exchanges of one client.

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
    """Runs flows for WSGI."""

    def run(self, flow: Flow[T]) -> T:
        """The result of a flow. Raises what the flow raises."""
        with contextlib.closing(flow):
            try:
                need = next(flow)
                while True:
                    try:
                        answer = _answer(need)
                    except Exception as failure:  # noqa: BLE001 (the flow handles it)
                        need = flow.throw(failure)
                    else:
                        need = flow.send(answer)
            except StopIteration as stop:
                value: T = stop.value
                return value


# Flows that begin in one iteration of an event loop. Each takes about 0.1 ms: if a server reads 500 requests at once,
# they must not block the loop for 50 ms.
_IN_ONE_TURN = 50


class AwaitingDriver:
    """Runs flows for ASGI."""

    def __init__(self) -> None:
        # Per event loop: a loop that ends before its next iteration must not delay another loop.
        self._in_this_turn: weakref.WeakKeyDictionary[AbstractEventLoop, int] = weakref.WeakKeyDictionary()

    async def _my_turn(self) -> None:
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # another event loop, such as trio's
            return
        begun = self._in_this_turn
        while begun.get(loop, 0) >= _IN_ONE_TURN:  # noqa: ASYNC110 (each sleep is one iteration of the loop)
            await asyncio.sleep(0)
        if loop not in begun:
            loop.call_soon(begun.pop, loop)  # the next iteration: runs before the flows that wait
        begun[loop] = begun.get(loop, 0) + 1

    async def run(self, flow: Flow[T]) -> T:
        """The result of a flow. Raises what the flow raises."""
        with contextlib.closing(flow):
            await self._my_turn()
            try:
                need = next(flow)
                while True:
                    try:
                        answer = await _answer_async(need)
                    except Exception as failure:  # noqa: BLE001 (the flow handles it)
                        need = flow.throw(failure)
                    else:
                        need = flow.send(answer)
            except StopIteration as stop:
                value: T = stop.value
                return value


def _answer(need: Need) -> Any:
    match need:
        case Fetch():
            return _fetched(need, ())
        case FetchFor():
            return _fetched(need.fetch, need.shares)
        case Begin():
            return _begin(need.fetch, ())
        case Call():
            return _called(need)


async def _answer_async(need: Need) -> Any:
    match need:
        case Fetch():
            return await _fetched_async(need, ())
        case FetchFor():
            return await _fetched_async(need.fetch, need.shares)
        case Begin():
            return await _begin_async(need.fetch, ())
        case Call():
            return await _called_async(need)


# asyncio takes as long to import as this whole package, and many applications fetch nothing: the first exchange imports
# it.
def _begin(need: Fetch, of: "Shares") -> None:
    from mtls_middleware.effects.background import begin

    begin(need, shares=of)


async def _begin_async(need: Fetch, of: "Shares") -> None:
    import asyncio

    from mtls_middleware.effects.background import begin

    begin(need, asyncio.get_running_loop(), shares=of)


def _fetched(need: Fetch, of: "Shares") -> Response:
    _begin(need, of)
    try:
        return need.outcome.result(need.timeout)
    except (FetchFailed, TimeoutError) as failure:
        raise _own(failure, need) from None


async def _fetched_async(need: Fetch, of: "Shares") -> Response:
    import asyncio

    await _begin_async(need, of)
    try:
        async with asyncio.timeout(need.timeout):
            return await asyncio.wrap_future(need.outcome)
    except (FetchFailed, TimeoutError) as failure:
        raise _own(failure, need) from None


def _own(failure: Exception, need: Fetch) -> FetchFailed:
    """The failure as a new exception: one exception that many threads raise would collect all their tracebacks."""
    if isinstance(failure, FetchFailed):
        return FetchFailed(*failure.args, again=failure.again)
    return FetchFailed(f"not complete within {need.timeout} s")


def _called(call: Call[T]) -> T:
    answer = call.function(*call.arguments)
    if not inspect.isawaitable(answer):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise ConfigurationError(f"{call.function!r} is async, and WSGI cannot await: expected a plain function")


async def _called_async(call: Call[T]) -> T:
    answer = call.function(*call.arguments)
    if inspect.isawaitable(answer):
        awaited: T = await answer
        return awaited
    return answer
