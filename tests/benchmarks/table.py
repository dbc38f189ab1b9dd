"""One line of the benchmarks: what was measured, beside what, and the goal.

Must never know: how anything was measured.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`measure` is the number of the issue's measure. `ratio` is ours to theirs: at most `goal`, or `at_least` that."""

    measure: int
    what: str
    ours: str
    against: str
    ratio: float | None
    goal: float | None
    note: str = ""
    at_least: bool = False
