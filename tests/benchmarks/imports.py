"""Measure 8: time to import, and what of it is whose."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from tests.benchmarks.table import Row

_LEAST = "import cryptography.x509, jwt"
_TIMED = "import time; began = time.process_time_ns(); {}; print(time.process_time_ns() - began)"
_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)")
_SHOWN = 8

Environment = Mapping[str, str]


def rows(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        # Compiled code is kept, as it is where a package is installed, whatever this shell says.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return _rows(quick, {**environment, "PYTHONPYCACHEPREFIX": folder})


def _rows(quick: bool, environment: Environment) -> list[Row]:
    statements = {"least": _LEAST, **{name: f"import mtls_middleware.{name}" for name in ("wsgi", "asgi")}}
    taken = _taken(statements, 2 if quick else 30, environment)
    least = statistics.median(taken["least"])
    return [
        Row(
            8,
            f"import mtls_middleware.{name}",
            f"{statistics.median(taken[name]) / 1e6:.0f} ms",
            f"{least / 1e6:.0f} ms {_LEAST}",
            statistics.median(taken[name]) / least,
            None,
            note="beside them: "
            + ", ".join(f"{each} {share / 1000:.1f} ms" for each, share in _beside(name, environment)),
        )
        for name in ("wsgi", "asgi")
    ]


def _taken(statements: dict[str, str], rounds: int, environment: Environment) -> dict[str, list[int]]:
    """Nanoseconds of CPU time, each in a fresh interpreter, in turns; the first turn compiles."""
    taken: dict[str, list[int]] = {name: [] for name in statements}
    for number in range(-1, rounds):
        for name, statement in statements.items():
            time = int(_python(environment, "-c", _TIMED.format(statement)).stdout)
            if number >= 0:
                taken[name].append(time)
    return taken


def _beside(name: str, environment: Environment) -> Sequence[tuple[str, float]]:
    """What is imported beside `cryptography.x509` and `jwt`, in microseconds by package, the heaviest first."""
    listed = _python(environment, "-X", "importtime", "-c", f"{_LEAST}; import mtls_middleware.{name}").stderr
    # The first statement's imports are told first; a package itself, after what it imports.
    _, _, more = listed.partition(f" | {_LEAST.rpartition(' ')[2]}\n")
    own: dict[str, float] = {}
    for match in _LINE.finditer(more):
        package = match[4].partition(".")[0]
        own[package] = own.get(package, 0) + int(match[1])
    return sorted(own.items(), key=lambda each: -each[1])[:_SHOWN]


def _python(environment: Environment, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)
