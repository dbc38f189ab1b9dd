"""`python -m tests.differential`: as many requests as wanted, and the first difference.

Exit status 1 if two answers differ.
"""

import argparse
import secrets
import sys
import time
from pathlib import Path

from tests.differential.compare import Differs, Tally, compare
from tests.differential.material import new_material


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description="Compares answers of two stacks.")
    parser.add_argument("--requests", type=int, default=200_000, help="default: %(default)s")
    parser.add_argument("--seed", default=secrets.token_hex(8), help="to repeat a run; default: a random one")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="compare with the code of this worktree instead")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    if options.before is not None:
        from tests.differential.commits import compare_commits

        return compare_commits(options.before, options.seed, options.requests)
    begun = shown = time.monotonic()

    def progress(tally: Tally) -> None:
        nonlocal shown
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(tally, flush=True)

    try:
        tally = compare(options.seed, options.requests, new_material(), progress=progress)
    except Differs as difference:
        print(difference)
        return 1
    print(f"{tally}, {time.monotonic() - begun:.0f} s, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
