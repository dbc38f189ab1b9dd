"""Timing things against each other, in one process and at the same time.

The method. A shared machine runs faster now and slower later, by more than what we want to see. So no figure stands
alone: all subjects of one measure take turns, a few operations each, for many rounds, and every round goes through them
in the other direction than the one before. What a layer adds is the difference to the bare application within each
round; a result is the median over the rounds. Inputs are new objects for each operation and are made before the clock
starts. The clock is the CPU time of this thread, so that time taken away by other processes is not counted. The garbage
collector runs before each measure and not during it. The first rounds warm up, and count for nothing.

pyperf was considered: it takes each benchmark to processes of its own, one after the other, which is right for absolute
times on a quiet machine and loses the pairing that our ratios live on.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_WARM_UP = 0.1  # of the rounds, and at least one


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds, and operations of each subject in a round."""

    rounds: int
    operations: int

    @classmethod
    def of(cls, *, quick: bool, rounds: int = 300, operations: int = 20) -> "Size":
        """The full size, or one that merely shows that it runs."""
        return cls(3, 2) if quick else cls(rounds, operations)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is timed: `run` over each of the `inputs`, of which there are new ones for each round."""

    run: Callable[[Any], object]
    inputs: Callable[[int], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Times:
    """Nanoseconds of one operation, one figure for each round."""

    rounds: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)

    def over(self, other: "Times") -> "Times":
        """What this takes longer than the other, round by round."""
        return Times([mine - theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True)])


def take_turns(subjects: Mapping[str, Subject], size: Size) -> dict[str, Times]:
    """The times of each subject, by the same names."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    warm_up = max(1, int(size.rounds * _WARM_UP))
    names = list(subjects)
    with _no_collection():
        for number in range(-warm_up, size.rounds):
            for name in names:
                each = subjects[name].inputs(size.operations)
                taken = _timed(subjects[name].run, each)
                if number >= 0:
                    found[name].append(taken / size.operations)
            names.reverse()
    return {name: Times(taken) for name, taken in found.items()}


def _timed(run: Callable[[Any], object], inputs: Sequence[Any]) -> int:
    began = time.thread_time_ns()
    for each in inputs:
        run(each)
    return time.thread_time_ns() - began


@contextmanager
def _no_collection() -> Any:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
