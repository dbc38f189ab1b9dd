"""`python -m tests.fuzz`: an hour of fuzzing, with the time of the slowest input for each target.

An input that fails, or takes more than 50 ms of CPU, is written to a file. Exit status 1 if there is one.
"""

import argparse
import logging
import secrets
import sys
import warnings
from pathlib import Path
from random import Random

from tests.fuzz.run import SLOW, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes every parser of hostile bytes.")
    parser.add_argument("--seconds", type=float, default=3600, help="in total; default: %(default)s")
    parser.add_argument("--seed", default=secrets.token_hex(8), help="to repeat a run; default: a random one")
    parser.add_argument("--only", default="", metavar="WORD", help="targets with this word in their name")
    parser.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="for inputs; default: here")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    chosen = {name: target for name, target in TARGETS.items() if options.only.lower() in name.lower()}
    if not chosen:
        parser.error(f"no target has {options.only!r} in its name; targets: {', '.join(TARGETS)}")
    print(f"seed {options.seed}, {len(chosen)} targets, {options.seconds / len(chosen):.0f} s each")
    bad = 0
    for name, target in chosen.items():
        found = fuzz(target, Random(f"{options.seed} {name}"), options.seconds / len(chosen))
        slow, data = found.slowest
        findings = dict(found.failures)
        if slow > SLOW:
            findings[f"{slow:.0f} ms"] = data
        print(f"{name:24} {found.inputs:9} inputs {found.accepted:9} accepted, slowest {slow:6.1f} ms", flush=True)
        for number, (what, hostile) in enumerate(findings.items()):
            path = options.output / f"fuzz-{name.replace(' ', '-')}-{number}.bin"
            path.write_bytes(hostile)
            print(f"    {what}: {len(hostile)} octets in {path}", flush=True)
        bad += len(findings)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
