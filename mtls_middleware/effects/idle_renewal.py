"""`IdleRenewal`: renews cached data even while a process has no requests.

One thread of the process does this for all objects.
"""

import logging
import threading
import weakref
from collections.abc import Callable
from time import monotonic

from mtls_middleware.effects.exchange_log import log
from mtls_middleware.effects.supervision import RepeatingThread
from mtls_middleware.forks import reset_after_fork

logger: logging.Logger = logging.getLogger("mtls_middleware.idle_renewal")

# The number of seconds between two calls of `renew`. An object is idle if it had no request for this time. A shorter
# interval would wake idle processes more often. A list that has expired is fetched again within twice this time.
_INTERVAL = 10.0


class IdleRenewal:
    """Calls `renew(now)` every 10 seconds while the process has no requests, from the first call of `note` on.

    `now` is the time of the last request plus the seconds since then. So it follows the clock of the requests. The
    calls end when the object of `renew` is garbage collected, or when the process ends. A forked child process has its
    own thread after its first call of `note`.

    Arguments:
        renew: a method that starts a renewal if one is due. It does not wait for a server, because it shares its thread
            with all other objects. An exception is logged, and the calls continue.

    Example: `self._idle = IdleRenewal(self.renew)`
    """

    def __init__(self, renew: Callable[[float], object]) -> None:
        self._renew = weakref.WeakMethod(renew)
        self._noted: tuple[float, float] | None = None

    def note(self, now: float) -> None:
        """Note the time of a request (seconds since the epoch), and ensure that the thread runs."""
        is_first, self._noted = self._noted is None, (now, monotonic())
        if is_first:
            _timer.add(self)
        _timer.thread.ensure_running()

    def call(self, interval: float) -> None:
        """Call the method, unless a request came less than `interval` seconds ago.

        Such a request renews the data itself.

        An `Exception` is logged, and not raised.
        """
        renew = self._renew()
        if renew is None or self._noted is None:
            return
        now, noted_at = self._noted
        idle = monotonic() - noted_at
        if idle < interval:
            return
        try:
            renew(now + idle)
        except Exception as failure:  # noqa: BLE001 (the other objects must be renewed, too)
            # The message of the exception is not logged, because it may quote data of another server.
            log(logging.ERROR, "%s in a renewal, which is repeated", type(failure).__name__, to=logger)


class _Timer:
    """The thread of this process, and the objects for which it works."""

    def __init__(self, interval: float = _INTERVAL) -> None:
        self._renewals: weakref.WeakSet[IdleRenewal] = weakref.WeakSet()
        self._interval = interval
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Create the lock and the thread. A fork may happen while another thread holds the locks of the parent."""
        self._lock = threading.Lock()  # protects the set
        self.thread = RepeatingThread(
            self.call_all, name="mtls-middleware renewal", interval=self._interval, logger=logger
        )

    def add(self, renewal: IdleRenewal) -> None:
        with self._lock:
            self._renewals.add(renewal)

    def call_all(self) -> None:
        with self._lock:
            renewals = list(self._renewals)
        for each in renewals:
            each.call(self._interval)


_timer = _Timer()
