"""Becomes a program that runs on one core: what measures and what is measured shall not push each other about.

`python -m tests.benchmarks.pinned 0 PROGRAM ARGUMENT...`: 0 is the first of the cores that there are, -1 the last.
Where the system cannot pin a process (macOS), the program runs wherever it likes. The first line is its process id.
"""

import os
import sys

if __name__ == "__main__":
    index, program, *arguments = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(index)]})
    print(os.getpid(), flush=True)
    os.execvp(program, [program, *arguments])
