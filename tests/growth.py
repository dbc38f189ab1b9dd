"""How the work for an input grows with the size of the input. No test asserts how fast the work is."""

import contextlib
import gc
import math
import time
from collections.abc import Callable

from mtls_middleware.errors import Refused

_LEAST_ROUNDS, _MOST_ROUNDS = 5, 200
# Work of less than a millisecond passes. What it takes depends on the allocation of memory more than on the size, and
# quadratic work on thousands of characters takes longer.
_NEGLIGIBLE = 0.001


def assert_grows_with_size(prepare: Callable[[int], Callable[[], object]], size: int) -> None:
    """Fails if four times the size takes more than eight times as long; quadratic work takes sixteen times as long.

    Arguments:
        prepare: makes the work for an input of the given size. Only the work is measured. It may end with `Refused`.
    """
    assert_grows(prepare, size // 4, size, at_most=8)


def assert_grows(prepare: Callable[[int], Callable[[], object]], small: int, large: int, *, at_most: float) -> None:
    """Fails if the large input takes more than `at_most` times as long as the small one.

    The shortest run of each counts, and there are more runs while the result is bad: another program can only
    lengthen a run.
    """
    work = prepare(small), prepare(large)
    shortest = [math.inf, math.inf]
    for done in range(_MOST_ROUNDS):
        shortest = [min(known, _seconds(each)) for known, each in zip(shortest, work, strict=True)]
        if done >= _LEAST_ROUNDS and shortest[1] <= max(at_most * shortest[0], _NEGLIGIBLE):
            return
    raise AssertionError(f"{large / small:g} times the size takes {shortest[1] / shortest[0]:.0f} times as long")


def _seconds(work: Callable[[], object]) -> float:
    was_enabled = gc.isenabled()
    gc.disable()  # a collection looks through the objects of all tests
    try:
        begun = time.perf_counter()
        with contextlib.suppress(Refused):
            work()
        return time.perf_counter() - begun
    finally:
        if was_enabled:
            gc.enable()
