"""Measure 11: throughput and memory with many clients, each with a certificate and a token of its own.

Each number of clients has a server of its own: uvicorn with one worker on one core, and wrk on another core, which
draws a random client for each request. The servers take turns. `python -m tests.benchmarks.clients [--quick]` runs
this measure alone. A lower limit is a run in which every request has a new certificate and a new token.
"""

import contextlib
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.layers.decision_cache import CACHE_SIZE
from tests.benchmarks import stacks
from tests.benchmarks.memory import signer
from tests.benchmarks.served import PATH
from tests.benchmarks.table import Row, show
from tests.benchmarks.throughput import Credentials, Served, lacking_wrk, serving
from tests.live.servers import ROOT

_CONNECTIONS = 8
_RATE = re.compile(r"^Requests/sec:\s+([0-9.]+)$", re.MULTILINE)
_P99 = re.compile(r"^\s+99%\s+([0-9.]+)(us|ms|s)$", re.MULTILINE)
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
# Bytes by which the growth of the server's memory may exceed the limit of the cache: connections, and free memory that
# the allocator keeps.
_ALLOWANCE = 1.15


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of wrk: requests per second, and the response time in milliseconds that 99 % of the requests keep."""

    rate: float
    p99: float


class Clients:
    """Clients in a file for wrk. `first`: the number of the first client, so that two files have different clients."""

    def __init__(self, folder: Path, number: int, first: int = 0, *, once: bool = False) -> None:
        self.number, self._once = number, once
        self._file = folder / f"{first}-{number}"
        sign = signer()
        with self._file.open("w", encoding="ascii") as file:
            for der in itertools.islice(stacks.distinct(stacks.client()), first, first + number):
                field = stacks.loaded(der, None).as_nginx()["X-SSL-Client-Cert"]
                file.write(f"{field}\t{sign(ClientCertificate.from_der(der).thumbprint)}\n")

    def run(self, served: Served, duration: int) -> Turn:
        """Send requests of these clients for `duration` seconds. Raises `AssertionError` if one is rejected."""
        options = ["--threads", "1", "--connections", str(_CONNECTIONS), "--duration", f"{duration}s", "--latency"]
        command = ["-m", "tests.benchmarks.pinned", "-1", "wrk", *options, "--timeout", "30s"]
        found = subprocess.run(
            [sys.executable, *command, "--script", str(Path(__file__).with_suffix(".lua")), served.url(PATH)],
            cwd=ROOT,
            env={**os.environ, "CLIENTS": str(self._file), "ORDER": "once" if self._once else "random"},
            capture_output=True,
            text=True,
            check=True,
        )
        rate, p99 = _RATE.search(found.stdout), _P99.search(found.stdout)
        if rate is None or p99 is None or "Non-2xx" in found.stdout or "Socket errors" in found.stdout:
            raise AssertionError(f"not all requests were accepted:\n{found.stdout}{found.stderr}")
        return Turn(float(rate[1]), float(p99[1]) * _MILLISECONDS[p99[2]])


@dataclass(slots=True)
class Contestant:
    """A server with its clients, its resident memory before the first client, and its turns."""

    clients: Clients
    served: Served
    before: int
    turns: list[Turn]

    def rate(self) -> float:
        return statistics.median(each.rate for each in self.turns)

    def p99(self) -> float:
        return statistics.median(each.p99 for each in self.turns)

    def growth(self) -> int:
        """Bytes of resident memory that were added since the first client."""
        return self.served.resident() - self.before


def rows(quick: bool) -> list[Row]:
    missing = lacking_wrk()
    if missing is not None:
        return [Row(11, "many clients", "", "", None, 0.85, True, f"not measured: {missing}")]
    few, many, too_many = (50, 200, 1_000) if quick else (500, 10_000, 100_000)
    rounds, duration, warm_up = (1, 1, 1) if quick else (4, 5, 15)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        contestants = {
            number: stack.enter_context(_contestant(Clients(Path(folder), number))) for number in (few, many, too_many)
        }
        # More new clients than a server can serve in one run: each run has clients of its own.
        per_run = 15_000 * duration
        new = stack.enter_context(_contestant(Clients(Path(folder), per_run, 10**6, once=True)))
        for each in contestants.values():
            each.clients.run(each.served, warm_up)
        for number in range(rounds):
            for each in list(contestants.values())[:: -1 if number % 2 else 1]:
                each.turns.append(each.clients.run(each.served, duration))
            new.clients = Clients(Path(folder), per_run, 10**6 + (number + 1) * per_run, once=True)
            new.turns.append(new.clients.run(new.served, duration))
        return [
            _rate_row(contestants[many], contestants[few], 0.85),
            _p99_row(contestants[many], contestants[few]),
            _rate_row(contestants[too_many], new, 0.9, against="every request new"),
            *map(_memory_row, contestants.values()),
            _memory_row(new),
        ]


@contextlib.contextmanager
def _contestant(clients: Clients) -> Iterator[Contestant]:
    with serving("uvicorn httptools", "starlette_ours", Credentials.made()) as served:
        yield Contestant(clients, served, served.resident(), [])


def _rate_row(ours: Contestant, other: Contestant, goal: float, against: str | None = None) -> Row:
    against = against or f"{other.clients.number:,} clients"
    what = f"requests per second, {ours.clients.number:,} random clients"
    ratio = ours.rate() / other.rate()
    return Row(11, what, f"{ours.rate():,.0f}/s", f"{other.rate():,.0f}/s, {against}", ratio, goal, at_least=True)


def _p99_row(ours: Contestant, other: Contestant) -> Row:
    what = f"99 % of the responses, {ours.clients.number:,} random clients"
    return Row(11, what, f"{ours.p99():.2f} ms", f"{other.p99():.2f} ms", ours.p99() / other.p99(), 2)


def _memory_row(ours: Contestant) -> Row:
    limit = CACHE_SIZE / 1_000_000
    grown = ours.growth() / 1_000_000
    what = f"memory added by {ours.clients.number:,} clients"
    return Row(11, what, f"{grown:.1f} MB", f"{limit:.1f} MB, the limit of the cache", grown / limit, _ALLOWANCE)


if __name__ == "__main__":
    show(rows(quick="--quick" in sys.argv[1:]))
