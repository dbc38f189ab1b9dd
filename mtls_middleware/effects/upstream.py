"""`Upstream`: one server of the configuration, with its open connections, its limits and its circuit breaker."""

import asyncio
import logging
import math
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mtls_middleware.effects.breaker import CircuitBreaker
from mtls_middleware.effects.exchange import Connections, Fetch, FetchFailed, Response, exchange
from mtls_middleware.effects.exchange_log import log
from mtls_middleware.effects.limits import ConcurrencyLimit, Shares, WaitingLimit, client_of
from mtls_middleware.effects.name_lookups import ClientNameLookups

if TYPE_CHECKING:
    import httpx2

# Maximum number of concurrent exchanges with one server. Other exchanges wait in a queue. At most as many connections
# are kept open, because a new TLS connection costs more than the exchange itself.
MAX_EXCHANGES = 50
# Maximum fraction of its timeout that an exchange may spend in the queue. After that, too little time remains.
QUEUE_TIMEOUT = 0.9
# Fraction of its timeout after which an exchange that fails without a response counts as a stall. The time in the queue
# is not included.
_STALL = 0.5
# Seconds after which an exchange counts as a stall if the last exchange stalled, too. Its callers stop waiting at this
# time, so that a process with one thread is not blocked for the whole timeout again. The exchange itself continues.
_NEXT_STALL = 1.0
# Seconds that a request waits in addition to the timeout of its exchange. In this time, the background thread ends the
# exchange and counts the stall. Otherwise the next request of the same thread would wait for the server again.
_GRACE = 0.25
# Minimum number of seconds between two log lines that too many requests wait.
_LOG_INTERVAL = 30.0
# Seconds that an idle connection is kept open. Node.js and uvicorn close idle connections after 5 seconds.
_KEEP_ALIVE = 5.0


Fail = Callable[[FetchFailed], None]


class Admission(NamedTuple):
    """The permission to wait for a server for at most `seconds`.

    `is_probe`: whether this is a probe of a server that stalls.
    """

    is_probe: bool
    seconds: float


class Upstream:
    """One server. Any thread may call `enter` and `leave`. Only the background thread calls the other methods.

    Arguments:
        connections: the configuration. This object keeps no reference to it, because its garbage collection closes the
            open connections.
    """

    def __init__(self, connections: Connections) -> None:
        self._tls, self._proxy, self._max_waiting = connections.tls, connections.proxy, connections.max_waiting
        self._transport: httpx2.AsyncHTTPTransport | None = None
        self._limit = ConcurrencyLimit(MAX_EXCHANGES)
        self._lock = threading.Lock()  # the lock protects the following attributes, and is not held during I/O
        self._waiting = WaitingLimit(connections.max_waiting)
        self._breaker = CircuitBreaker()
        self._logged_at = -math.inf

    def enter(self, fetch: Fetch, client: str) -> Admission:
        """Count a request that waits for `fetch`. Call `leave` later.

        Raises `FetchFailed` if the server stalls, or if too many requests wait for it.
        """
        now = time.monotonic()
        with self._lock:
            if self._waiting.enter(client):
                wait, is_probe = self._breaker.admit(client, now, fetch.timeout)
                if wait <= 0:
                    longest = min(fetch.timeout, _NEXT_STALL) if self._breaker.suspects(client) else fetch.timeout
                    return Admission(is_probe, longest + _GRACE)
                self._waiting.leave(client)
                raise _stalling(wait)
            is_due = now - self._logged_at >= _LOG_INTERVAL
            if is_due:
                self._logged_at = now
        most = self._max_waiting
        reason = f"too many requests wait for the server: at most max_waiting={most}, and half of it from one client"
        if is_due:
            log(logging.ERROR, "%s: %s; further requests get 503 at once; check the server", fetch.url, reason)
        raise FetchFailed(reason, retry_after=1)

    def leave(self, client: str) -> None:
        """End the wait of a request that `enter` counted."""
        with self._lock:
            self._waiting.leave(client)

    async def response(
        self, fetch: Fetch, shares: Shares, names: ClientNameLookups, fail: Fail, *, is_probe: bool
    ) -> Response:
        """Make the exchange when it is its turn. Raises `FetchFailed`, or `TimeoutError` in the queue.

        `fail`: ends the wait of the callers before the exchange ends.
        """
        client = client_of(shares)
        async with self._limit.slot(shares, QUEUE_TIMEOUT * fetch.timeout):
            with self._lock:
                # The circuit opened while this exchange was in the queue.
                if not is_probe and self._breaker.is_open(client):
                    raise _stalling(1)
                is_suspect = self._breaker.suspects(client)
            return await self._counted(fetch, client, names, fail if is_suspect else None)

    async def _counted(self, fetch: Fetch, client: str, names: ClientNameLookups, fail: Fail | None) -> Response:
        """Make the exchange, and count a stall or a response. `fail` is called if the exchange takes a second."""
        began, has_stalled, timer = time.monotonic(), False, None

        def stall() -> None:
            nonlocal has_stalled
            has_stalled = True
            self._count_stall(fetch, client, began)
            if fail is not None:
                fail(FetchFailed(f"not complete within {_NEXT_STALL} s, and the exchange before it stalled"))

        if fail is not None:
            timer = asyncio.get_running_loop().call_later(_NEXT_STALL, stall)
        self._transport = self._transport or new_transport(self._tls, self._proxy)
        try:
            response = await exchange(fetch, self._transport, names)
        except BaseException as failure:
            if time.monotonic() - began >= _STALL * fetch.timeout:
                if not has_stalled:
                    self._count_stall(fetch, client, began)
            elif isinstance(failure, FetchFailed):
                # Other exceptions are not counted: the queue has used up the timeout, or the process is ending.
                self._count_response(fetch, client)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        self._count_response(fetch, client)
        return response

    def _count_stall(self, fetch: Fetch, client: str, began: float) -> None:
        now = time.monotonic()
        with self._lock:
            delay = self._breaker.stalled(client, began, now)
        if delay is not None:
            log(
                logging.ERROR,
                "%s stalls: several exchanges in a row had no complete response after %.3g s; requests that need it "
                "get 503 at once; the next attempt is in %g s; check the server, or set a smaller timeout=",
                fetch.url,
                now - began,
                delay,
            )

    def _count_response(self, fetch: Fetch, client: str) -> None:
        """Count an exchange in which the server sent a response, or refused or closed the connection."""
        with self._lock:
            was_open = self._breaker.responded(client, time.monotonic())
        if was_open:
            log(logging.WARNING, "%s responds again", fetch.url)

    async def close(self) -> None:
        """Close all connections."""
        if self._transport is not None:
            await self._transport.aclose()


def seconds_to_wait(fetch: Fetch) -> float:
    """Return the maximum number of seconds that a request may wait for an exchange over a new connection."""
    return fetch.timeout + _GRACE


def _stalling(wait: float) -> FetchFailed:
    reason = "the server stalls, and the next attempt is not due yet"
    return FetchFailed(reason, retry_after=max(1, math.ceil(wait)))


def new_transport(tls: ssl.SSLContext, proxy: str | None) -> "httpx2.AsyncHTTPTransport":
    """Return a transport of httpx2 that keeps as many connections open as exchanges may run at the same time.

    The proxy of the environment (`HTTPS_PROXY`) is ignored. `proxy`: the URL of a proxy, or `None`.
    """
    import httpx2

    limits = httpx2.Limits(
        max_connections=MAX_EXCHANGES, max_keepalive_connections=MAX_EXCHANGES, keepalive_expiry=_KEEP_ALIVE
    )
    return httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits, proxy=proxy)
