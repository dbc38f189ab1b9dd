"""Which rejections and warnings reach the log, and how often. The counters are those of this process."""

import threading
import time
from collections.abc import Hashable

from mtls_middleware.cache import Cache

# Maximum number of lines per second for rejections with one cause. A client can cause any number of rejections.
LINES_PER_SECOND = 10
# Maximum number of causes. There are about a hundred in the package; some differ by the configuration of a layer.
_CAUSES = 1_000
# Maximum number of certificates whose last warning is known. A further certificate replaces the oldest one.
_CERTIFICATES = 10_000
_DAY = 86_400


class _Lines:
    """The lines that one cause had in one second."""

    second = 0
    logged = 0
    left_out = 0


class RejectionLimit:
    """Limits the lines for rejections with the same cause, and recognizes the first of them."""

    def __init__(self) -> None:
        self._causes: dict[Hashable, _Lines] = {}
        self._lock = threading.Lock()

    def is_first(self, cause: Hashable) -> bool:
        """Return whether no rejection with this cause was logged in this process."""
        return cause not in self._causes and len(self._causes) < _CAUSES

    def admit(self, cause: Hashable, now: float) -> int | None:
        """Count one line for `cause` at `now` (seconds since the epoch).

        Returns the number of lines that were left out before it, or `None` if this line must be left out, too.
        """
        with self._lock:
            if cause not in self._causes and len(self._causes) >= _CAUSES:
                cause = None
            lines = self._causes.setdefault(cause, _Lines())
            if lines.second != int(now):
                lines.second, lines.logged = int(now), 0
            if lines.logged >= LINES_PER_SECOND:
                lines.left_out += 1
                return None
            lines.logged += 1
            left_out, lines.left_out = lines.left_out, 0
            return left_out

    def forget(self) -> None:
        """Start again as in a new process. For tests."""
        with self._lock:
            self._causes.clear()


class ExpiryWarnings:
    """Remembers on which day the last warning about a certificate was logged."""

    def __init__(self) -> None:
        self._days: Cache[str, int] = Cache(_CERTIFICATES)

    def is_due(self, thumbprint: str, now: float | None = None) -> bool:
        """Return whether a warning is due, and count it as logged. There is one per thumbprint and day (UTC)."""
        today = int((time.time() if now is None else now) // _DAY)
        if self._days.get(thumbprint) == today:
            return False
        self._days.put(thumbprint, today)
        return True
