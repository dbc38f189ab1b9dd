"""Measure 5: requests per second behind real servers, the protected application beside the bare one.

Each server is a process of one worker on one core, wrk on another; all requests have the same header fields, those of
nginx and a bound token among them, so that the layers are the only difference. The applications take turns, and the
ratio is the median of the rounds' own ratios: whatever else the machine does in a round, it does to all of them. What
the server's processor time says stands beside it. On a machine that is busy with other things, that is the figure to go
by: a server that has to wait for its core, or for wrk, hides what a layer costs.

`python -m tests.benchmarks.throughput [--quick]` runs it alone. wrk is Debian's package; the other programs come with
the group `test` of pyproject.toml, and by npm. Where something is missing, the one row says what to install.
"""

import contextlib
import http.client
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tests.benchmarks import stacks
from tests.benchmarks.processor import seconds
from tests.benchmarks.served import EXPRESS, PATH, SERVERS, settings
from tests.benchmarks.table import Row, show
from tests.live.servers import ROOT, free_port, running

GOAL = 0.95
# More than the threads of gunicorn and waitress, so that each server always has work; few enough to wait for none.
CONNECTIONS = 8
_RATE = re.compile(r"^Requests/sec:\s+([0-9.]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Contest:
    """A server, and the applications that take turns on it, the bare one first."""

    server: str
    framework: str
    applications: tuple[str, ...]


FLASK, STARLETTE = ("flask_bare", "flask_ours"), ("starlette_bare", "starlette_ours")
PYTHON = (
    Contest("gunicorn gthread", "Flask", (*FLASK, "flask_authlib")),
    Contest("waitress", "Flask", FLASK),
    Contest("uvicorn httptools", "Starlette", STARLETTE),
    Contest("uvicorn h11", "Starlette", STARLETTE),
    Contest("granian", "Starlette", STARLETTE),
)
NODE = Contest("Express", "Express", ("bare", "own", "by_hand"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """Header fields of a client with its token, and of a thief of that token, who has a certificate of the same CA."""

    client: Mapping[str, str]
    thief: Mapping[str, str]

    @classmethod
    def made(cls) -> "Credentials":
        token = stacks.token()
        client, thief = stacks.client(), stacks.authority().issue("CN=billing,O=Acme", dns=[stacks.NAME])
        return cls(*(dict(stacks.headers(stacks.NGINX, each, token)) for each in (client, thief)))


@dataclass(frozen=True, slots=True)
class Served:
    """Where an application is, and the process that its processor time is asked of."""

    port: int
    process: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def resident(self) -> int:
        """Bytes of resident memory of the process."""
        pages = int(Path(f"/proc/{self.process}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of wrk: requests per second, and per second of the server's processor time (0: not known)."""

    rate: float
    per_processor_second: float = 0.0


ConcurrencyLimit: TypeAlias = Mapping[str, Sequence[Turn]]  # by application, the bare one first


@contextlib.contextmanager
def serving(server: str, application: str, credentials: Credentials) -> Iterator[Served]:
    """While it runs. It has shown that it lets the client in, and where it protects, nobody else."""
    port = free_port()
    command = ["-m", "tests.benchmarks.pinned", "0", *SERVERS[server](application, port)]
    with running(command, port, **settings()) as logged:
        expected = (200, 200, 200) if application.endswith("bare") else (200, 401, 401)
        without_token = {name: value for name, value in credentials.client.items() if name != "Authorization"}
        answers = tuple(answer(port, each) for each in (credentials.client, credentials.thief, without_token))
        if answers != expected:
            raise AssertionError(f"{application} on {server} answers {answers} in place of {expected}")
        yield Served(port, process=int(logged().partition("\n")[0]))


def answer(port: int, headers: Mapping[str, str]) -> int:
    """The status of one request."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", PATH, headers=dict(headers))
        response = connection.getresponse()
        response.read()
        return response.status


def turn(served: Served, headers: Mapping[str, str], duration: int) -> Turn:
    """One run of `duration` seconds."""
    before = seconds(served.process)
    rate = wrk(served.port, headers, duration)
    after = seconds(served.process)
    if before is None or after is None or after == before:
        return Turn(rate)
    return Turn(rate, rate * duration / (after - before))


def wrk(port: int, headers: Mapping[str, str], duration: int) -> float:
    """Requests per second, all of them answered 200."""
    fields = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    options = ["--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{duration}s", "--timeout", "30s"]
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.pinned",
        "-1",
        "wrk",
        *options,
        *fields,
        f"http://127.0.0.1:{port}{PATH}",
    ]
    report = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = _RATE.search(report)
    if found is None or "Non-2xx" in report or "Socket errors" in report:
        raise AssertionError(f"not all requests were answered:\n{report}")
    return float(found[1])


def measured(contest: Contest, credentials: Credentials, rounds: int, duration: int) -> ConcurrencyLimit:
    """Each application's turns. Every second round goes backwards, so that no place is the better one."""
    turns: dict[str, list[Turn]] = {application: [] for application in contest.applications}
    with contextlib.ExitStack() as stack:
        all_served = {each: stack.enter_context(serving(contest.server, each, credentials)) for each in turns}
        for number in range(rounds):
            for application, served in list(all_served.items())[:: -1 if number % 2 else 1]:
                turns[application].append(turn(served, credentials.client, duration))
    return turns


def kept(turns: ConcurrencyLimit, application: str) -> list[float]:
    """What share of the bare application's rate this one has, round by round."""
    bare = next(iter(turns.values()))
    return [mine.rate / theirs.rate for mine, theirs in zip(turns[application], bare, strict=True)]


def kept_of_processor(turns: ConcurrencyLimit, application: str) -> float | None:
    """The same by processor time, all rounds together; `None` where that is not known."""
    bare = next(iter(turns.values()))
    theirs, mine = (statistics.median(each.per_processor_second for each in one) for one in (bare, turns[application]))
    return mine / theirs if mine and theirs else None


def _per_second(turns: Sequence[Turn]) -> str:
    return f"{statistics.median(each.rate for each in turns):,.0f}/s"


def _ours(contest: Contest, turns: ConcurrencyLimit) -> Row:
    bare, ours, *_ = contest.applications
    shares, of_processor = kept(turns, ours), kept_of_processor(turns, ours)
    note = f"{len(shares)} rounds, {min(shares):.3f} to {max(shares):.3f}"
    if of_processor is not None:
        note += f"; by processor time {of_processor:.3f}"
    what = f"{contest.framework} on {contest.server}, protected and bare"
    rates = _per_second(turns[ours]), _per_second(turns[bare])
    return Row(5, what, *rates, statistics.median(shares), GOAL, at_least=True, note=note)


def _beside(what: str, ours: float, turns: ConcurrencyLimit, application: str) -> Row:
    """Ours beside another's way to protect: each as its share of its own bare application."""
    theirs = statistics.median(kept(turns, application))
    note = f"{_per_second(turns[application])} of {_per_second(next(iter(turns.values())))}"
    return Row(5, what, f"{ours:.1%}", f"{theirs:.1%}", ours / theirs, None, at_least=True, note=note)


def lacking_wrk() -> str | None:
    """Return how to install wrk, or `None` if it is installed."""
    return "apt-get install wrk" if shutil.which("wrk") is None else None


def lacking() -> str | None:
    """Return what to install for this measure, or `None` if nothing is missing."""
    if (missing := lacking_wrk()) is not None:
        return missing
    if not (EXPRESS / "node_modules").is_dir():
        return f'PATH="$PWD/.venv/bin:$PATH" npm ci --prefix {EXPRESS.relative_to(ROOT)} --ignore-scripts'
    return None


def rows(quick: bool) -> list[Row]:
    """Ours beside the bare application on each server; then the share that others keep of theirs."""
    missing = lacking()
    if missing is not None:
        return [Row(5, "throughput behind real servers", "", "", None, GOAL, True, f"not measured: {missing}")]
    credentials = Credentials.made()
    rounds, duration = (2, 1) if quick else (5, 4)
    turns = {each.server: measured(each, credentials, rounds, duration) for each in (*PYTHON, NODE)}
    flask = statistics.median(kept(turns["gunicorn gthread"], "flask_ours"))
    starlette = statistics.median(kept(turns["uvicorn httptools"], "starlette_ours"))
    return [
        *(_ours(each, turns[each.server]) for each in PYTHON),
        _beside("kept of bare Flask on gunicorn: ours, Authlib", flask, turns["gunicorn gthread"], "flask_authlib"),
        _beside("kept: ours on uvicorn, express-oauth2-jwt-bearer", starlette, turns["Express"], "own"),
        _beside("the same with the certificate read in Express", starlette, turns["Express"], "by_hand"),
    ]


if __name__ == "__main__":
    show(rows(quick="--quick" in sys.argv[1:]))
