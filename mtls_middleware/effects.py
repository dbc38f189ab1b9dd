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
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetch:
    """GET this address: whole answer within `timeout` seconds and `limit` bytes, no redirect followed."""

    url: str
    tls: ssl.SSLContext
    timeout: float
    limit: int


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
    """Runs flows for WSGI. Threads that want the same address at the same time share one exchange."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Response]] = {}

    def run(self, flow: Flow[T]) -> T:
        with contextlib.closing(flow):
            try:
                need = next(flow)
                while True:
                    try:
                        response = self._answer(need)
                    except FetchFailed as failure:
                        need = flow.throw(failure)
                    else:
                        need = flow.send(response)
            except StopIteration as stop:
                result: T = stop.value
                return result

    def _answer(self, need: Fetch) -> Response:
        with self._lock:
            shared = self._under_way.get(need.url)
            if shared is None:
                mine = self._under_way[need.url] = Future()
        if shared is not None:
            return shared.result()
        try:
            mine.set_result(_exchange(need))
        except BaseException as failure:
            mine.set_exception(failure)
            raise
        finally:
            with self._lock:
                del self._under_way[need.url]
        return mine.result()


class AwaitingDriver:
    """Runs flows for ASGI. Tasks of one event loop that want the same address at the same time share one exchange."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Task[Response]] = {}

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
        key = (asyncio.get_running_loop(), need.url)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(_exchange_async(need))
            task.add_done_callback(lambda done: self._forget(key, done))
        # Shielded: the first asker may be cancelled by its client, the others still wait for the answer.
        return await asyncio.shield(task)

    def _forget(self, key: tuple[asyncio.AbstractEventLoop, str], task: asyncio.Task[Response]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # marks it as seen where every asker has gone away


def _exchange(need: Fetch) -> Response:
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
        raise FetchFailed(f"{need.url}: {type(error).__name__}") from error


async def _exchange_async(need: Fetch) -> Response:
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
        raise FetchFailed(f"{need.url}: {type(error).__name__}") from error


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
            raise FetchFailed(f"{self._need.url}: more than {self._need.limit} bytes")
        if late:
            raise FetchFailed(f"{self._need.url}: not complete within {self._need.timeout} s")

    def response(self, response: "httpx2.Response") -> Response:
        return Response(response.status_code, bytes(self._bytes))
