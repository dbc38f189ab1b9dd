"""The servers under test: how each is started, what it has of what can be asked of it, and in which releases.

A server that is a Python package runs as `.venv` has it, the newest, and as `.venv.oldest` has it (`oldest.txt`).
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from tests.live.servers import APPLICATIONS, ROOT
from tests.servers import embedded
from tests.servers.clients import options

OLDEST = ROOT / ".venv.oldest"
PINNED = dict(
    re.findall(r"^([\w-]+)(?:\[.*\])?==([\d.]+)", Path(__file__).with_name("oldest.txt").read_text(), re.MULTILINE)
)

SERVED = "tests.servers.tls_applications"
# Seconds that a connection may idle: by default some servers close it after two, which on a busy machine is between
# two requests of a test.
PATIENCE = "60"
UVICORN = "mtls_middleware.servers.uvicorn_tls"


def uvicorn(http: str, ws: str, port: int, files: Path) -> list[str]:
    tls = [part.replace("--", "--ssl-") if part.startswith("--") else part for part in options(files)]
    protocols = ["--http", f"{UVICORN}:{http}", "--ws", f"{UVICORN}:{ws}"]
    program = ["-m", "uvicorn", f"{SERVED}:asgi", "--timeout-keep-alive", PATIENCE]
    return [*program, "--port", str(port), *tls, "--ssl-cert-reqs", "1", *protocols]


def hypercorn(worker: str, port: int, files: Path) -> list[str]:
    program = ["-m", "mtls_middleware.servers.hypercorn_tls", f"{SERVED}:asgi", "--worker-class", worker]
    program += ["--keep-alive", PATIENCE]
    return [*program, "--bind", f"127.0.0.1:{port}", *options(files), "--verify-mode", "CERT_OPTIONAL"]


def gunicorn(worker: str, app: str, more: list[str], port: int, files: Path) -> list[str]:
    program = ["-m", "gunicorn", app, "--worker-class", worker, "--threads", "8" if worker == "gthread" else "1"]
    program += ["--keep-alive", PATIENCE]
    return [*program, "--bind", f"127.0.0.1:{port}", "--no-control-socket", *options(files), "--cert-reqs", "1", *more]


def daphne(port: int, files: Path) -> list[str]:
    program = ["-m", "mtls_middleware.servers.daphne_tls", "--bind", "127.0.0.1", "--port", str(port)]
    return [*program, *options(files), "--cert-reqs", "1", f"{SERVED}:asgi"]


def python(module: str, *arguments: str) -> Callable[[int, Path], list[str]]:
    return lambda port, files: ["-m", module, *arguments, str(port), str(files)]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A server: how it is started, and what it has of what can be asked of it."""

    command: Callable[[int, Path], list[str]]
    package: str  # on PyPI, where `oldest.txt` pins it, else Debian's
    program: Sequence[str] = (sys.executable,)
    asgi: bool = True
    http2: bool = False
    keeps_alive: bool = True
    resumes: bool = True
    chain: bool = True


ASGI_WORKER = "mtls_middleware.servers.gunicorn_asgi.Worker"
WSGI = f"{APPLICATIONS}:own_tls"
H2 = ["--http-protocols", "h2,h1"]
KINDS = {
    "uvicorn-h11": Kind(command=partial(uvicorn, "H11", "WebSockets"), package="uvicorn"),
    "uvicorn-httptools": Kind(command=partial(uvicorn, "HTTPTools", "WSProto"), package="uvicorn"),
    "uvicorn-zttp": Kind(command=partial(uvicorn, "Zttp", "WebSockets"), package="uvicorn"),
    "uvicorn-http2": Kind(command=partial(uvicorn, "HTTP2", "WSProto"), package="uvicorn", http2=True),
    "hypercorn": Kind(command=partial(hypercorn, "asyncio"), package="hypercorn", http2=True),
    "hypercorn-uvloop": Kind(command=partial(hypercorn, "uvloop"), package="hypercorn", http2=True),
    "gunicorn-asgi": Kind(command=partial(gunicorn, ASGI_WORKER, f"{SERVED}:asgi", H2), package="gunicorn", http2=True),
    "daphne": Kind(command=daphne, package="daphne", http2=True, resumes=False),  # Twisted gives no tickets
    # gunicorn's sync and gthread make a context, and so a key for tickets, for each connection.
    "gunicorn-sync": Kind(
        command=partial(gunicorn, "sync", WSGI, []), package="gunicorn", asgi=False, keeps_alive=False, resumes=False
    ),
    "gunicorn-gthread": Kind(
        command=partial(gunicorn, "gthread", WSGI, H2), package="gunicorn", asgi=False, http2=True, resumes=False
    ),
    "gunicorn-gevent": Kind(command=partial(gunicorn, "gevent", WSGI, H2), package="gunicorn", asgi=False, http2=True),
    "werkzeug": Kind(command=python(APPLICATIONS, "werkzeug"), package="werkzeug", asgi=False, keeps_alive=False),
    "cheroot": Kind(command=python(SERVED), package="cheroot", asgi=False),
    "cheroot-builtin": Kind(command=python(APPLICATIONS, "cheroot"), package="cheroot", asgi=False, chain=False),
    "uwsgi": Kind(command=embedded.uwsgi, program=embedded.UWSGI, package="uwsgi", asgi=False, chain=False),
    "mod_wsgi": Kind(
        command=partial(embedded.mod_wsgi, "%{GLOBAL}"),
        program=embedded.APACHE,
        package="mod_wsgi",
        asgi=False,
        http2=True,
    ),
    "mod_wsgi-daemon": Kind(
        command=partial(embedded.mod_wsgi, "daemons"),
        program=embedded.APACHE,
        package="mod_wsgi",
        asgi=False,
        http2=True,
    ),
}


def releases(name: str, kind: Kind) -> dict[str, Kind]:
    """Test id -> the server as one environment has it, the newest first."""
    if kind.package not in PINNED:
        return {name: kind}
    oldest = replace(kind, program=(str(OLDEST / "bin" / "python"),))
    return {f"{name}-{version(kind.package)}": kind, f"{name}-{PINNED[kind.package]}": oldest}


SERVERS = {each: found for name, kind in KINDS.items() for each, found in releases(name, kind).items()}
WITH_HTTP2 = [name for name, kind in SERVERS.items() if kind.http2]
WITH_ASGI = [name for name, kind in SERVERS.items() if kind.asgi]
