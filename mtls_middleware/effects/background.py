"""Runs all HTTP exchanges of a process on one background thread with its own event loop.

Callers in threads or event loops only wait for the result. So 500 concurrent exchanges do not need 500 threads, and do
not block the event loop of an application. If the thread ends by an exception, the next exchange starts a new thread.
"""

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mtls_middleware.effects.exchange import Connections, Fetch, FetchFailed, Response, exchange, fetch_failed
from mtls_middleware.effects.exchange_log import log
from mtls_middleware.effects.limits import ConcurrencyLimit, Share, Shares, client_of
from mtls_middleware.effects.name_lookups import LIMITS_ADVICE, ClientNameLookups, NameLookupThreads, zone_of_url
from mtls_middleware.effects.upstream import MAX_EXCHANGES, QUEUE_TIMEOUT, Upstream, new_transport, seconds_to_wait

# Maximum number of concurrent exchanges with hosts in one DNS zone, such as `example.com`, if clients choose the URLs.
_MAX_ZONE_EXCHANGES = 10
# Maximum number of seconds to close the connections when the thread ends.
_CLOSE_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class _Job:
    """An exchange to make. `upstream`: `None` for an exchange over a new connection."""

    fetch: Fetch
    shares: Shares = ()
    upstream: Upstream | None = None
    is_probe: bool = False


def begin(fetch: Fetch, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Start the exchange `fetch`, unless another caller has started it. The future `fetch.outcome` gets the result.

    Until then, an exchange over a persistent connection counts as a request that waits for its server. If the server
    stalls, or if too many requests wait for it, the result is a `FetchFailed` with `retry_after`.

    `loop`: the event loop of the caller. The exchange starts after the current iteration of this loop. So the
    background thread does not slow down the loop while it handles hundreds of requests in one iteration.
    """
    is_first = fetch.claim()
    try:
        background = _current_background()
        if is_first:
            background.add(_counted_job(fetch, background))
    except Exception as failure:  # noqa: BLE001 (for example, no thread can be started: a failed exchange)
        if is_first:
            fetch.outcome.set_exception(fetch_failed(failure))
    else:
        background.wake(loop)


def _counted_job(fetch: Fetch, background: "_Background") -> _Job:
    """Return the job for an exchange without a caller that waits. Raises `FetchFailed` as `waiting` does."""
    if fetch.connections is None:
        return _Job(fetch)
    upstream, client = background.upstream(fetch.connections), client_of(())
    admission = upstream.enter(fetch, client)
    fetch.outcome.add_done_callback(lambda _: upstream.leave(client))
    return _Job(fetch, (), upstream, admission.is_probe)


@contextlib.contextmanager
def waiting(fetch: Fetch, shares: Shares, loop: asyncio.AbstractEventLoop | None = None) -> Iterator[float]:
    """Start the exchange `fetch`, and count the caller while it waits.

    The value of the context manager is the number of seconds for which the caller may wait. `shares`: the limits of
    concurrent exchanges for the client that caused the exchange. Raises `FetchFailed` if the server of a persistent
    connection stalls, or if too many requests wait for it.
    """
    if fetch.connections is None:
        begin(fetch, loop)
        yield seconds_to_wait(fetch)
        return
    background = _current_background()
    upstream, client = background.upstream(fetch.connections), client_of(shares)
    admission = upstream.enter(fetch, client)
    try:
        background.begin(_Job(fetch, shares, upstream, admission.is_probe), loop)
        yield admission.seconds
    finally:
        upstream.leave(client)


class _Background:
    """The background thread, its event loop, the exchanges in progress, and the connections to each server.

    Raises for example `OSError` or `RuntimeError` if the process has too many open files or threads.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.has_ended = False
        self._lock = threading.Lock()  # protects `has_ended`, `_unfinished` and `_upstreams`
        self._queue: deque[_Job] = deque()
        self._unfinished: set[Fetch] = set()
        # The event loops of callers that have scheduled a call of `_wake_from` for their next iteration. The references
        # are weak, because a loop may end before this call.
        self._waking_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        # Strong references, because an event loop keeps only weak references to its tasks.
        self._tasks: set[asyncio.Task[None]] = set()
        self._upstreams: weakref.WeakKeyDictionary[Connections, Upstream] = weakref.WeakKeyDictionary()
        self._released: list[Upstream] = []  # the servers whose connections must be closed; list operations are atomic
        # Limits how many exchanges with servers that clients choose run at the same time, in the whole process.
        self._client_chosen = ConcurrencyLimit(MAX_EXCHANGES)
        self._names = ClientNameLookups()
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_default_executor(NameLookupThreads())
        try:
            threading.Thread(target=self._run, name="mtls-middleware exchanges", daemon=True).start()
        except BaseException:
            self._loop.close()
            raise

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        except BaseException as failure:  # noqa: BLE001 (for example `SystemExit` in a task, or a log handler that fails)
            self._fail_all(f"the thread for exchanges ended by {type(failure).__name__}")
            _log_defect("the thread for exchanges ended, and the next exchange starts a new one", failure)
        else:
            self._fail_all("the process ends")
        with contextlib.suppress(BaseException):
            self._loop.run_until_complete(asyncio.wait_for(self._close_all(), _CLOSE_TIMEOUT))
        with contextlib.suppress(BaseException):
            self._loop.close()

    def _fail_all(self, reason: str) -> None:
        """End all exchanges, and reject further exchanges."""
        with self._lock:
            self.has_ended = True
            unfinished = list(self._unfinished)
            self._queue.clear()
        for fetch in unfinished:
            with contextlib.suppress(BaseException):
                self._finish(fetch, FetchFailed(reason))

    def upstream(self, connections: Connections) -> Upstream:
        """Return the server of these connections. This method is thread-safe."""
        with self._lock:
            upstream = self._upstreams.get(connections)
            if upstream is None:
                upstream = self._upstreams[connections] = Upstream(connections)
                weakref.finalize(connections, self._close, upstream).atexit = False
            return upstream

    def begin(self, job: _Job, loop: asyncio.AbstractEventLoop | None) -> None:
        """Start an exchange, unless another caller has started it. This method is thread-safe. `loop`: see `wake`."""
        if job.fetch.claim():
            self.add(job)
        self.wake(loop)

    def add(self, job: _Job) -> None:
        """Add an exchange to the queue, after the caller has claimed it. This method is thread-safe."""
        with self._lock:
            self._unfinished.add(job.fetch)
            has_ended = self.has_ended
            if not has_ended:
                self._queue.append(job)
        if has_ended:
            self._finish(job.fetch, FetchFailed("the thread for exchanges has ended"))

    def wake(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Start the queued exchanges after the current iteration of `loop`, or at once if `loop` is `None`.

        To wake the background loop takes a system call, so it is done once for all exchanges of an iteration. If a loop
        ends before that, its exchanges start with the next exchange of another caller. This method is thread-safe.
        """
        if not self._queue:
            return
        if loop is None:
            self._wake()
        elif loop not in self._waking_loops:
            self._waking_loops.add(loop)
            loop.call_soon(self._wake_from, loop)

    def _wake_from(self, loop: asyncio.AbstractEventLoop) -> None:
        # Remove the caller's loop first, so that an exchange that is added from now on wakes the background loop again.
        self._waking_loops.discard(loop)
        self._wake()

    def _wake(self) -> None:
        # RuntimeError means that the loop is closed and all exchanges have failed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._start_queued)

    def _start_queued(self) -> None:
        while self._queue:
            job = self._queue.popleft()
            try:
                self._start(self._make(job))
            except BaseException as failure:  # noqa: BLE001 (for example `MemoryError`; the other exchanges must start)
                self._finish(job.fetch, FetchFailed(type(failure).__name__))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, job: _Job) -> None:
        """Make an exchange. The callers that wait for it get the response, or `FetchFailed`."""
        found: Response | FetchFailed
        try:
            found = await self._response(job)
        except FetchFailed as failure:
            found = failure.copy()
        except TimeoutError:
            found = FetchFailed(f"not complete within {job.fetch.timeout} s")
        except asyncio.CancelledError:
            found = FetchFailed("cancelled, because the process ends")
        except BaseException as failure:  # noqa: BLE001 (a defect of the HTTP client, or for example `MemoryError`)
            # No variable keeps `failure`: its traceback would keep this frame in memory.
            found = FetchFailed(type(failure).__name__)
            self._finish(job.fetch, found)  # before anything else can fail
            _log_defect(f"an exchange with {job.fetch.url} failed", failure)
        self._finish(job.fetch, found)

    def _finish(self, fetch: Fetch, found: Response | FetchFailed) -> None:
        """Give the result to the callers, unless they already have a result."""
        with self._lock:
            if fetch not in self._unfinished:
                return
            self._unfinished.remove(fetch)
        if isinstance(found, FetchFailed):
            fetch.outcome.set_exception(found)
        else:
            fetch.outcome.set_result(found)

    async def _response(self, job: _Job) -> Response:
        # httpx2 protects its clean-up only from a cancellation by anyio. A cancellation by asyncio would leak
        # connections.
        import anyio

        fetch = job.fetch
        with anyio.fail_after(fetch.timeout):
            if job.upstream is not None:
                fail = partial(self._finish, fetch)
                return await job.upstream.response(fetch, job.shares, self._names, fail, is_probe=job.is_probe)
            async with contextlib.AsyncExitStack() as held:
                if not fetch.allow_private:
                    shares = (Share(zone_of_url(fetch.url), _MAX_ZONE_EXCHANGES),)
                    await held.enter_async_context(self._client_chosen.slot(shares, QUEUE_TIMEOUT * fetch.timeout))
                transport = await held.enter_async_context(new_transport(fetch.tls, fetch.proxy))
                return await exchange(fetch, transport, self._names)

    def _close(self, upstream: Upstream) -> None:
        """Close the connections to a server. Any thread may call this.

        A forked child does not close the connections of its parent.
        """
        if self.process != os.getpid():
            _inherited.append(upstream)
            return
        self._released.append(upstream)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: self._start(self._close_released()))

    async def _close_released(self) -> None:
        for upstream in list(self._released):
            await upstream.close()
            with contextlib.suppress(ValueError):  # ValueError means that another task has already closed it
                self._released.remove(upstream)

    def end(self) -> None:
        """Cancel all exchanges, close the connections and end the thread. This blocks for at most a second."""
        if self.has_ended:
            return
        with contextlib.suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result(_CLOSE_TIMEOUT)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)

    async def _close_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with self._lock:
            self._released += self._upstreams.values()
        await self._close_released()


def _log_defect(event: str, failure: BaseException) -> None:
    """Log an unexpected exception, without its message, because the message may quote a secret."""
    lines = "".join(traceback.format_tb(failure.__traceback__))
    log(logging.ERROR, "%s: %s\n%s", event, type(failure).__name__, lines)


# A fork may happen while another thread holds the lock. The child process does not have this thread, so it gets a new
# lock.
_lock = threading.Lock()
_backgrounds: list[_Background] = []  # the last object belongs to this process, and the others belong to its parents
# References to a parent's objects, so that garbage collection does not close the parent's connections.
_inherited: list[object] = []


def _replace_lock() -> None:
    global _lock  # noqa: PLW0603 (the child has no other thread yet)
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)


def _current_background() -> _Background:
    """Return the `_Background` object of this process. It is created, with its thread, if none is running.

    Raises `FetchFailed` if no thread can be started.
    """
    with _lock:
        if _backgrounds and _backgrounds[-1].process == os.getpid() and not _backgrounds[-1].has_ended:
            return _backgrounds[-1]
        try:
            background = _Background()
        except Exception as failure:
            raise FetchFailed(f"no thread can be started for the exchange ({failure}); {LIMITS_ADVICE}") from failure
        if _backgrounds and _backgrounds[-1].has_ended:
            _backgrounds.pop()
        _backgrounds.append(background)
        return background


@atexit.register
def _end() -> None:
    if _backgrounds and _backgrounds[-1].process == os.getpid():
        _backgrounds[-1].end()
