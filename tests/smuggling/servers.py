"""The servers behind the proxies, as a table: how to start each one, and what it is known for."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.live.servers import ROOT
from tests.servers import embedded

APPLICATIONS = "tests.smuggling.applications"
WSGI, ASGI = f"{APPLICATIONS}:wsgi_application", f"{APPLICATIONS}:asgi_application"
UVICORN = "mtls_middleware.servers.uvicorn_tls"
# A body that never ends holds one thread of a WSGI server.
THREADS = "64"

Command = Callable[[int, Path], list[str]]  # port, a folder for files


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def gunicorn(worker: str, application: str) -> Command:
    return lambda port, _: python(
        *("gunicorn", application, "--bind", f"127.0.0.1:{port}", "--worker-class", worker, "--threads", THREADS),
        *("--no-control-socket", "--limit-request-field_size", "65536", "--graceful-timeout", "1"),
        *("--log-level", "critical"),
    )


def uvicorn(http: str, *more: str) -> Command:
    return lambda port, _: python(
        *("uvicorn", ASGI, "--host", "127.0.0.1", "--port", str(port), "--http", http, "--no-proxy-headers"),
        *("--lifespan", "off", "--log-level", "critical", "--timeout-graceful-shutdown", "1", *more),
    )


def hypercorn(module: str) -> Command:
    return lambda port, _: python(
        *(module, ASGI, "--bind", f"127.0.0.1:{port}", "--log-level", "CRITICAL", "--graceful-timeout", "1")
    )


def daphne(port: int, _: Path) -> list[str]:
    return python("daphne", "-b", "127.0.0.1", "-p", str(port), "-v", "0", ASGI)


def waitress(port: int, _: Path) -> list[str]:
    return python("waitress", "--listen", f"127.0.0.1:{port}", "--threads", THREADS, WSGI)


def granian(interface: str, http: str) -> Command:
    application = WSGI if interface == "wsgi" else ASGI
    # One thread per request: a body that never ends holds it.
    threads = ("--blocking-threads", THREADS) if interface == "wsgi" else ()
    return lambda port, _: python(
        *("granian", "--interface", interface, "--host", "127.0.0.1", "--port", str(port), "--no-log"),
        *("--http", http, *threads, application),
    )


def uwsgi(port: int, _: Path) -> list[str]:
    return [
        *embedded.UWSGI, "--http", f"127.0.0.1:{port}", "--http-keepalive", "--buffer-size", "65535",
        "--threads", "16", "--module", WSGI, "--pythonpath", str(ROOT), "--disable-logging",
    ]  # fmt: skip


def mod_wsgi(port: int, folder: Path) -> list[str]:
    script = ROOT / "tests" / "smuggling" / "applications.py"
    return [*embedded.APACHE, *embedded.apache(port, folder, script, ["LimitRequestFieldSize 65536"], threads=32)]


@dataclass(frozen=True)
class Server:
    """How to start a server.

    Attributes:
        known_bad: why the project advises against this server behind a header source; empty if it does not.
        secret_alone: the peer's address may come from a field under this server, so a source that has a secret has
            no `trusted_proxies`.
    """

    command: Command
    known_bad: str = ""
    secret_alone: bool = False


SERVERS = {
    "gunicorn sync": Server(gunicorn("sync", WSGI)),
    "gunicorn gthread": Server(gunicorn("gthread", WSGI)),
    "gunicorn gevent": Server(gunicorn("gevent", WSGI)),
    "gunicorn asgi": Server(gunicorn("asgi", ASGI)),
    "uvicorn H11": Server(uvicorn(f"{UVICORN}:H11")),
    "uvicorn HTTPTools": Server(uvicorn(f"{UVICORN}:HTTPTools")),
    "uvicorn Zttp": Server(uvicorn(f"{UVICORN}:Zttp")),
    "uvicorn HTTP2": Server(uvicorn(f"{UVICORN}:HTTP2")),
    "uvicorn's own h11": Server(uvicorn("h11"), "take `H11` of `mtls_middleware.servers.uvicorn_tls`"),
    "uvicorn's own httptools": Server(
        uvicorn("httptools"),
        "it reads a body after an upgrade as requests, and trailer fields as header fields; take `HTTPTools` of "
        "`mtls_middleware.servers.uvicorn_tls`",
    ),
    "hypercorn": Server(hypercorn("hypercorn")),
    "hypercorn_tls": Server(hypercorn("mtls_middleware.servers.hypercorn_tls")),
    "daphne": Server(daphne),
    "waitress": Server(waitress),
    "granian asgi, HTTP/1": Server(granian("asgi", "1")),
    "granian asgi, auto": Server(granian("asgi", "auto")),
    "granian wsgi, HTTP/1": Server(granian("wsgi", "1")),
    "granian wsgi, auto": Server(granian("wsgi", "auto")),
    "cheroot": Server(lambda port, _: python(APPLICATIONS, "cheroot", str(port))),
    "werkzeug": Server(lambda port, _: python(APPLICATIONS, "werkzeug", str(port))),
    "uWSGI": Server(uwsgi, secret_alone=True),
    "mod_wsgi": Server(mod_wsgi, secret_alone=True),
}
# Servers that the project names, and the reason why they are not in the table.
LEFT_OUT = {"wsgiref": "the standard library's server for development: one request per connection"}
