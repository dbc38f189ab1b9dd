"""Looks up host names in threads, because `getaddrinfo` blocks: up to 30 seconds if a name server does not respond."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware.effects.exchange_log import log
from mtls_middleware.effects.limits import ConcurrencyLimit, Share

# What the operator can change if no thread can be started.
LIMITS_ADVICE = "raise the limits of the process: threads (ulimit -u, pids.max), open files (ulimit -n) and memory"

# Seconds after which a new look-up of the same name gets its own thread, and the maximum number of threads for a name.
_SHARED_SECONDS, _MAX_NAME_THREADS = 5.0, 4
# Two limits on the threads for host names that clients choose: for all these names together, and for the names in one
# zone. A client may control the name server of its own zone, and may delay all look-ups in this zone.
_MAX_THREADS, _MAX_ZONE_THREADS = 32, 8


class NameLookupThreads(ThreadPoolExecutor):
    """An executor with one thread for each name. Concurrent look-ups of the same name share a thread.

    So the number of threads depends on the number of names, and not on the number of requests. A look-up that hangs
    delays neither the look-up of another name nor the exit of the process. If no thread can be started, the look-up
    fails with `OSError`, and the next look-up starts a thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._running: dict[Any, list[tuple[float, Future[Any]]]] = {}

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        key = (function, arguments, tuple(sorted(named.items())))
        outcome: Future[Any] = Future()
        # A running look-up cannot be cancelled, so a caller that stops waiting does not affect other callers.
        outcome.set_running_or_notify_cancel()
        entry = time.monotonic(), outcome
        with self._lock:
            same = [each for each in self._running.get(key, ()) if not each[1].done()]
            if same and (entry[0] - same[-1][0] < _SHARED_SECONDS or len(same) >= _MAX_NAME_THREADS):
                return same[-1][1]
            self._running[key] = [*same, entry]

        def look_up() -> None:
            try:
                outcome.set_result(function(*arguments, **named))
            except BaseException as failure:  # noqa: BLE001 (raised again in the callers that wait for the outcome)
                if not outcome.done():
                    outcome.set_exception(_as_exception(failure))
            finally:
                self._remove(key, entry)

        try:
            threading.Thread(target=look_up, name="mtls-middleware look-up", daemon=True).start()
        except (RuntimeError, MemoryError) as failure:
            self._remove(key, entry)
            reason = OSError(f"no thread can be started to look up a host name ({failure})")  # a failed connection
            outcome.set_exception(reason)
            log(logging.ERROR, "%s; %s", reason, LIMITS_ADVICE)
            raise reason from failure
        return outcome

    def _remove(self, key: Any, entry: tuple[float, Future[Any]]) -> None:
        with self._lock:
            remaining = [each for each in self._running.get(key, ()) if each is not entry]
            if remaining:
                self._running[key] = remaining
            else:
                self._running.pop(key, None)


def _as_exception(failure: BaseException) -> Exception:
    """Return `failure` as an `Exception` for the callers, because `SystemExit` in a task would end their event loop."""
    return failure if isinstance(failure, Exception) else OSError(type(failure).__name__)


class ClientNameLookups:
    """Looks up names that clients choose, with at most 32 threads in total, and at most 8 threads for one zone.

    Each object belongs to one event loop.
    """

    def __init__(self) -> None:
        self._threads = NameLookupThreads()
        self._limit = ConcurrencyLimit(_MAX_THREADS)
        self._running: dict[tuple[str, int], asyncio.Task[Any]] = {}

    async def addresses(self, host: str, port: int, seconds: float) -> Any:
        """Return the result of `getaddrinfo`. Raises `TimeoutError` if no thread is free within `seconds` seconds."""
        task = self._running.get((host, port))
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_up(host, port, seconds))
            self._running[host, port] = task
            task.add_done_callback(lambda done: self._remove((host, port), done))
        # Shielded: if the caller stops waiting, the thread continues and keeps its slot.
        return await asyncio.shield(task)

    async def _look_up(self, host: str, port: int, seconds: float) -> Any:
        async with self._limit.slot((Share(zone(host), _MAX_ZONE_THREADS),), seconds):
            return await asyncio.get_running_loop().run_in_executor(self._threads, socket.getaddrinfo, host, port)

    def _remove(self, key: tuple[str, int], task: asyncio.Task[Any]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # mark the exception as retrieved, because all callers may have stopped waiting


def zone_of_url(url: str) -> str:
    """Return the zone of the host in a URL, or `""` if the URL has no host."""
    try:
        return zone(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def zone(host: str) -> str:
    """Return the last two labels of a name, such as `example.com`. The result can be a public suffix (`co.uk`)."""
    return ".".join(host.rstrip(".").lower().rsplit(".", 2)[-2:])
