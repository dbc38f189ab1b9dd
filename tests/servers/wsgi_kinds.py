"""The WSGI servers and adapters of docs/wsgi-servers.md: how each is started, and what is known of it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.live.servers import ROOT
from tests.servers import embedded

APPS = "tests.servers.folding_apps"
WSGI = f"{APPS}:application"

# (port, an empty folder) -> arguments of the program
Command = Callable[[int, Path], list[str]]


def _module(*words: str) -> Command:
    return lambda port, _: ["-W", "ignore", "-m", *(word.replace("PORT", str(port)) for word in words)]


def _gunicorn(*options: str, app: str = WSGI) -> Command:
    return _module("gunicorn", app, "--bind", "127.0.0.1:PORT", "--no-control-socket", *options)


def _uvicorn(app: str, *options: str) -> Command:
    return _module("uvicorn", app, "--port", "PORT", "--log-level", "error", *options)


def _own(name: str) -> Command:
    return _module(APPS, name, "PORT")


def _uwsgi(port: int, _: Path) -> list[str]:
    return ["--http", f"127.0.0.1:{port}", "--buffer-size", "65535", "--module", WSGI, "--pythonpath", str(ROOT)]


def _mod_wsgi(group: str, *more: str) -> Command:
    script = ROOT / "tests" / "servers" / "folding_apps.py"
    modules = ("remoteip",) if more else ()
    return lambda port, folder: embedded.apache(port, folder, script, more, modules=modules, group=group)


_PYTHON = (sys.executable,)


@dataclass(frozen=True, kw_only=True)
class WSGIKind:
    """One row of the page: what is measured on the server, and what the library does.

    Attributes:
        alone: what becomes of `X_A` if there is no `X-A`: `folded`, `dropped` or `rejected`.
        both: what the application reads if there are both: the `hyphen`'s value, the `last` one, or both `joined`.
        odd: odd names that arrive as `MtlsClientCert`.
        address: where `REMOTE_ADDR` comes from if there is an `X-Forwarded-For`: `connection` or `header`.
        names_known: the library trusts the server to keep names apart.
        address_known: the library trusts `REMOTE_ADDR`.
    """

    command: Command
    package: str
    program: Sequence[str] = _PYTHON
    alone: str = "folded"
    both: str = "joined"
    odd: tuple[str, ...] = ()
    address: str = "connection"
    names_known: bool = False
    address_known: bool = False


def _known(command: Command, package: str, *, program: Sequence[str] = _PYTHON, address_known: bool = True) -> WSGIKind:
    return WSGIKind(
        command=command, package=package, program=program,
        alone="dropped", both="hyphen", names_known=True, address_known=address_known,
    )  # fmt: skip


_FORWARDED = ("--forwarded-allow-ips", "*")
WSGI_KINDS = {
    "gunicorn sync": _known(_gunicorn(), "gunicorn"),
    "gunicorn gthread": _known(_gunicorn("--worker-class", "gthread", "--threads", "2"), "gunicorn"),
    "gunicorn gevent": _known(_gunicorn("--worker-class", "gevent"), "gunicorn"),
    "gunicorn gevent_pywsgi": _known(_gunicorn("--worker-class", "gevent_pywsgi"), "gunicorn"),
    "gunicorn `--header-map dangerous`": WSGIKind(
        command=_gunicorn("--header-map", "dangerous"), package="gunicorn", address_known=True
    ),
    "gunicorn `--forwarder-headers \"*\"`": WSGIKind(
        command=_gunicorn("--forwarder-headers", "*"), package="gunicorn", address_known=True
    ),
    "gunicorn tornado": WSGIKind(command=_gunicorn("--worker-class", "tornado"), package="gunicorn", both="last"),
    "gevent.pywsgi": _known(_own("gevent"), "gevent"),
    "waitress": _known(_module("waitress", "--listen=127.0.0.1:PORT", WSGI), "waitress"),
    "waitress `--trusted-proxy`": WSGIKind(
        command=_module(
            *("waitress", "--listen=127.0.0.1:PORT", "--trusted-proxy=*"),
            *("--trusted-proxy-headers=x-forwarded-for", WSGI),
        ),
        package="waitress",
        alone="dropped",
        both="hyphen",
        address="header",
        names_known=True,
        address_known=True,  # unless there is the field, which waitress then leaves in the environ
    ),
    "werkzeug": _known(_own("werkzeug"), "werkzeug"),
    "mod_wsgi embedded": _known(
        _mod_wsgi("%{GLOBAL}"), "mod_wsgi", program=embedded.APACHE, address_known=False
    ),
    "mod_wsgi daemon": _known(_mod_wsgi("daemons"), "mod_wsgi", program=embedded.APACHE, address_known=False),
    "mod_wsgi with mod_remoteip": WSGIKind(
        command=_mod_wsgi("daemons", "RemoteIPHeader X-Forwarded-For", "RemoteIPInternalProxy 127.0.0.1"),
        package="mod_wsgi",
        program=embedded.APACHE,
        alone="dropped",
        both="hyphen",
        address="header",
        names_known=True,
    ),
    "cheroot": WSGIKind(
        command=_own("cheroot"),
        package="cheroot",
        both="last",
        odd=("`MtlsClientCert `", "`MtlsClientCert\\t`"),
        address_known=True,
    ),
    "granian": WSGIKind(
        command=_module("granian", "--interface", "wsgi", "--port", "PORT", WSGI),
        package="granian",
        both="last",
        address_known=True,
    ),
    "wsgiref": WSGIKind(command=_own("wsgiref"), package="Python", address_known=True),
    "Django runserver": _known(_own("runserver"), "django"),
    "uWSGI": WSGIKind(command=_uwsgi, package="uwsgi", program=embedded.UWSGI),
    "hypercorn": WSGIKind(
        command=_module("hypercorn", f"wsgi:{WSGI}", "--bind", "127.0.0.1:PORT"), package="hypercorn"
    ),
    "uvicorn `--interface wsgi`": WSGIKind(
        command=_uvicorn(WSGI, "--interface", "wsgi"), package="uvicorn", address="header"
    ),
    "uvicorn `--interface wsgi --no-proxy-headers`": WSGIKind(
        command=_uvicorn(WSGI, "--interface", "wsgi", "--no-proxy-headers"), package="uvicorn"
    ),
    "Twisted": WSGIKind(
        command=_module("twisted", "web", "--wsgi", f"{APPS}.application", "--listen", "tcp:PORT:interface=127.0.0.1"),
        package="twisted",
        both="last",
    ),
    "Tornado": WSGIKind(command=_own("tornado"), package="tornado", both="last"),
    "Tornado `xheaders=True`": WSGIKind(
        command=_own("tornado_xheaders"), package="tornado", both="last", address="header"
    ),
    "eventlet": WSGIKind(command=_own("eventlet"), package="eventlet", alone="dropped", both="hyphen"),
    "aiohttp-wsgi": WSGIKind(command=_own("aiohttp_wsgi"), package="aiohttp-wsgi", both="last"),
    "a2wsgi.WSGIMiddleware on uvicorn": WSGIKind(
        command=_uvicorn(f"{APPS}:by_a2wsgi"), package="a2wsgi", address="header"
    ),
    "asgiref's WsgiToAsgi on uvicorn": WSGIKind(
        command=_uvicorn(f"{APPS}:by_asgiref"), package="asgiref", address="header"
    ),
    "Starlette's WSGIMiddleware on uvicorn": WSGIKind(
        command=_uvicorn(f"{APPS}:by_starlette"), package="starlette", address="header"
    ),
    "a2wsgi.ASGIMiddleware on gunicorn (ASGI)": _known(_gunicorn(app=f"{APPS}:asgi_by_a2wsgi"), "a2wsgi"),
    "a2wsgi.ASGIMiddleware on wsgiref (ASGI)": WSGIKind(
        command=_own("asgi_on_wsgiref"), package="a2wsgi", address_known=True
    ),
}  # fmt: skip
