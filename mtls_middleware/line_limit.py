"""`LineLimit`: limits how many lines with the same cause are logged in this process."""

import logging
import threading
import traceback
from collections.abc import Hashable

from mtls_middleware.errors import Refused
from mtls_middleware.forks import reset_after_fork

# Maximum number of lines per second with one cause. A client can cause any number of rejections.
LINES_PER_SECOND = 10
# Maximum number of causes that are counted. The package has about a hundred causes, and some causes differ by the
# configuration of a layer.
_CAUSES = 1_000


class _Lines:
    """The lines with one cause in one period."""

    period = 0
    logged = 0
    left_out = 0


class LineLimit:
    """Limits the number of log lines with the same cause, and reports whether a line is the first with its cause.

    At most `lines` lines with one cause are logged in each period of `seconds`. A cause must be the same for all lines
    of its kind, so do not include numbers that change.
    """

    def __init__(self, lines: int = LINES_PER_SECOND, seconds: int = 1) -> None:
        self._lines, self._seconds = lines, seconds
        self._causes: dict[Hashable, _Lines] = {}
        self._lock = threading.Lock()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent process may hold."""
        self._lock = threading.Lock()

    def is_first(self, cause: Hashable) -> bool:
        """Return whether no line with this cause was logged in this process."""
        return cause not in self._causes and len(self._causes) < _CAUSES

    def admit(self, cause: Hashable, now: float) -> int | None:
        """Count one line for `cause` at `now` (seconds since the epoch).

        Returns the number of lines that were left out before it, or `None` if this line must be left out, too.
        """
        with self._lock:
            if cause not in self._causes and len(self._causes) >= _CAUSES:
                cause = None
            lines = self._causes.setdefault(cause, _Lines())
            period = int(now) // self._seconds
            if lines.period != period:
                lines.period, lines.logged = period, 0
            if lines.logged >= self._lines:
                lines.left_out += 1
                return None
            lines.logged += 1
            left_out, lines.left_out = lines.left_out, 0
            return left_out

    def log(self, logger: logging.Logger, level: int, now: float, message: str, *arguments: object) -> None:
        """Log a line that a client can cause at any time, unless this second has enough lines with the same `message`.

        The line states how many similar lines were left out before it.

        Example: `lines.log(logger, logging.ERROR, time.time(), "look_up= failed: %s", "KeyError")`
        """
        left_out = self.admit(message, now) if logger.isEnabledFor(level) else None
        if left_out is None:
            return
        if left_out > 0:
            message, arguments = f"{message}; %d similar lines were left out before this one", (*arguments, left_out)
        logger.log(level, message, *arguments, stacklevel=2)


def raised_at(error: Exception) -> tuple[tuple[str, int], ...]:
    """Return the two places in the code that say why `error` was raised: the `raise`, and its caller.

    They are the cause of a rejection without advice. The number of such places is limited, unlike the number of
    reasons, which may contain data of the client.

    Example: `lines.admit(raised_at(error), time.time())`
    """
    while isinstance(error.__context__, Refused):  # `error` is a copy: see `Refused.changed`
        error = error.__context__
    places = [(each.f_code.co_filename, line) for each, line in traceback.walk_tb(error.__traceback__)]
    return tuple(places[-2:])
