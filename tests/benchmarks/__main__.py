"""The command: `python -m tests.benchmarks [MEASURE ...] [--quick] [--json FILE]`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from tests.benchmarks.table import Row, show, write

# Number of the measure, the module that takes it, what it tells.
MEASURES = {
    1: ("warm", "warm requests against a raw verification"),
    2: ("cold_token", "a new token against jwt.decode, and against Authlib"),
    3: ("cold_certificate", "a new certificate against the calls by hand"),
    4: ("trust_store", "validation of chains"),
    5: ("throughput", "requests per second behind real servers"),
    6: ("growth", "cost where much is registered, revoked, trusted"),
    7: ("memory", "resident memory after many certificates and tokens"),
    8: ("imports", "time to import"),
    9: ("concurrency", "threads"),
    10: ("floor", "warm requests against the least possible program"),
    11: ("clients", "throughput and memory with many clients"),
    12: ("mass_revocation", "the shared list under mass revocation"),
    13: ("long_list", "an event loop while a long revocation list is read"),
    14: ("client", "the client side: cached tokens, renewals, concurrent first calls"),
}


def available() -> dict[int, Callable[..., list[Row]]]:
    """The measures whose modules are there; each takes `quick`."""
    names = {number: f"tests.benchmarks.{module}" for number, (module, _) in MEASURES.items()}
    return {number: import_module(name).rows for number, name in names.items() if find_spec(name) is not None}


def main(arguments: Sequence[str]) -> int:
    listed = "; ".join(f"{number} {text}" for number, (_, text) in MEASURES.items())
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=f"Measures: {listed}.")
    parser.add_argument("measures", nargs="*", type=int, metavar="MEASURE", help="numbers; default: all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, and no figures to go by")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument("--distinct", type=int, default=1_000_000, metavar="N", help="certificates and tokens of 7")
    given = parser.parse_args(arguments)
    known = available()
    unknown = sorted(set(given.measures) - known.keys())
    if unknown:
        parser.error(f"no measure {', '.join(map(str, unknown))}: {', '.join(map(str, known))}")
    progress = Console(stderr=True)
    rows: list[Row] = []
    for number in sorted(set(given.measures)) or known:
        progress.print(f"measure {number}: {MEASURES[number][1]}", highlight=False)
        rows += known[number](given.quick, **({"distinct": given.distinct} if number == 7 else {}))
    show(rows)
    if given.json is not None:
        write(rows, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
