"""The servers of the adversarial cases: each kind one process, on a port of 127.0.0.1, one of [::], and a unix socket.

All run with their defaults, but for what `docs/proxies.md` tells for large certificates. Needs a kernel with IPv6; no
address of it is used but `::`, which takes IPv4 clients as well.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.live import wire
from tests.live.servers import free_port, running

TELLING = "tests.live.echo_applications"
WSGI = ("gunicorn", "waitress", "werkzeug")
ASGI = ("uvicorn-h11", "uvicorn-httptools", "hypercorn", "daphne", "gunicorn-asgi")
SERVERS = (*WSGI, *ASGI)
# Where a source that reads hyphens rejects every request, unless proxy_deletes_underscores=True.
REFUSED = ("cheroot", "wsgiref")


@dataclass(frozen=True)
class Server:
    """One that runs. `ipv6` is the port where it listens on [::]."""

    name: str
    port: int
    ipv6: int
    unix: str
    log: Path

    @property
    def logged(self) -> str:
        """What our middleware has written into its log."""
        return self.log.read_text() if self.log.exists() else ""

    def ask(self, request: bytes, count: int = 1) -> list[wire.Answer]:
        """The answers to what is written at once to its port of 127.0.0.1."""
        return wire.ask(("127.0.0.1", self.port), request, count)

    def get(self, path: str, *lines: bytes) -> wire.Answer:
        """The answer to one request with these field lines."""
        return self.ask(wire.request(path, *lines))[0]


@contextlib.contextmanager
def started(name: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as directory:  # short: a unix socket's path has at most 107 octets
        server = Server(name, free_port(), free_port(), f"{directory}/socket", Path(directory, "log"))
        with running(command(server), server.port, LOG=str(server.log)):
            yield server


def command(server: Server) -> list[str]:
    program = COMMANDS.get(server.name)
    if program is not None:
        return ["-m", *program(server)]
    kind, _, parser = server.name.partition("-")
    arguments = [str(server.port), str(server.ipv6), server.unix]
    return ["-m", TELLING, kind, *arguments, *([PARSERS[parser]] if parser else [])]


# The first that listens is not the port that `running` waits for: so all of them do by then.
def gunicorn(worker: str, application: str) -> Callable[[Server], list[str]]:
    return lambda server: [
        *("gunicorn", f"{TELLING}:{application}", "--worker-class", worker, "--threads", "4"),
        *("--bind", f"unix:{server.unix}", "--bind", f"[::]:{server.ipv6}", "--bind", f"127.0.0.1:{server.port}"),
        *("--no-control-socket", "--graceful-timeout", "1", "--limit-request-field_size", "65536"),
    ]


def hypercorn(server: Server) -> list[str]:
    binds = (f"unix:{server.unix}", f"[::]:{server.ipv6}", f"127.0.0.1:{server.port}")
    return ["hypercorn", f"{TELLING}:asgi_application", *(part for each in binds for part in ("--bind", each))]


def daphne(server: Server) -> list[str]:
    endpoints = (
        f"unix:{server.unix}",
        rf"tcp6:port={server.ipv6}:interface=\:\:",
        f"tcp:port={server.port}:interface=127.0.0.1",
    )
    options = [part for each in endpoints for part in ("--endpoint", each)]
    return ["daphne", "--verbosity", "0", *options, f"{TELLING}:asgi_application"]


COMMANDS: dict[str, Callable[[Server], list[str]]] = {
    "gunicorn": gunicorn("gthread", "wsgi_application"),
    "gunicorn-asgi": gunicorn("asgi", "asgi_application"),
    "hypercorn": hypercorn,
    "daphne": daphne,
}
PARSERS = {"h11": "h11", "httptools": "mtls_middleware.servers.uvicorn_tls:HTTPTools"}
