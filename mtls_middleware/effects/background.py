"""Runs all HTTP exchanges of a process on one background thread with its own event loop.

Callers in threads or event loops only wait for the result. So 500 concurrent exchanges neither block the event loop of
an application nor need 500 threads.
"""

import asyncio
import atexit
import contextlib
import os
import ssl
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mtls_middleware.effects.exchange import Connections, Fetch, FetchFailed, Response, exchange
from mtls_middleware.effects.limits import ConcurrencyLimit, Share, Shares
from mtls_middleware.effects.name_lookups import ClientNameLookups, NameLookupThreads, zone_of_url

if TYPE_CHECKING:
    import httpx2

# Maximum number of concurrent exchanges with one server. Other exchanges wait in a queue. At most as many connections
# are kept open, because a new TLS connection costs more than the exchange itself.
_MAX_EXCHANGES = 50
# Maximum number of concurrent exchanges with hosts in one DNS zone, such as `example.com`, if clients choose the URLs.
_MAX_ZONE_EXCHANGES = 10
# Maximum fraction of its timeout that an exchange may spend in the queue. After that, too little time remains.
_QUEUE_TIMEOUT = 0.9
# Seconds that an idle connection is kept open. Node.js and uvicorn close idle connections after 5 seconds.
_KEEP_ALIVE = 5.0


def begin(fetch: Fetch, loop: asyncio.AbstractEventLoop | None = None, *, shares: Shares = ()) -> None:
    """Start the exchange `fetch`, unless another caller has started it. The future `fetch.outcome` gets the result.

    Arguments:
        loop: the event loop of the caller. The exchange starts after the current iteration of this loop. So the
            background thread does not slow down the loop while it handles hundreds of requests in one iteration.
        shares: the limits of concurrent exchanges for the client that caused the exchange.
    """
    background = _current_background()
    if fetch.claim():
        background.add(fetch, shares)
    background.wake_after_iteration(loop)


class _Background:
    """The background thread, its event loop, the exchanges in progress, and the connections to each server."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_default_executor(NameLookupThreads())
        self._queue: deque[tuple[Fetch, Shares]] = deque()
        # Event loops that wake the background loop after their current iteration. A loop may end before it does so.
        self._waking_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()  # an event loop keeps only weak references to tasks
        self._servers = _Servers()
        threading.Thread(target=self._run, name="mtls-middleware exchanges", daemon=True).start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def add(self, fetch: Fetch, shares: Shares) -> None:
        """Add an exchange to the queue. This method is thread-safe."""
        self._queue.append((fetch, shares))

    def wake_after_iteration(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Start the queued exchanges after the current iteration of `loop`, or at once if `loop` is `None`.

        All queued exchanges start, even those of a loop that has ended. Hundreds of exchanges in one iteration wake the
        background loop only once, because each wake-up is a system call.
        """
        if not self._queue:
            return
        if loop is None:
            self._wake()
        elif loop not in self._waking_loops:
            self._waking_loops.add(loop)
            loop.call_soon(self._wake_from, loop)

    def _wake_from(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waking_loops.discard(loop)  # this is first, so that an exchange that is added now wakes the loop again
        self._wake()

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._start_queued)

    def _start_queued(self) -> None:
        while self._queue:
            task = self._loop.create_task(_run(*self._queue.popleft(), self._servers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def end(self) -> None:
        """Cancel all exchanges, close the connections and stop the loop. This blocks for at most a second."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result(1)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _close_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        for pool in self._servers.pools.values():
            await pool.transport.aclose()


@dataclass(frozen=True, slots=True)
class _Pool:
    """The connections to one server of the configuration, and the limit on concurrent exchanges with it."""

    transport: "httpx2.AsyncHTTPTransport"
    limit: ConcurrencyLimit


@dataclass(frozen=True, slots=True)
class _Servers:
    """The connections and limits for all servers.

    Attributes:
        pools: one pool for each server that the operator configured.
        client_chosen: one limit for all servers that clients choose.
        names: looks up the host names that clients choose.
    """

    pools: weakref.WeakKeyDictionary[Connections, _Pool] = field(default_factory=weakref.WeakKeyDictionary)
    client_chosen: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(_MAX_EXCHANGES))
    names: ClientNameLookups = field(default_factory=ClientNameLookups)


async def _run(fetch: Fetch, shares: Shares, servers: _Servers) -> None:
    # httpx2 uses anyio, and only protects its clean-up from cancellation by anyio. Cancellation by asyncio leaks
    # connections.
    import anyio

    try:
        with anyio.fail_after(fetch.timeout):
            response = await _response(fetch, shares, servers)
    except TimeoutError:
        fetch.outcome.set_exception(FetchFailed(f"not complete within {fetch.timeout} s"))
    except asyncio.CancelledError:
        fetch.outcome.set_exception(FetchFailed("cancelled, because the process ends"))
    except BaseException as failure:  # noqa: BLE001 (raised again in the callers that wait for the outcome)
        fetch.outcome.set_exception(failure)
    else:
        fetch.outcome.set_result(response)


async def _response(fetch: Fetch, shares: Shares, servers: _Servers) -> Response:
    if fetch.connections is None and fetch.allow_private:
        async with _transport(fetch.tls) as transport:
            return await exchange(fetch, transport, servers.names)
    if fetch.connections is None:
        shares = (Share(zone_of_url(fetch.url), _MAX_ZONE_EXCHANGES),)
        async with (
            servers.client_chosen.slot(shares, _QUEUE_TIMEOUT * fetch.timeout),
            _transport(fetch.tls) as transport,
        ):
            return await exchange(fetch, transport, servers.names)
    pool = servers.pools.get(fetch.connections)
    if pool is None:
        pool = servers.pools[fetch.connections] = _Pool(_transport(fetch.tls), ConcurrencyLimit(_MAX_EXCHANGES))
        weakref.finalize(
            fetch.connections, _close, pool.transport, asyncio.get_running_loop(), os.getpid()
        ).atexit = False
    async with pool.limit.slot(shares, _QUEUE_TIMEOUT * fetch.timeout):
        return await exchange(fetch, pool.transport, servers.names)


def _transport(tls: ssl.SSLContext) -> "httpx2.AsyncHTTPTransport":
    import httpx2

    limits = httpx2.Limits(
        max_connections=_MAX_EXCHANGES, max_keepalive_connections=_MAX_EXCHANGES, keepalive_expiry=_KEEP_ALIVE
    )
    return httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)


def _close(transport: "httpx2.AsyncHTTPTransport", loop: asyncio.AbstractEventLoop, process: int) -> None:
    """Close a transport. Any thread may call this. A forked child does not close the connections of its parent."""
    if process != os.getpid():
        _inherited_transports.append(transport)
    elif not loop.is_closed():
        asyncio.run_coroutine_threadsafe(transport.aclose(), loop)


# A fork may happen while another thread holds the lock. The child process does not have this thread, so it gets a new
# lock.
_lock = threading.Lock()
_backgrounds: list[_Background] = []  # the last object belongs to this process, and the others belong to its parents
_inherited_transports: list[object] = []  # keeps a parent's connections from being closed by garbage collection


def _replace_lock() -> None:
    global _lock  # noqa: PLW0603 (the child has no other thread yet)
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)


def _current_background() -> _Background:
    with _lock:
        if not _backgrounds or _backgrounds[-1].process != os.getpid():
            _backgrounds.append(_Background())
        return _backgrounds[-1]


@atexit.register
def _end() -> None:
    if _backgrounds and _backgrounds[-1].process == os.getpid():
        _backgrounds[-1].end()
