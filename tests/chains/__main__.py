"""`python -m tests.chains`: compares generated chains and revocation states with `openssl verify`.

Exit status 1 if there is a difference without an explanation.
"""

import argparse
import contextlib
import logging
import secrets
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.chains.compare import Tally, compare
from tests.chains.explanations import Differs
from tests.chains.webpki import WebPKI

# Chains that a process compares between two reports.
_SHARE = 800


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chains", description="Compares chains with openssl verify.")
    parser.add_argument("--chains", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--seed", default=secrets.token_hex(8), help="to repeat a run; default: a random one")
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--webpki", type=Path, help="the program of tests/chains/webpki_verdicts, as a third opinion")
    options = parser.parse_args()
    print(f"seed {options.seed}, {subprocess.check_output(['openssl', 'version'], text=True).strip()}", flush=True)
    began = shown = time.monotonic()
    tally, differences = Tally(), 0
    with ProcessPoolExecutor(options.processes, initializer=logging.disable, initargs=(logging.CRITICAL,)) as pool:
        shares = -(-options.chains // _SHARE)
        for each in as_completed([pool.submit(_compare, f"{options.seed}/{n}", options.webpki) for n in range(shares)]):
            found = each.result()
            if isinstance(found, Tally):
                tally.add(found)
            else:
                differences += 1
                print(found, flush=True)
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                print(f"{tally.chains} chains", flush=True)
    print(f"{tally}\n{time.monotonic() - began:.0f} s, {differences} differences without an explanation")
    return 1 if differences else 0


def _compare(seed: str, program: Path | None) -> Tally | str:
    try:
        with contextlib.nullcontext() if program is None else WebPKI(program) as third:
            return compare(seed, _SHARE, third)
    except Differs as difference:
        return str(difference)


if __name__ == "__main__":
    sys.exit(main())
