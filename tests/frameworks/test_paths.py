"""Which rule decides, and which view runs: in every framework, with every way to set a root, for every kind of path.

The rules exclude each other: the guest must reach no view of "/admin", and the operator no other view. Without a
certificate, only the exempt view may be reached.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
import quart.asgi

from mtls_middleware import asgi, wsgi
from mtls_middleware.policy import Subject
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.environs import KNOWN_SERVER
from tests.frameworks import path_sites
from tests.gateways import staying

AUTHORITY = CertificateAuthority()
CLIENTS: dict[str, IssuedCertificate | None] = {
    "ops": AUTHORITY.issue("CN=ops,O=Acme"),
    "guest": AUTHORITY.issue("CN=guest,O=Acme"),
    "nobody": None,
}
ALLOW = {"/admin": Subject("CN=ops,O=Acme"), "/": Subject("CN=guest,O=Acme")}
MAY_REACH = {"ops": {"admin", "health"}, "guest": {"other", "health"}, "nobody": {"health"}}

TARGETS = [
    "/", "/admin", "/admin/users", "/admin/", "/health", "/health/", "/public", "/api", "/api/", "/api/admin",
    "/api/admin/users", "/api/health", "/api/public", "/api/api/admin", "/api/api", "/apiadmin", "/apihealth",
    "/API/admin", "/Admin", "/api/Admin", "/x/api/admin", "/x/api/health", "/public/admin", "/xadmin", "/x/admin",
    "/admin/api/public", "/adminapi", "/%61dmin", "/api%2Fadmin", "/api/%2561dmin", "/%2Fadmin", "//admin",
    "/api//admin", "/public/../admin", "/api/../admin", "/admin;x", "/api;x/admin", "/admin%20", "/caf%C3%A9",
    "/%FF", "/admin/api/admin", "/api/admin/../health", "/health/api/admin", "/lic/admin", "*", "admin", "apiadmin",
    "api/admin", "", "http://h/admin", "http://h/api/admin",
]  # fmt: skip

# (target) -> (path, root), or None if the server itself rejects the target
Server = Callable[[str], tuple[str, Any] | None]


def text(target: str) -> str:
    return unquote_to_bytes(target).decode("utf-8", "replace")


def wire(path: str) -> str:
    return path.encode().decode("latin-1")


def plain(target: str) -> tuple[str, Any]:
    return text(target), ""


def joined(root: str) -> Server:
    """uvicorn --root-path: `path` is the root followed by the target."""
    return lambda target: (root + text(target), root)


def whole_path(root: Any) -> Server:
    """hypercorn and gunicorn's asgi worker with --root-path; daphne, with Daphne-Root-Path as well."""
    return lambda target: (text(target), root)


def dispatched(root: str, own: str = "") -> Server:
    """hypercorn's dispatcher: it compares without regard to slashes."""
    return lambda target: (text(target), own + root) if text(target).startswith(root) else None


ASGI_SERVERS: dict[str, Server] = {
    "no root": plain,
    "uvicorn --root-path": joined("/api"),
    "hypercorn --root-path": whole_path("/api"),
    "hypercorn's dispatcher": dispatched("/api"),
    "hypercorn's dispatcher and --root-path": dispatched("/api", "/root"),
    "a root of None": whole_path(None),
    **{f"Daphne-Root-Path: {root}": whole_path(root) for root in (
        "/", "/api/", "/admin", "/admin/", "/x", "lic", "/lic", "/admin/users", "/publi", "p", "/health", "/x/api",
        "//", "/api/api", "/public/..", "%61", "/caf\u00e9",
    )},
}  # fmt: skip
ASGI_SITES = (
    "starlette", "starlette_mount", "fastapi", "fastapi_root", "fastapi_root_hidden", "fastapi_root_inside", "quart",
    "litestar", "litestar_middleware", "falcon_asgi", "bare_asgi", "django_asgi", "django_asgi FORCE_SCRIPT_NAME",
)  # fmt: skip


def cut(script: str) -> Server:
    """gunicorn with SCRIPT_NAME, from its environment or a client's header: it compares before it decodes."""
    return lambda target: (text(target[len(script) :]), script) if target.startswith(script) else None


def segments(target: str) -> tuple[str, Any]:
    """werkzeug's dispatcher and waitress with --url-prefix: whole segments."""
    path = text(target)
    return (path[4:], "/api") if f"{path}/".startswith("/api/") else (path, "")


WSGI_SERVERS: dict[str, Server] = {
    "no root": plain,
    "a dispatcher": segments,
    **{f"SCRIPT_NAME: {root}": cut(root) for root in (
        "/api", "/", "/admin", "/x", "/publi", "/api/", "/health", "/a", "/api/api",
    )},
}  # fmt: skip
WSGI_SITES = ("flask", "falcon_wsgi", "bare_wsgi", "cherrypy", "django_wsgi", "django_wsgi FORCE_SCRIPT_NAME")


class Site:
    """A framework's application behind the layers."""

    def __init__(self, name: str, prefix: str = "", *, bare: bool = False, **options: Any) -> None:
        self.wsgi = name.startswith(WSGI_SITES)
        self._ask = self._ask_wsgi if self.wsgi else self._ask_asgi

        def protect(app: Any) -> Any:
            module = wsgi if self.wsgi else asgi
            if bare:
                return app
            return module.protect(app, source=ServerTLS(), allow=ALLOW, exempt=["/health"], **options)

        self._app = getattr(path_sites, name.partition(" ")[0])(protect, prefix)

    async def ask(self, path: str, root: Any, client: str) -> tuple[int, str]:
        return await self._ask(path, root, CLIENTS[client])

    async def _ask_asgi(self, path: str, root: Any, client: IssuedCertificate | None) -> tuple[int, str]:
        sent: list[Any] = []
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "https",
            "method": "GET", "path": path, "raw_path": path.encode(), "root_path": root, "query_string": b"",
            "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8000),
            "extensions": {} if client is None else {"tls": client.as_tls_extension()}, "state": {},
        }  # fmt: skip

        messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        try:
            await staying(self._app)(scope, receive, send)
        except Exception:  # noqa: BLE001 (a framework that breaks over such a path has run no view)
            return 500, ""
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:]).decode()

    async def _ask_wsgi(self, path: str, root: Any, client: IssuedCertificate | None) -> tuple[int, str]:
        import io

        started: list[str] = []
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": wire(root), "PATH_INFO": wire(path),
            "QUERY_STRING": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost", "REMOTE_ADDR": "127.0.0.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.multithread": False,
            "wsgi.multiprocess": False, "wsgi.run_once": False, **KNOWN_SERVER,
        }  # fmt: skip
        environ |= {} if client is None else client.as_environ()
        body = self._app(environ, lambda status, *_: started.append(status))
        answer = b"".join(body).decode()
        getattr(body, "close", lambda: None)()
        return int(started[0][:3]), answer


@contextmanager
def set_up(name: str) -> Iterator[None]:
    """Django's settings, for its sites."""
    logging.getLogger("django.request").setLevel(logging.CRITICAL)
    if "django" not in name:
        yield
        return
    from django.test import override_settings

    from tests.frameworks import django_site

    django_site.set_up()
    forced = "/api" if "FORCE" in name else None
    with override_settings(ROOT_URLCONF="tests.frameworks.path_urls", FORCE_SCRIPT_NAME=forced):
        yield


def confused(site: Site, server: Server) -> tuple[list[Any], list[Any]]:
    """The requests whose view another rule is for; and all that reached a view."""

    async def gather_all() -> tuple[list[Any], list[Any]]:
        wrong, reached = [], []
        for target in TARGETS:
            made = server(target)
            if made is None:
                continue
            for client, allowed in MAY_REACH.items():
                status, view = await site.ask(*made, client)
                if status == 200:
                    reached.append((target, client, view))
                    if view not in allowed:
                        wrong.append((target, client, view))
        return wrong, reached

    return asyncio.run(gather_all())


CELLS = [
    *((site, server, way) for site in ASGI_SITES for server, way in ASGI_SERVERS.items()),
    *((site, server, way) for site in WSGI_SITES for server, way in WSGI_SERVERS.items()),
]


@pytest.mark.case("148", "149", "152")
@pytest.mark.parametrize(("site", "server", "way"), CELLS, ids=[f"{site} - {server}" for site, server, _ in CELLS])
def test_the_rule_of_the_view_that_ran_has_decided(site: str, server: str, way: Server) -> None:
    with set_up(site):
        wrong, _ = confused(Site(site), way)
    assert wrong == []


@pytest.mark.case("148", "149", "152")
@pytest.mark.parametrize("stated", ["/api", ""])
@pytest.mark.parametrize(("site", "server", "way"), CELLS, ids=[f"{site} - {server}" for site, server, _ in CELLS])
def test_a_stated_root_holds_whatever_the_server_says(site: str, server: str, way: Server, stated: str) -> None:
    with set_up(site):
        wrong, _ = confused(Site(site, prefix=stated if reads_whole(site) else "", root_path=stated), way)
    assert wrong == []


def reads_whole(site: str) -> bool:
    """Falcon, CherryPy and a bare application know no root: their routes begin with it."""
    return site.startswith(("falcon_asgi", "bare_asgi", "cherrypy"))


# How a deployment at "/api" gives the path "/admin" to the application's server: the target, and the server.
DEPLOYMENTS = {
    "uvicorn --root-path, the proxy removes it": ("", ASGI_SERVERS["uvicorn --root-path"]),
    "hypercorn --root-path": ("/api", ASGI_SERVERS["hypercorn --root-path"]),
    "hypercorn --root-path, the proxy removes it": ("", ASGI_SERVERS["hypercorn --root-path"]),
    "hypercorn's dispatcher": ("/api", ASGI_SERVERS["hypercorn's dispatcher"]),
    "the server does not know it": ("/api", plain),
    "only the proxy knows it": ("", plain),
    "SCRIPT_NAME": ("/api", WSGI_SERVERS["SCRIPT_NAME: /api"]),
    "a WSGI dispatcher": ("/api", WSGI_SERVERS["a dispatcher"]),
}
LEGITIMATE = [
    (site, deployment)
    for site in (*ASGI_SITES, *WSGI_SITES)
    for deployment in DEPLOYMENTS
    if ("corn" not in deployment or site in ASGI_SITES) and ("WSGI" not in deployment or site in WSGI_SITES)
    if deployment != "SCRIPT_NAME" or site in WSGI_SITES
    if site != "starlette_mount" or deployment == "the server does not know it"
    # Litestar has chosen the view before its middleware runs, so a root cannot be stated there.
    if site != "litestar_middleware" or deployment != "the server does not know it"
]


@pytest.mark.parametrize(("site", "deployment"), LEGITIMATE)
def test_every_request_of_a_deployment_with_a_stated_root_passes(site: str, deployment: str) -> None:
    before, way = DEPLOYMENTS[deployment]
    with set_up(site):
        made = Site(site, prefix="/api" if reads_whole(site) else "", root_path="/api")

        async def answers() -> list[Any]:
            asked = [("/admin/users", "ops"), ("/public", "guest"), ("/health", "nobody"), ("/health", "guest")]
            return [await made.ask(*(way(before + path) or ("", "")), client) for path, client in asked]

        assert asyncio.run(answers()) == [(200, "admin"), (200, "other"), (200, "health"), (200, "health")]


# In a mount, or inside of FastAPI with root_path=, a root is involved.
WITHOUT_ROOT = [each for each in (*ASGI_SITES, *WSGI_SITES) if each not in ("starlette_mount", "fastapi_root_inside")]


@pytest.mark.parametrize("site", WITHOUT_ROOT)
def test_without_a_root_nothing_needs_to_be_stated(site: str) -> None:
    with set_up(site):
        made = Site(site)

        async def answers() -> list[Any]:
            asked = [("/admin", "ops"), ("/public/admin", "guest"), ("/health", "nobody")]
            return [await made.ask(path, "", client) for path, client in asked]

        assert asyncio.run(answers()) == [(200, "admin"), (200, "other"), (200, "health")]


PARTS = ["/", "admin", "/admin", "api", "/api", "/x", "/health", "a", "pi", "//", "/..", ";", "%61", " ", "\u00e9"]


@pytest.mark.parametrize("stated", [None, "/api", ""])
@pytest.mark.parametrize("site", [*ASGI_SITES, *WSGI_SITES])
def test_no_drawn_path_and_root_lead_past_a_rule(site: str, stated: str | None) -> None:
    dice = random.Random(f"{site} {stated}")

    def drawn(most: int) -> str:
        return "".join(dice.choices(PARTS, k=dice.randint(0, most)))

    async def wrong() -> list[Any]:
        made = Site(site, prefix=(stated or "") if reads_whole(site) else "", root_path=stated)
        found = []
        for _ in range(500):
            root, path, client = drawn(3), drawn(5), dice.choice(list(MAY_REACH))
            path = root + path if dice.random() < 0.4 and not made.wsgi else path
            status, view = await made.ask(path, root, client)
            if status == 200 and view not in MAY_REACH[client]:
                found.append((path, root, client, view))
        return found

    with set_up(site):
        assert asyncio.run(wrong()) == []


# docs/paths.md: what each framework reads with the root "/api". `None`: no view.
READ = {
    "starlette": ("/admin", "/apiadmin", "/x/api/admin", "/admin"),
    "fastapi": ("/admin", "/apiadmin", "/x/api/admin", "/admin"),
    "quart": ("/admin", "/admin", None if hasattr(quart.asgi, "_normalise_path") else "/admin", None),  # Quart 0.20
    "litestar": ("/admin", "/admin", "/admin", "/admin"),
    "django_asgi": ("/admin", None, "/x/api/admin", "/admin"),
    "falcon_asgi": ("/api/admin", "/apiadmin", "/x/api/admin", "/admin"),
    "bare_asgi": ("/api/admin", "/apiadmin", "/x/api/admin", "/admin"),
}


@pytest.mark.parametrize("site", READ)
def test_frameworks_read_what_the_page_says(site: str) -> None:
    """A view for every path answers what is not "/admin"; Quart reads a blank, which such a view matches."""
    with set_up(site):
        made = Site(site, bare=True)

        async def views() -> list[tuple[int, str]]:
            return [await made.ask(path, "/api", "nobody") for path in PATHS_OF_THE_PAGE]

        for read, (status, view) in zip(READ[site], asyncio.run(views()), strict=True):
            if read is None:
                assert (status, view) in {(404, view), (200, "other")}
            else:
                assert (status, view) == (200, "admin" if read == "/admin" else "other")


PATHS_OF_THE_PAGE = ("/api/admin", "/apiadmin", "/x/api/admin", "/admin")
