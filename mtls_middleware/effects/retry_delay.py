"""`retry_delay`: how long to wait after a failure before the next attempt. Pure: no I/O, no clock."""

# Seconds after the first failure. A server that restarts, or a lost packet, is over after this time.
_FIRST = 0.5


def retry_delay(failures: int, longest: float = 30.0) -> float:
    """Return the seconds between failure number `failures` in a row and the next attempt: 0.5, 1, 2 ... `longest`.

    Example: `retry_delay(3) == 2.0`
    """
    return min(longest, _FIRST * 2.0 ** min(failures - 1, 16))
