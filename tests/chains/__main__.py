"""`python -m tests.chains`: compares generated chains and revocation states with `openssl verify` and `openssl ocsp`.

Exit status 1 if there is a difference without an explanation.
"""

import argparse
import contextlib
import logging
import secrets
import signal
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
    ocsp = "the part of the PKIs for which OCSP responses are compared, too; default: %(default)s"
    parser.add_argument("--ocsp", type=float, default=0.25, help=ocsp)
    options = parser.parse_args()
    print(f"seed {options.seed}, {subprocess.check_output(['openssl', 'version'], text=True).strip()}", flush=True)
    began = time.monotonic()
    progress = _Progress()
    with ProcessPoolExecutor(options.processes, initializer=_prepare) as pool:
        shares = range(-(-options.chains // _SHARE))
        futures = [pool.submit(_compare, f"{options.seed}/{share}", options.webpki, options.ocsp) for share in shares]
        try:
            for each in as_completed(futures):
                progress.add(each.result())
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            print("stopped")
    print(
        f"{progress.tally}\n{time.monotonic() - began:.0f} s, {progress.differences} differences without an explanation"
    )
    return 1 if progress.differences else 0


class _Progress:
    """The results so far. Prints each difference at once, and the number of chains once a minute."""

    def __init__(self) -> None:
        self.tally, self.differences = Tally(), 0
        self._shown = time.monotonic()

    def add(self, found: Tally | str) -> None:
        if isinstance(found, Tally):
            self.tally.add(found)
        else:
            self.differences += 1
            print(found, flush=True)
        if time.monotonic() - self._shown > 60:
            self._shown = time.monotonic()
            print(f"{self.tally.chains} chains", flush=True)


def _prepare() -> None:
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the first process handles Ctrl-C


def _compare(seed: str, program: Path | None, ocsp: float) -> Tally | str:
    try:
        with contextlib.nullcontext() if program is None else WebPKI(program) as third:
            return compare(seed, _SHARE, third, ocsp)
    except Differs as difference:
        return str(difference)


if __name__ == "__main__":
    sys.exit(main())
