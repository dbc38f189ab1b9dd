"""`CoolDown`: the time without attempts after a failure, short at first.

This module performs no I/O and reads no clock.
"""

import threading

from mtls_middleware.forks import reset_after_fork
from mtls_middleware.retry import retry_delay

# Seconds after which an attempt counts as lost, for example because a thread that made it does not exist after a fork.
_LONGEST_ATTEMPT = 10.0
# Maximum number of seconds by which a request may be older than a failure. A larger difference means that the clock was
# set back, and the next attempt is made at once.
_OLDEST = 30.0


class CoolDown:
    """Admits all attempts until one fails. Then it admits one attempt at a time, each after a longer delay.

    It is thread-safe.

    Arguments:
        longest: the maximum delay in seconds, at most 30.

    Example: `if (attempt := cool_down.begin(now)) is not None: ...; cool_down.failed(attempt, now)`
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._lock = threading.Lock()
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self._tried_at: float | None = None  # the beginning of the attempt in progress after a failure
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, and forget the attempt in progress, which belongs to the parent process."""
        self._lock, self._tried_at = threading.Lock(), None

    def begin(self, now: float) -> int | None:
        """Return a number for the new attempt, or `None` if no attempt may be made. Then call `failed` or `ended`."""
        with self._lock:
            if self._failures:
                is_trying = self._tried_at is not None and abs(now - self._tried_at) < _LONGEST_ATTEMPT
                if is_trying or -_OLDEST < now - self._failed_at < self._delay():
                    return None
                self._tried_at = now
            return self._failures

    def failed(self, attempt: int, now: float) -> float:
        """Count a failed attempt, and return the delay until the next attempt.

        An attempt that began before the last failure is not counted again. So concurrent attempts count as one.
        """
        with self._lock:
            if attempt == self._failures:
                self._failures += 1
                self._failed_at, self._tried_at = now, None
            return self._delay()

    def _delay(self) -> float:
        return min(self._longest, retry_delay(self._failures)) if self._failures else 0.0

    def ended(self, attempt: int, *, succeeded: bool) -> None:
        """End an attempt that did not fail. `succeeded`: `False` if it was cancelled, so its outcome is unknown."""
        with self._lock:
            if succeeded:
                self._failures, self._tried_at = 0, None
            elif attempt and attempt == self._failures:
                self._tried_at = None
