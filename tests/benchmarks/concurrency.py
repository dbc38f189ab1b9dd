"""Measure 9: many threads. What the layers cost a request must not grow with the threads that are at it.

Threads share one processor's worth of Python, and a free-threaded one is measured where the tests run on it. The clock
is the wall's here, since it is waiting that we look for; so the figures are as good as the machine is quiet.
"""

import itertools
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks import stacks
from tests.benchmarks.carriers import WSGI, Application
from tests.benchmarks.loop import Size
from tests.benchmarks.table import Row

GOAL = 0.9  # of what one thread keeps of the bare application's throughput
THREADS = 8
# The bare application goes over its requests so often: in one turn it would be done before all threads have begun.
_REPEATED = {"bare": 30, "ours": 1}
_GATEWAY = WSGI()


def rows(quick: bool) -> list[Row]:
    text = stacks.token()
    return [
        _row("warm", quick, itertools.repeat(text)),
        _row("each token new", quick, (stacks.token() for _ in itertools.count())),
    ]


def _row(what: str, quick: bool, tokens: Any) -> Row:
    size = Size.of(quick=quick, rounds=15, operations=800)

    def requests() -> Sequence[Any]:
        made = itertools.islice(tokens, max(size.operations, THREADS))
        return [_GATEWAY.carrier(stacks.headers(stacks.NGINX, stacks.client(), text)) for text in made]

    bare, inner = Application(), Application()
    runs = {
        "bare": _GATEWAY.runner(bare.wsgi),
        "ours": _GATEWAY.runner(stacks.full_stack("wsgi", inner.wsgi, stacks.NGINX)),
    }
    seconds: dict[tuple[str, int], list[float]] = {(name, threads): [] for name in runs for threads in (1, THREADS)}
    for number in range(-1, size.rounds):
        for (name, threads), taken in seconds.items():
            elapsed = _elapsed(runs[name], requests(), threads, _REPEATED[name]) / _REPEATED[name]
            if number >= 0:
                taken.append(elapsed)
    median = {key: statistics.median(taken) for key, taken in seconds.items()}
    kept = {threads: median["bare", threads] / median["ours", threads] for threads in (1, THREADS)}
    rate = max(size.operations, THREADS) / median["ours", THREADS]
    interpreter = "with its lock" if getattr(sys, "_is_gil_enabled", lambda: True)() else "free-threaded"
    return Row(
        9,
        f"{THREADS} threads, {what}",
        f"{kept[THREADS]:.4f} of bare throughput ({rate:,.0f}/s)",
        f"{kept[1]:.4f} with one thread",
        kept[THREADS] / kept[1],
        GOAL,
        at_least=True,
        note=f"ratio of ratios; {os.cpu_count()} processors, Python {sys.version_info[0]}.{sys.version_info[1]} "
        f"{interpreter}; ours alone, 8 threads to one: {median['ours', 1] / median['ours', THREADS]:.2f}",
    )


def _elapsed(run: Callable[[Any], None], requests: Sequence[Any], threads: int, repeated: int) -> float:
    """Seconds for all requests, shared out among so many threads that begin together."""
    start = threading.Barrier(threads + 1)

    def work(share: Sequence[Any]) -> None:
        start.wait()
        for _ in range(repeated):
            for each in share:
                run(each)

    workers = [threading.Thread(target=work, args=(requests[each::threads],)) for each in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began
