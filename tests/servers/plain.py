"""Servers in clear text, as a proxy has them behind it: our classes, and the servers' own; and what the latter do.

`FACTS` is the table that docs/server-results.md shows, and that `test_upgrades.py` measures.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.live.servers import ROOT
from tests.servers.attempt import Attempt
from tests.servers.clients import options
from tests.servers.kinds import ASGI_WORKER, OLDEST, UVICORN
from tests.servers.upgrades import PAYLOADS, Payload

RECORDING = "tests.servers.recorder"
ASGI, WSGI = f"{RECORDING}:asgi", f"{RECORDING}:wsgi"
LOOPBACK = "127.0.0.1"
Command = Callable[[int, Path | None], list[str]]


def uvicorn(http: str, ws: str = "websockets-sansio", *more: str, loop: str = "asyncio") -> Command:
    def command(port: int, files: Path | None) -> list[str]:
        tls = (
            [part.replace("--", "--ssl-") if part.startswith("--") else part for part in options(files)]
            if files
            else []
        )
        program = ["-m", "uvicorn", ASGI, "--http", http, "--ws", ws, "--loop", loop, "--no-proxy-headers", *more]
        return [*program, "--port", str(port), *tls, *(["--ssl-cert-reqs", "1"] if files else [])]

    return command


def ours(http: str, ws: str, loop: str = "asyncio") -> Command:
    return uvicorn(f"{UVICORN}:{http}", f"{UVICORN}:{ws}", loop=loop)


def hypercorn(module: str, *more: str) -> Command:
    def command(port: int, files: Path | None) -> list[str]:
        tls = [*options(files), "--verify-mode", "CERT_OPTIONAL"] if files else []
        return ["-m", module, ASGI, "--bind", f"{LOOPBACK}:{port}", *tls, *more]

    return command


def gunicorn(worker: str, app: str, *more: str) -> Command:
    def command(port: int, files: Path | None) -> list[str]:
        tls = [*options(files), "--cert-reqs", "1", "--http-protocols", "h2,h1"] if files else []
        program = ["-m", "gunicorn", app, "--worker-class", worker, "--threads", "4" if worker == "gthread" else "1"]
        return [*program, "--bind", f"{LOOPBACK}:{port}", "--no-control-socket", "--keep-alive", "60", *tls, *more]

    return command


def daphne(port: int, files: Path | None) -> list[str]:
    if files is None:
        return ["-m", "daphne", "--bind", LOOPBACK, "--port", str(port), "--verbosity", "0", ASGI]
    program = ["-m", "mtls_middleware.servers.daphne_tls", "--bind", LOOPBACK, "--port", str(port)]
    return [*program, *options(files), "--cert-reqs", "1", ASGI]


def granian(interface: str, app: str, *more: str) -> Command:
    program = ["-m", "granian", "--interface", interface, "--host", LOOPBACK, "--no-log", app, *more]
    return lambda port, files: [*program, "--port", str(port)]


def served(name: str) -> Command:
    return lambda port, files: ["-m", RECORDING, name, str(port), *([str(files)] if files else [])]


def uwsgi(*more: str) -> Command:
    common = [
        "--plugins",
        "http,python3",
        "--die-on-term",
        "--threads",
        "8",
        "--buffer-size",
        "65535",
        "--module",
        WSGI,
    ]
    common += ["--virtualenv", str(ROOT / ".venv.debian"), "--pythonpath", str(ROOT)]
    return lambda port, files: [*common, *(part.replace("PORT", str(port)) for part in more)]


@dataclass(frozen=True, kw_only=True)
class Class:
    """One of our classes. `ends`: it closes the connection; `websockets`: it serves them."""

    command: Command
    clear_text: bool = True
    ends: bool = True
    websockets: bool = True


OURS = {
    "uvicorn_tls:H11": Class(command=ours("H11", "WebSockets")),
    "uvicorn_tls:H11, uvloop, WSProto": Class(command=ours("H11", "WSProto", "uvloop")),
    "uvicorn_tls:HTTPTools": Class(command=ours("HTTPTools", "WebSockets")),
    "uvicorn_tls:HTTPTools, uvloop, WSProto": Class(command=ours("HTTPTools", "WSProto", "uvloop")),
    "uvicorn_tls:Zttp": Class(command=ours("Zttp", "WebSockets")),
    "uvicorn_tls:HTTP2": Class(command=ours("HTTP2", "WSProto")),
    "hypercorn_tls": Class(command=hypercorn("mtls_middleware.servers.hypercorn_tls")),
    "gunicorn_asgi.Worker": Class(command=gunicorn(ASGI_WORKER, ASGI)),
    "daphne_tls.Server": Class(command=daphne, clear_text=False),
    # An adapter has no part in HTTP: cheroot reads the bodies, carries out no upgrade, and keeps the connection.
    "cheroot_tls.Adapter": Class(command=served("cheroot_tls"), clear_text=False, ends=False, websockets=False),
}
RELEASES = {"newest": (sys.executable,), "oldest": (str(OLDEST / "bin" / "python"),)}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a server does by itself, in clear text."""

    h2c: bool = False  # answers 101 to Upgrade: h2c
    prior_knowledge: bool = False  # speaks HTTP/2 with a client that begins with its preface
    upgrade_body: bool = True  # reads the body of a request with another Upgrade as its body
    connect_body: bool = True  # never reads the body of a CONNECT, with a length or chunked, as a request
    connect_rest: bool = True  # never reads what follows a CONNECT without a body as a request
    websocket_body: bool = True  # never takes the body of a websocket handshake for frames


@dataclass(frozen=True, kw_only=True)
class Own:
    """A server as it is by itself. `off`: what switches off what a proxy's connection is not safe with."""

    command: Command
    facts: Facts
    off: str = ""
    program: Sequence[str] = (sys.executable,)
    one_by_one: bool = False  # serves one connection at a time


OWN = {
    "uvicorn --http h11": Own(command=uvicorn("h11"), facts=Facts(connect_rest=False), off="`servers.uvicorn_tls:H11`"),
    "uvicorn --http httptools": Own(
        command=uvicorn("httptools"),
        facts=Facts(upgrade_body=False, connect_body=False, connect_rest=False),
        off="`--http h11`, or `servers.uvicorn_tls:HTTPTools`",
    ),
    "uvicorn --http zttp": Own(
        command=uvicorn("zttp"), facts=Facts(connect_rest=False), off="`servers.uvicorn_tls:Zttp`"
    ),
    "uvicorn --http zttp --http2": Own(
        command=uvicorn("zttp", "websockets-sansio", "--http2"),
        facts=Facts(prior_knowledge=True, connect_rest=False),
        off="without `--http2`, or `servers.uvicorn_tls:HTTP2`",
    ),
    "uvicorn --http h11 --ws wsproto": Own(
        command=uvicorn("h11", "wsproto"),
        facts=Facts(connect_rest=False, websocket_body=False),
        off="`--ws websockets-sansio`, or `servers.uvicorn_tls:H11`",
    ),
    "hypercorn": Own(
        command=hypercorn("hypercorn"),
        facts=Facts(h2c=True, prior_knowledge=True, connect_rest=False, websocket_body=False),
        off="no option; `servers.hypercorn_tls`",
    ),
    "daphne": Own(command=daphne, facts=Facts(connect_rest=False), off="no option; with TLS `servers.daphne_tls`"),
    "gunicorn asgi": Own(
        command=gunicorn("asgi", ASGI),
        facts=Facts(websocket_body=False),
        off="no option; `servers.gunicorn_asgi.Worker`",
    ),
    "gunicorn asgi --http2-cleartext both": Own(
        command=gunicorn("asgi", ASGI, "--http2-cleartext", "both", "--http-protocols", "h2,h1"),
        facts=Facts(h2c=True, prior_knowledge=True, websocket_body=False),
        off="without `--http2-cleartext`, or `servers.gunicorn_asgi.Worker`",
    ),
    "gunicorn sync": Own(command=gunicorn("sync", WSGI), facts=Facts(), one_by_one=True),
    "gunicorn gthread": Own(command=gunicorn("gthread", WSGI), facts=Facts()),
    "gunicorn gevent": Own(command=gunicorn("gevent", WSGI), facts=Facts()),
    "granian asgi": Own(
        command=granian("asginl", ASGI),
        facts=Facts(prior_knowledge=True, connect_rest=False, websocket_body=False),
        off="HTTP/2: `--http 1`; websockets: `--no-ws`; the rest: no option",
    ),
    "granian asgi --http 1": Own(
        command=granian("asginl", ASGI, "--http", "1"),
        facts=Facts(connect_rest=False, websocket_body=False),
        off="websockets: `--no-ws`; the rest: no option",
    ),
    "granian wsgi": Own(
        command=granian("wsgi", WSGI),
        facts=Facts(prior_knowledge=True, connect_rest=False),
        off="HTTP/2: `--http 1`; the rest: no option",
    ),
    "granian wsgi --http 1": Own(
        command=granian("wsgi", WSGI, "--http", "1"), facts=Facts(connect_rest=False), off="no option"
    ),
    "waitress": Own(command=served("waitress"), facts=Facts(connect_rest=False), off="no option"),
    "cheroot": Own(command=served("cheroot"), facts=Facts()),
    "werkzeug": Own(command=served("werkzeug"), facts=Facts()),
    "uwsgi --http": Own(
        command=uwsgi("--http", f"{LOOPBACK}:PORT", "--http-keepalive"),
        facts=Facts(connect_rest=False),
        off="no option",
        program=("uwsgi",),
    ),
    "uwsgi --http11-socket": Own(
        command=uwsgi("--http11-socket", f"{LOOPBACK}:PORT", "--threads", "16"),
        facts=Facts(connect_rest=False),
        off="no option",
        program=("uwsgi",),
    ),
    "wsgiref": Own(command=served("wsgiref"), facts=Facts(), one_by_one=True),
}


def _chosen(*names: str) -> list[Payload]:
    return [payload for payload in PAYLOADS if payload.name in names]


H2C = _chosen("h2c", "h2c without Connection")
PRIOR_KNOWLEDGE = _chosen("HTTP/2 with prior knowledge")
BODIES = _chosen("foo, length", "foo, length, apart", "foo, chunked", "foo, chunked, apart", "h2c, length, apart")
BODIES += _chosen("h2c, answered before the body")
CONNECTS = [payload for payload in PAYLOADS if payload.method == "CONNECT" and "absolute" not in payload.name]
WEBSOCKETS = _chosen("websocket with a body, length", "websocket with a body, length, apart")
MEASURED = [*H2C, *PRIOR_KNOWLEDGE, *BODIES, *CONNECTS, *WEBSOCKETS]


def measured(outcomes: dict[str, Attempt]) -> Facts:
    """The facts that these outcomes of `MEASURED` show."""

    def consumed(payload: Payload) -> bool:
        outcome = outcomes[payload.name]
        # Not every WSGI server hands over a chunked body.
        unchecked = payload.body is None or "chunked" in payload.name
        return outcome.smuggled <= payload.following and (unchecked or outcome.report(payload))

    return Facts(
        h2c=any((outcomes[each.name].fields.get("Upgrade") or "").lower() == "h2c" for each in H2C),
        prior_knowledge=any(outcomes[each.name].speaks_http2 for each in PRIOR_KNOWLEDGE),
        upgrade_body=all(consumed(each) for each in BODIES),
        connect_body=not any(outcomes[each.name].smuggled for each in CONNECTS if not each.following),
        connect_rest=not any(outcomes[each.name].smuggled for each in CONNECTS if each.following),
        websocket_body=not any(outcomes[each.name].status == 101 for each in WEBSOCKETS),
    )
