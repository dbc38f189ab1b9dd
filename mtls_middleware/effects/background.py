"""The one thread where a process makes its exchanges, on an event loop of its own.

Whoever asks, a thread or an event loop, only waits for the outcome: five hundred exchanges at once hold up nobody's
event loop, and need no five hundred threads. Must never know: what is fetched, or why.
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
from mtls_middleware.effects.name_lookups import ClientNameLookups, NameLookupThreads, zone_of

if TYPE_CHECKING:
    import httpx2

# At most so many exchanges with one server at once; who comes later waits his turn. So many connections are kept as
# well, since a new one over TLS costs more than the exchange that it is for.
_MOST_AT_ONCE = 50
# Of these, with addresses that clients choose in one zone, such as `example.com`.
_MOST_OF_A_ZONE = 10
# The part of its timeout that an exchange may wait for its turn: with less left it would connect to be cut off at once.
_WAITING = 0.9
# Servers close what was idle for a few seconds themselves: Node.js and uvicorn after 5.
_IDLE = 5.0


def begin(need: Fetch, loop: asyncio.AbstractEventLoop | None = None, *, of: Shares = ()) -> None:
    """Have the exchange made, unless somebody has begun it; `need.outcome` has its result in time.

    `loop`: the caller's event loop. Then the exchange begins when this turn of that loop is over: hundreds that ask in
    one turn do not share the interpreter with the thread that answers them.
    `of`: the shares of the client that caused it.
    """
    background = _of_this_process()
    if need.claim():
        background.add(need, of)
    background.wake_after_turn_of(loop)


class _Background:
    """The thread, and what only it touches: exchanges under way, and the connections to each server."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_default_executor(NameLookupThreads())
        self._begun: deque[tuple[Fetch, Shares]] = deque()
        # Event loops whose present turn will wake ours when it is over. A loop may end before that.
        self._awaited: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()  # an event loop alone would let go of them
        self._servers = _Servers()
        threading.Thread(target=self._run, name="mtls-middleware exchanges", daemon=True).start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def add(self, need: Fetch, of: Shares) -> None:
        """From any thread."""
        self._begun.append((need, of))

    def wake_after_turn_of(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Begin what was added, also by a loop that has ended since then. Without `loop`, at once.

        To wake our loop is a system call: hundreds of exchanges that are added in one turn wake it once.
        """
        if not self._begun:
            return
        if loop is None:
            self._wake()
        elif loop not in self._awaited:
            self._awaited.add(loop)
            loop.call_soon(self._wake_after, loop)

    def _wake_after(self, loop: asyncio.AbstractEventLoop) -> None:
        self._awaited.discard(loop)  # first: what is added from now on has our loop woken again
        self._wake()

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._begin_all)

    def _begin_all(self) -> None:
        while self._begun:
            task = self._loop.create_task(_make(*self._begun.popleft(), self._servers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def end(self) -> None:
        """Close everything, within a second."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(1)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for pool in self._servers.pools.values():
            await pool.transport.aclose()


@dataclass(frozen=True, slots=True)
class _Pool:
    transport: "httpx2.AsyncHTTPTransport"
    turns: ConcurrencyLimit


@dataclass(frozen=True, slots=True)
class _Servers:
    """Those that the operator chose, with their connections; and those that clients chose, all of them together."""

    pools: weakref.WeakKeyDictionary[Connections, _Pool] = field(default_factory=weakref.WeakKeyDictionary)
    chosen: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(_MOST_AT_ONCE))
    names: ClientNameLookups = field(default_factory=ClientNameLookups)


async def _make(need: Fetch, of: Shares, servers: _Servers) -> None:
    import anyio  # the client's own: its clean-up is shielded from this kind of cancellation alone, and leaks otherwise

    try:
        with anyio.fail_after(need.timeout):
            response = await _response(need, of, servers)
    except TimeoutError:
        need.outcome.set_exception(FetchFailed(f"not complete within {need.timeout} s"))
    except asyncio.CancelledError:
        need.outcome.set_exception(FetchFailed("given up, the process ends"))
    except BaseException as failure:  # noqa: BLE001 (whoever waits is told)
        need.outcome.set_exception(failure)
    else:
        need.outcome.set_result(response)


async def _response(need: Fetch, of: Shares, servers: _Servers) -> Response:
    if need.connections is None and need.allow_private:
        async with _transport(need.tls) as transport:
            return await exchange(need, transport, servers.names)
    if need.connections is None:
        of = (Share(zone_of(need.url), _MOST_OF_A_ZONE),)
        async with servers.chosen.one(of, _WAITING * need.timeout), _transport(need.tls) as transport:
            return await exchange(need, transport, servers.names)
    pool = servers.pools.get(need.connections)
    if pool is None:
        pool = servers.pools[need.connections] = _Pool(_transport(need.tls), ConcurrencyLimit(_MOST_AT_ONCE))
        weakref.finalize(
            need.connections, _close, pool.transport, asyncio.get_running_loop(), os.getpid()
        ).atexit = False
    async with pool.turns.one(of, _WAITING * need.timeout):
        return await exchange(need, pool.transport, servers.names)


def _transport(tls: ssl.SSLContext) -> "httpx2.AsyncHTTPTransport":
    import httpx2

    limits = httpx2.Limits(
        max_connections=_MOST_AT_ONCE, max_keepalive_connections=_MOST_AT_ONCE, keepalive_expiry=_IDLE
    )
    return httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)


def _close(transport: "httpx2.AsyncHTTPTransport", loop: asyncio.AbstractEventLoop, process: int) -> None:
    """From any thread, the garbage collector's. A forked child leaves its parent's connections alone."""
    if process != os.getpid():
        _inherited.append(transport)
    elif not loop.is_closed():
        asyncio.run_coroutine_threadsafe(transport.aclose(), loop)


_lock = threading.Lock()  # a fork may find it taken, by a thread that the child has not: it gets one of its own
_backgrounds: list[_Background] = []  # the last is ours
_inherited: list[object] = []  # a parent's connections are kept, as its backgrounds are: nothing here may close them


def _unlock() -> None:
    global _lock  # noqa: PLW0603 (in a child that has no other thread yet)
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def _of_this_process() -> _Background:
    with _lock:
        if not _backgrounds or _backgrounds[-1].process != os.getpid():
            _backgrounds.append(_Background())
        return _backgrounds[-1]


@atexit.register
def _end() -> None:
    if _backgrounds and _backgrounds[-1].process == os.getpid():
        _backgrounds[-1].end()
