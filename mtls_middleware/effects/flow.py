"""What a flow may ask for, and the two drivers that answer: one blocks, one awaits.

A flow is a generator of decisions. It yields a `Fetch` or a `Call` and is resumed with the answer, or with the failure
thrown into it. Must never know: what is asked for, or why. Neither driver decides anything, so each decision is written
once.
"""

import contextlib
import inspect
import weakref
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
from mtls_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from mtls_middleware.effects.limits import Shares  # which needs asyncio, see below

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """Call a user's hook, a function or `async def` (under ASGI alone). Whatever it raises goes through the flow.

    A function that does I/O blocks the event loop under ASGI: give an `async def` there.
    """

    function: Callable[..., T | Awaitable[T]]
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin this exchange, and go on without its outcome: somebody asks for that later."""

    fetch: Fetch


@dataclass(frozen=True, slots=True)
class FetchFor:
    """Make this exchange for a client, which has only its shares of the exchanges with that server."""

    fetch: Fetch
    shares: "Shares"


Need = Fetch | FetchFor | Begin | Call[Any]
Flow = Generator[Need, Any, T]
# A decision that needs nothing is made at once; only one that may have to ask is a flow. Most requests ask for nothing.
Decision: TypeAlias = T | Flow[T]


@overload
def ask(need: Fetch) -> Flow[Response]: ...
@overload
def ask(need: Begin) -> Flow[None]: ...
@overload
def ask(need: Call[T]) -> Flow[T]: ...
def ask(need: Need) -> Flow[Any]:
    """Yield `need` from a flow, with its answer typed. Raises `FetchFailed` where a `Fetch` does not come about.

    Example: `response = yield from ask(Fetch(url, tls, 5, 65_536))`
    """
    return (yield need)


def settled(decision: Decision[T]) -> Flow[T]:
    """Within a flow, what a decision comes to. Example: `token = yield from settled(tokens.validate(text, now))`"""
    if isinstance(decision, Generator):
        return (yield from decision)
    return decision


def on_behalf_of(client: Callable[[], "Shares"], flow: Flow[T]) -> Flow[T]:
    """The same flow, whose exchanges over kept connections count as those of one client.

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

    @overload
    def run(self, decision: Flow[T]) -> T: ...
    @overload
    def run(self, decision: T) -> T: ...
    def run(self, decision: Any) -> Any:
        """What a decision comes to, made at once or by way of its needs."""
        if not isinstance(decision, Generator):
            return decision
        with contextlib.closing(decision) as flow:
            try:
                need = next(flow)
                while True:
                    try:
                        answer = _answer(need)
                    except Exception as failure:  # noqa: BLE001 (the flow's to handle)
                        need = flow.throw(failure)
                    else:
                        need = flow.send(answer)
            except StopIteration as stop:
                return stop.value


# So many flows begin in one turn of an event loop: what is behind them costs a tenth of a millisecond each, and five
# hundred requests that a server reads at once would hold up everything else for as long as all of them take.
_IN_ONE_TURN = 50


class AwaitingDriver:
    """Runs flows for ASGI."""

    def __init__(self) -> None:
        # For each event loop: one that ends before its next turn must not hold up another one.
        self._in_this_turn: weakref.WeakKeyDictionary[AbstractEventLoop, int] = weakref.WeakKeyDictionary()

    async def _my_turn(self) -> None:
        import asyncio

        loop, begun = asyncio.get_running_loop(), self._in_this_turn
        while begun.get(loop, 0) >= _IN_ONE_TURN:  # noqa: ASYNC110 (turns are what is waited for)
            await asyncio.sleep(0)
        if loop not in begun:
            loop.call_soon(begun.pop, loop)  # the next turn: runs before the flows that wait in this one
        begun[loop] = begun.get(loop, 0) + 1

    @overload
    async def run(self, decision: Flow[T]) -> T: ...
    @overload
    async def run(self, decision: T) -> T: ...
    async def run(self, decision: Any) -> Any:
        """What a decision comes to, made at once or by way of its needs."""
        if not isinstance(decision, Generator):
            return decision
        with contextlib.closing(decision) as flow:
            await self._my_turn()
            try:
                need = next(flow)
                while True:
                    try:
                        answer = await _answer_async(need)
                    except Exception as failure:  # noqa: BLE001 (the flow's to handle)
                        need = flow.throw(failure)
                    else:
                        need = flow.send(answer)
            except StopIteration as stop:
                return stop.value


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


# asyncio takes as long to import as all of ours together, and many applications fetch nothing: it comes with the first
# exchange.
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
    """The failure for one asker: an exception that many threads raised at once would gather all their tracebacks."""
    if isinstance(failure, FetchFailed):
        return FetchFailed(*failure.args, again=failure.again)
    return FetchFailed(f"not complete within {need.timeout} s")


def _called(call: Call[T]) -> T:
    answer = call.function(*call.arguments)
    if not inspect.isawaitable(answer):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise ConfigurationError(f"{call.function!r} is async, and WSGI cannot await: give a plain function")


async def _called_async(call: Call[T]) -> T:
    answer = call.function(*call.arguments)
    if inspect.isawaitable(answer):
        awaited: T = await answer
        return awaited
    return answer
