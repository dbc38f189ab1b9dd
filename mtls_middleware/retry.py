"""`retry_delay`: the number of seconds after which a failed operation is tried again."""

# The first and the longest delay in seconds. The first delay is so short that a brief failure has no effect a second
# later. Each further failure doubles the delay, up to the longest delay.
_FIRST, LONGEST = 0.5, 30.0


def retry_delay(failures: int) -> float:
    """Return the minimum number of seconds until the next attempt, after `failures` failed attempts in a row.

    Example: `[retry_delay(each) for each in (1, 2, 3, 100)] == [0.5, 1.0, 2.0, 30.0]`
    """
    return min(LONGEST, _FIRST * 2.0 ** min(failures - 1, 10))
