"""`Row`: one result. Rows as a table for people, and as JSON for programs."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

_PACKAGES = ("cryptography", "PyJWT", "http-sf", "Authlib", "joserfc", "Flask", "mtls-middleware")


@dataclass(frozen=True, slots=True)
class Row:
    """One result.

    Attributes:
        measure: number of the measure, which is also the order of the table.
        what: what was measured, in a few words.
        ours, against: the two figures, with their units.
        ratio: `ours` to `against`; `None` where there is nothing to hold it against.
        goal: the ratio must not exceed it; `None` where there is no goal.
        at_least: the ratio must reach the goal instead.
        note: the reason where a goal is not met, or what one has to know to read the figures.
    """

    measure: int
    what: str
    ours: str
    against: str
    ratio: float | None
    goal: float | None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, `None` where there is none."""
        if self.ratio is None or self.goal is None:
            return None
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def microseconds(nanoseconds: float) -> str:
    """Example: `microseconds(1500) == "1.50 us"`"""
    value = nanoseconds / 1000
    return f"{value:.0f} us" if value >= 100 else f"{value:.1f} us" if value >= 10 else f"{value:.2f} us"


def show(rows: Sequence[Row]) -> None:
    table = Table(title=f"mtls-middleware, {_machine()['python']}, load {os.getloadavg()[0]:.1f}")
    for name in ("#", "what", "ours", "against", "ratio", "goal", "met", "note"):
        table.add_column(name, justify="right" if name in ("#", "ratio", "goal") else "left", overflow="fold")
    measure = 0
    for row in rows:
        if measure and row.measure != measure:
            table.add_section()
        measure = row.measure
        goal = "" if row.goal is None else f"{'>=' if row.at_least else '<='} {row.goal:g}"
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met]
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        table.add_row(str(row.measure), row.what, row.ours, row.against, ratio, goal, met, row.note)
    # Wide enough for a line of every figure, also where the output goes to a file.
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def write(rows: Sequence[Row], path: Path) -> None:
    """The rows, and what they were measured with, as JSON."""
    found = {"machine": _machine(), "rows": [{**asdict(row), "met": row.met} for row in rows]}
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _machine() -> dict[str, object]:
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "packages": {name: version(name) for name in _PACKAGES},
    }
