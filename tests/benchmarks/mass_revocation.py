"""Measure 12: the shared list of revocations under mass revocation, with a real Redis and processes of their own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mtls_middleware.revocation import RedisRevocations
from mtls_middleware.revocation.poller import RevocationListPoller
from tests.benchmarks.revocation_processes import connected, probe, revoked
from tests.benchmarks.table import Row
from tests.redis_server import RedisServer

MEASURE = 12
_ROOT = Path(__file__).parents[2]
# The goals: seconds until a revocation is in force in every process, seconds until a process that starts can answer,
# seconds for which an event loop is stopped, and the age of the list after which the response is 503.
_VISIBLE, _START, _STOP, _AGE = 2.0, 5.0, 0.05, 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: entries at first, revocations a second and for how long, entries of one call."""

    entries: int
    rate: int
    seconds: float
    bulk: int
    starts: int


FULL = Size(1_000_000, 5000, 60, 300_000, 8)
QUICK = Size(20_000, 1000, 1.5, 3000, 2)


class Process:
    """A process of `tests.benchmarks.revocation_processes`."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.revocation_processes", *map(str, arguments)]
        self._running = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.kill()
        self._running.communicate()

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        pages = int(Path(f"/proc/{self._running.pid}/statm").read_text("ascii").split()[1])
        return pages * 4096 / 1e6

    def line(self) -> Any:
        assert self._running.stdout is not None
        return json.loads(self._running.stdout.readline())

    def end(self) -> Any:
        """What the process prints at its end."""
        return json.loads(self._running.communicate()[0])


def rows(quick: bool) -> list[Row]:
    size = QUICK if quick else FULL
    with RedisServer() as server, server.client() as client:
        connected(server.port).create(map(revoked, map(str, range(size.entries))))
        in_redis = client.info("memory")["used_memory"] / 1e6
        found = [*_starts(server, size, in_redis), _cost(server, size)]
        with ExitStack() as stack:
            readers = [stack.enter_context(Process("follow", server.port, "many", "bulk", "ends")) for _ in range(2)]
            for each in readers:
                each.line()
            writer = Process("write", server.port, "many", size.rate, size.seconds, size.rate // 4)
            written = stack.enter_context(writer).end()
            bulk = _write_bulk(server, size)
            time.sleep(1)
            seen = [each.end() for each in readers]
            found += [*_visible(written, bulk, seen, size), *_kept_up(seen)]
    return found


def _starts(server: RedisServer, size: Size, in_redis: float) -> Iterator[Row]:
    """One process that starts, and several at once."""
    for number in (1, size.starts):
        with ExitStack() as stack:
            processes = [stack.enter_context(Process("follow", server.port)) for _ in range(number)]
            seconds = max(each.line() for each in processes)
            what = f"start with {size.entries:,} entries" + (f", {number} processes at once" if number > 1 else "")
            # Several at once share the processors of the machine with each other.
            yield Row(MEASURE, what, f"{seconds:.2f} s", f"{_START:g} s", seconds / _START, 1 if number == 1 else None)
            if number == 1:
                yield Row(
                    MEASURE,
                    "memory",
                    f"{processes[0].memory:.0f} MB, the whole process",
                    f"{in_redis:.0f} MB in Redis",
                    None,
                    None,
                )
                stop = processes[0].end()["stops"][0]
                yield Row(MEASURE, "event loop stopped, at most", _ms(stop), _ms(_STOP), stop / _STOP, 1)


def _cost(server: RedisServer, size: Size) -> Row:
    """What an idle process costs Redis: many threads poll a short list, as one in each process does."""
    seconds = 1 if size is QUICK else 10
    with ExitStack() as stack:
        client = stack.enter_context(server.client())
        alone = _rates(client, seconds)
        RedisRevocations(client, key="short").create()
        number = 20 if size is QUICK else 200
        pollers = [RevocationListPoller(server.client(), "short") for _ in range(number)]
        for each in pollers:
            each.start()
            each.first_poll.wait()
        rates = zip(_rates(client, seconds), alone, strict=True)
        commands, octets, processor = ((each - idle) / len(pollers) for each, idle in rates)
    return Row(
        MEASURE,
        "an idle process",
        f"{commands:.1f} commands, {octets / 1000:.2f} kB a second",
        f"{processor * 1e6:.0f} us of Redis",
        None,
        None,
        note=f"{0.8 / processor:,.0f} such processes use 80 % of Redis's processor",
    )


def _rates(client: Any, seconds: float) -> list[float]:
    """Commands, bytes and processor seconds, each a second."""

    def counts() -> tuple[float, float, float]:
        found = client.info()
        octets = found["total_net_input_bytes"] + found["total_net_output_bytes"]
        return found["total_commands_processed"], octets, found["used_cpu_sys"] + found["used_cpu_user"]

    before, begun = counts(), time.monotonic()
    time.sleep(seconds)
    return [(after - each) / (time.monotonic() - begun) for each, after in zip(before, counts(), strict=True)]


def _write_bulk(server: RedisServer, size: Size) -> tuple[float, float]:
    """One call with many revocations: when it began, and when it returned."""
    ids = [probe("bulk", 0), *(f"bulk {each}" for each in range(size.bulk)), probe("ends", 0)]
    entries = [revoked(each) for each in ids]
    begun = time.monotonic()
    connected(server.port).revoke_each(entries)
    return begun, time.monotonic()


def _visible(
    written: Mapping[str, float], bulk: tuple[float, float], seen: list[dict[str, Any]], size: Size
) -> Iterator[Row]:
    rate = written["rate"]
    probes = {name: at for name, at in written.items() if name != "rate"}
    for each in seen:
        missing = {*probes, probe("bulk", 0), probe("ends", 0)} - each["seen"].keys()
        assert not missing, f"not seen: {sorted(missing)}"
    longest = max(each["seen"][name] - at for each in seen for name, at in probes.items())
    what = f"{rate:,.0f} revocations a second for {size.seconds:g} s: in force everywhere after"
    yield Row(MEASURE, what, f"{longest:.2f} s", f"{_VISIBLE:g} s", longest / _VISIBLE, 1)
    last = max(each["seen"][probe("ends", 0)] for each in seen) - bulk[1]
    first = max(each["seen"][probe("bulk", 0)] for each in seen) - bulk[0]
    what = f"revoke_each({size.bulk:,}), which takes {bulk[1] - bulk[0]:.1f} s: the last one in force after"
    note = f"the first one {first:.2f} s after the call began"
    yield Row(MEASURE, what, f"{last:.2f} s", f"{_VISIBLE:g} s", last / _VISIBLE, 1, note=note)


def _kept_up(seen: list[dict[str, Any]]) -> Iterator[Row]:
    age = max(each["age"] for each in seen)
    unavailable = max(each["unavailable"] for each in seen)
    note = f"503 for {unavailable:.1f} s"
    yield Row(MEASURE, "age of the list meanwhile, at most", f"{age:.2f} s", f"{_AGE:g} s", age / _AGE, 1, note=note)
    stop = max(each["stops"][1] for each in seen)
    yield Row(MEASURE, "event loop stopped meanwhile, at most", _ms(stop), _ms(_STOP), stop / _STOP, 1)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
