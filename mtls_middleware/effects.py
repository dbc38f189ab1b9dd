"""What a flow may ask for, and the two drivers that answer: one blocks, one awaits.

A flow is a generator of decisions. It yields a `Fetch` and is resumed with a `Response`, or with `FetchFailed` thrown
into it. Must never know: what is fetched, or why. Neither driver decides anything, so each decision is written once.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


def _pending() -> "Future[Response]":
    outcome: Future[Response] = Future()
    outcome.set_running_or_notify_cancel()  # so that nobody who stops waiting can cancel it for the others
    return outcome


@dataclass(frozen=True, slots=True, eq=False)
class Fetch:
    """GET this address: whole answer within `timeout` seconds and `limit` bytes, no redirect followed.

    One object is one exchange: flows that yield the same one, in any thread or event loop, early or late, share its
    outcome, and nobody who goes away takes it from the others.
    """

    url: str
    tls: ssl.SSLContext
    timeout: float
    limit: int
    outcome: "Future[Response]" = field(default_factory=_pending, init=False, repr=False)
    _unclaimed: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def claim(self) -> bool:
        """Whether the caller is the first, who has to begin the exchange."""
        return self._unclaimed.acquire(blocking=False)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back; `body` is complete."""

    status: int
    body: bytes


class FetchFailed(Exception):  # noqa: N818 (an outcome that a flow handles, named like one)
    """No complete answer: refused, unreachable, too slow, too large. The text is for the operator's log."""


Flow = Generator[Fetch, Response, T]


def ask(need: Fetch) -> Flow[Response]:
    """Yield `need` from a flow, with its answer typed.

    Example: `response = yield from ask(Fetch(url, tls, 5, 65_536))`
    """
    return (yield need)


class BlockingDriver:
    """Runs flows for WSGI."""

    def run(self, flow: Flow[T]) -> T:
        with contextlib.closing(flow):
            try:
                need = next(flow)
                while True:
                    try:
                        response = _answer(need)
                    except FetchFailed as failure:
                        need = flow.throw(failure)
                    else:
                        need = flow.send(response)
            except StopIteration as stop:
                result: T = stop.value
                return result


class AwaitingDriver:
    """Runs flows for ASGI."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()  # an event loop alone would let go of them

    async def run(self, flow: Flow[T]) -> T:
        with contextlib.closing(flow):
            try:
                need = next(flow)
                while True:
                    try:
                        response = await self._answer(need)
                    except FetchFailed as failure:
                        need = flow.throw(failure)
                    else:
                        need = flow.send(response)
            except StopIteration as stop:
                result: T = stop.value
                return result

    async def _answer(self, need: Fetch) -> Response:
        if need.claim():
            task = asyncio.create_task(_exchange_async(need))  # a task of its own: its asker may be cancelled
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        try:
            async with asyncio.timeout(need.timeout):
                return await asyncio.wrap_future(need.outcome)
        except (FetchFailed, TimeoutError) as failure:
            raise _own(failure, need) from None


def _answer(need: Fetch) -> Response:
    if need.claim():
        # A thread of its own: a look-up of the name, or header fields that drip, would outlast every timeout in it.
        threading.Thread(target=_exchange, args=(need,), name="mtls-middleware fetch", daemon=True).start()
    try:
        return need.outcome.result(need.timeout)
    except (FetchFailed, TimeoutError) as failure:
        raise _own(failure, need) from None


def _own(failure: Exception, need: Fetch) -> FetchFailed:
    """The failure for one asker: an exception that many threads raised at once would gather all their tracebacks."""
    if isinstance(failure, FetchFailed):
        return FetchFailed(*failure.args)
    return FetchFailed(f"not complete within {need.timeout} s")


def _exchange(need: Fetch) -> None:
    try:
        need.outcome.set_result(_get(need))
    except BaseException as failure:  # noqa: BLE001 (whoever waits is told)
        need.outcome.set_exception(failure)


async def _exchange_async(need: Fetch) -> None:
    try:
        need.outcome.set_result(await _get_async(need))
    except asyncio.CancelledError:  # the event loop ends
        need.outcome.set_exception(FetchFailed("given up, the event loop ends"))
        raise
    except Exception as failure:  # noqa: BLE001 (whoever waits is told)
        need.outcome.set_exception(failure)


def _get(need: Fetch) -> Response:
    import httpx2

    deadline = time.monotonic() + need.timeout
    body = _Body(need)
    try:
        with (
            httpx2.Client(verify=need.tls, timeout=need.timeout, trust_env=False) as client,
            client.stream("GET", need.url, headers=_HEADERS) as response,
        ):
            for chunk in response.iter_bytes():
                body.add(chunk, late=time.monotonic() > deadline)
            return body.response(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise FetchFailed(type(error).__name__) from error


async def _get_async(need: Fetch) -> Response:
    import httpx2

    body = _Body(need)
    try:
        async with (
            asyncio.timeout(need.timeout),
            httpx2.AsyncClient(verify=need.tls, timeout=need.timeout, trust_env=False) as client,
            client.stream("GET", need.url, headers=_HEADERS) as response,
        ):
            async for chunk in response.aiter_bytes():
                body.add(chunk, late=False)
            return body.response(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:  # OSError holds TimeoutError
        raise FetchFailed(type(error).__name__) from error


# "identity": a compressed answer could unfold past the limit between two looks at it.
_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class _Body:
    """The bytes of one answer while they arrive, within the limits of its `Fetch`."""

    def __init__(self, need: Fetch) -> None:
        self._need = need
        self._bytes = bytearray()

    def add(self, chunk: bytes, *, late: bool) -> None:
        self._bytes += chunk
        if len(self._bytes) > self._need.limit:
            raise FetchFailed(f"more than {self._need.limit} bytes")
        if late:
            raise FetchFailed(f"not complete within {self._need.timeout} s")

    def response(self, response: "httpx2.Response") -> Response:
        return Response(response.status_code, bytes(self._bytes))
