"""Name look-ups: `getaddrinfo` blocks its thread, up to half a minute if a name server does not respond."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware.effects.limits import ConcurrencyLimit, Share

# Seconds after which a look-up that hangs is not shared any more, and threads that may then hang on one name.
_SHARED, _MOST_OF_A_NAME = 5.0, 4
# Threads for all names that clients choose, and for those of one zone: all names in a client's own zone may hang.
_MOST, _MOST_OF_A_ZONE = 32, 8


class NameLookupThreads(ThreadPoolExecutor):
    """A thread for each name that is looked up. Look-ups of one name at the same time share one.

    So the number of threads depends on the number of configured names, not on the number of requests. A look-up that
    hangs delays neither another name nor the end of the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._running: dict[Any, list[tuple[float, Future[Any]]]] = {}

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        key = (function, arguments, tuple(sorted(named.items())))
        with self._lock:
            same = self._running.setdefault(key, [])
            if same and (time.monotonic() - same[-1][0] < _SHARED or len(same) >= _MOST_OF_A_NAME):
                return same[-1][1]
            outcome: Future[Any] = Future()
            outcome.set_running_or_notify_cancel()  # so that one who stops waiting cannot cancel it for the others
            entry = time.monotonic(), outcome
            same.append(entry)

        def look_up() -> None:
            try:
                found = function(*arguments, **named)
            except BaseException as failure:  # noqa: BLE001 (raised where it is awaited)
                self._ended(key, entry)
                outcome.set_exception(failure)
            else:
                self._ended(key, entry)
                outcome.set_result(found)

        threading.Thread(target=look_up, name="mtls-middleware look-up", daemon=True).start()
        return outcome

    def _ended(self, key: Any, entry: tuple[float, Future[Any]]) -> None:
        with self._lock:
            self._running[key].remove(entry)
            if not self._running[key]:
                del self._running[key]


class ClientNameLookups:
    """Look-ups of names that clients choose, at most 32 threads at once, and 8 for one zone. For one event loop."""

    def __init__(self) -> None:
        self._threads = NameLookupThreads()
        self._turns = ConcurrencyLimit(_MOST)
        self._running: dict[tuple[str, int], asyncio.Task[Any]] = {}

    async def addresses(self, host: str, port: int, seconds: float) -> Any:
        """What `getaddrinfo` returns. Raises `TimeoutError` if no thread is free within `seconds`."""
        task = self._running.get((host, port))
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_up(host, port, seconds))
            self._running[host, port] = task
            task.add_done_callback(lambda ended: self._ended((host, port), ended))
        return await asyncio.shield(task)  # the thread goes on, and keeps its turn, if the caller stops waiting

    async def _look_up(self, host: str, port: int, seconds: float) -> Any:
        async with self._turns.one((Share(zone(host), _MOST_OF_A_ZONE),), seconds):
            return await asyncio.get_running_loop().run_in_executor(self._threads, socket.getaddrinfo, host, port)

    def _ended(self, key: tuple[str, int], task: asyncio.Task[Any]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # all who waited may be gone


def zone_of(url: str) -> str:
    """The zone of the host in an address, empty if there is none."""
    try:
        return zone(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def zone(host: str) -> str:
    """The last two labels of a name, such as `example.com` (for some names, such as `co.uk`, a public suffix)."""
    return ".".join(host.rstrip(".").lower().rsplit(".", 2)[-2:])
