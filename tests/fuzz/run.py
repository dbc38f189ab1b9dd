"""Runs one target for a time, and collects what it finds."""

import gc
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import Target

# Milliseconds of CPU for at most 64 kB of input.
SLOW = 50
# Inputs between two collections of garbage: one took 14 ms, which counted as the work of an input that takes 0.3 ms.
_COLLECT_EVERY = 1_000
# Inputs that are kept for further changes: those that were accepted, and a few others.
_MOST_KEPT = 2_000


@dataclass
class Findings:
    """`failures`: the place of each untyped exception, and the input. `slowest`: milliseconds of CPU, and the input."""

    inputs: int = 0
    accepted: int = 0
    failures: dict[str, bytes] = field(default_factory=dict)
    slowest: tuple[float, bytes] = (0.0, b"")


def fuzz(target: Target, random: Random, seconds: float, inputs: int | None = None) -> Findings:
    """Changed inputs for so many seconds, or so many inputs if that ends first."""
    found, corpus = Findings(), list(target.good)
    end = time.monotonic() + seconds
    gc.disable()
    try:
        while time.monotonic() < end and (inputs is None or found.inputs < inputs):
            data = random.choice(corpus)
            if found.inputs >= len(target.good):
                data = mutated(data, random)
            keep, milliseconds = _one(target, data, random, found)
            found.slowest = max(found.slowest, (milliseconds, data))
            if (keep or random.random() < 0.002) and len(corpus) < _MOST_KEPT:
                corpus.append(data)
            if found.inputs % _COLLECT_EVERY == 0:
                gc.collect()
    finally:
        gc.enable()
    return found


def _one(target: Target, data: bytes, random: Random, found: Findings) -> tuple[bool, float]:
    found.inputs += 1
    accepted, begin = False, time.process_time()
    try:
        target.run(data, random)
        accepted = True
    except target.typed:
        pass
    except Exception as error:  # noqa: BLE001 (which is what is looked for)
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
        found.failures.setdefault(place, data)
    found.accepted += accepted
    return accepted, 1000 * (time.process_time() - begin)
