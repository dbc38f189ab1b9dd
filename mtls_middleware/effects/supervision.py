"""`RepeatingThread`: a daemon thread that calls a method at intervals, and continues after every exception."""

import contextlib
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable

from mtls_middleware.effects.exchange_log import log
from mtls_middleware.forks import reset_after_fork

# Minimum number of seconds between two starts, if the thread ends at once.
_RESTART_INTERVAL = 1.0
_LOG_INTERVAL = 30.0  # minimum number of seconds between two log lines, if no thread can be started


class RepeatingThread:
    """A daemon thread that calls `method` every `interval` seconds.

    The thread logs each exception of `method` and continues, even after `SystemExit`, and even if the log handler
    raises an exception. If the thread ends nevertheless, `ensure_running` starts it again. The thread ends when the
    object of `method` is garbage collected.

    Arguments:
        method: a method without arguments.
        interval: seconds between the end of one call and the next call.
        logger: the logger for exceptions.

    Example: `RepeatingThread(self.poll, name="mtls_middleware.revocation", interval=0.25, logger=logger)`
    """

    def __init__(self, method: Callable[[], object], *, name: str, interval: float, logger: logging.Logger) -> None:
        self._method = weakref.WeakMethod(method)
        self._name, self._interval, self._logger = name, interval, logger
        self._lock = threading.Lock()  # held while a caller starts the thread; other callers do not wait for the lock
        self._thread: threading.Thread | None = None
        self._started_at = self._logged_at = -math.inf
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent process may hold."""
        self._lock = threading.Lock()

    def ensure_running(self) -> bool:
        """Start the thread if it does not run. Returns `False` if the system cannot start a thread."""
        thread = self._thread
        if (thread is not None and thread.is_alive()) or not self._lock.acquire(blocking=False):
            return True
        try:
            return time.monotonic() - self._started_at < _RESTART_INTERVAL or self._start()
        finally:
            self._lock.release()

    def _start(self) -> bool:
        arguments = (self._method, self._interval, self._logger)
        thread = threading.Thread(target=_repeat, args=arguments, name=self._name, daemon=True)
        now = time.monotonic()
        try:
            thread.start()
        except (RuntimeError, MemoryError) as failure:
            if now - self._logged_at >= _LOG_INTERVAL:
                self._logged_at = now
                message = "%s: %s; check the limits of threads and memory"
                log(logging.ERROR, message, self._name, failure, to=self._logger)
            return False
        self._thread, self._started_at = thread, now
        return True


def _repeat(method: "weakref.WeakMethod[Callable[[], object]]", interval: float, logger: logging.Logger) -> None:
    while (call := method()) is not None:
        _survive(call, logger)
        del call
        time.sleep(interval)


def _survive(call: Callable[[], object], logger: logging.Logger) -> None:
    """Call a function. All exceptions are logged, and none is raised."""
    try:
        call()
    except BaseException as failure:  # noqa: BLE001 (the thread must continue, also after SystemExit)
        with contextlib.suppress(BaseException):  # a log handler may raise any exception, for example `SystemExit`
            # The message of the exception is not logged, because it may quote data of another server.
            logger.error("%s in a background thread, which continues", type(failure).__name__)
