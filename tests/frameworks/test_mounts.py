"""Applications that mount others inside of the layers, and websockets: the rule is that of the view that runs."""

import asyncio
from typing import Any

import pytest

from mtls_middleware import asgi, wsgi
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.policy import ANYONE
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority
from tests.environs import KNOWN_SERVER
from tests.frameworks import path_sites
from tests.frameworks.test_paths import ALLOW
from tests.gateways import exchange, staying

AUTHORITY = CertificateAuthority()
OPS, GUEST = AUTHORITY.issue("CN=ops,O=Acme"), AUTHORITY.issue("CN=guest,O=Acme")
MOUNTED = {"/api/admin": ALLOW["/admin"], "/": ALLOW["/"]}


def itself(app: Any) -> Any:
    return app


def guarded(app: Any, allow: Any = MOUNTED, **options: Any) -> Any:
    return asgi.protect(app, source=ServerTLS(), allow=allow, **options)


def get(app: Any, path: str, client: Any, root: str = "", raw: bytes | None = None) -> tuple[int, str]:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "https", "method": "GET",
        "path": path, "raw_path": path.encode() if raw is None else raw, "root_path": root,
        "query_string": b"", "server": ("h", 80),
        "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 5), "state": {},
        "extensions": {} if client is None else {"tls": client.as_tls_extension()},
    }  # fmt: skip

    sent = exchange(staying(app), scope, [{"type": "http.request", "body": b"", "more_body": False}])
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:]).decode()


def dispatcher(app: Any) -> Any:
    from hypercorn.middleware import DispatcherMiddleware

    return DispatcherMiddleware({"/api": app})


@pytest.mark.parametrize("site", [path_sites.quart, path_sites.litestar, path_sites.starlette, path_sites.django_asgi])
def test_hypercorns_dispatcher_minds_no_slash(site: Any) -> None:
    """It gives "/apiadmin" to the application at "/api", and Quart removes the root: "/admin" runs."""
    from tests.frameworks.test_paths import set_up

    with set_up(site.__name__):
        app = guarded(dispatcher(site(itself)))
        assert get(app, "/api/admin", OPS) == (200, "admin")
        assert get(app, "/api/public", GUEST) == (200, "other")
        for path in ("/apiadmin", "/api/admin", "/apiadmin/users"):
            assert get(app, path, GUEST)[0] in {400, 403}


def test_a_dispatcher_behind_other_middleware_is_found() -> None:
    inner = dispatcher(path_sites.quart(itself))

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    class Wrapped:
        def __init__(self) -> None:
            self.app = middleware

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    assert get(guarded(Wrapped()), "/apiadmin", GUEST)[0] == 400


def test_fastapi_with_a_root_of_its_own_below_a_mount() -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    inner = path_sites.fastapi_root(itself)
    inner.root_path = "/api/old"
    app = guarded(Starlette(routes=[Mount("/api", inner)]))
    assert get(inner, "/api/old/admin", None) == (200, "admin")
    assert get(app, "/api/old/admin", GUEST)[0] == 400


def test_a_root_that_fastapi_gets_later_counts() -> None:
    inner = path_sites.fastapi(itself)
    app = guarded(inner, ALLOW)
    assert get(app, "/old/admin", GUEST) == (200, "other")
    inner.root_path = "/old"
    assert get(app, "/old/admin", GUEST)[0] == 400


def test_litestar_cuts_the_path_of_a_mount_before_its_middleware_runs() -> None:
    import litestar
    from litestar.types import Receive, Scope, Send

    @litestar.asgi("/api", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await path_sites.bare_asgi(itself)(scope, receive, send)

    app = litestar.Litestar([mounted], middleware=[guarded], logging_config=None, openapi_config=None)
    assert get(app, "/api/public", GUEST) == (200, "other")
    for raw in (None, b""):
        assert get(app, "/api/admin", GUEST, raw=raw)[0] == 400
        assert get(app, "/api/admin/users", GUEST, raw=raw)[0] == 400


@pytest.mark.parametrize("tenant", ["x", "admin"])
def test_a_mount_that_the_client_chooses_is_ambiguous(tenant: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    app = Starlette(routes=[Mount("/{tenant}", guarded(path_sites.starlette(itself), ALLOW))])
    assert get(app, f"/{tenant}/public", GUEST)[0] == (200 if tenant == "x" else 400)
    assert get(app, f"/{tenant}/admin", GUEST)[0] in {400, 403}
    assert get(app, f"/{tenant}/admin/users", GUEST)[0] in {400, 403}


def test_quart_reads_a_blank_if_the_path_has_no_root() -> None:
    """A view for every path runs then, and it is not the view of "/public"."""
    app = guarded(path_sites.quart(itself), {"/": ALLOW["/admin"], "/public": ANYONE})
    assert get(path_sites.quart(itself), "/public", None, root="/public") == (200, "other")
    for root in ("/public", "/public/", "/public/x", "/x"):
        assert get(app, "/public", None, root=root)[0] == 400


@pytest.mark.parametrize("root", ["/api", "/admin", "/x"])
@pytest.mark.parametrize("path", ["/api/admin", "/admin", "/apiadmin", "/xadmin"])
def test_a_websocket_has_the_rule_of_its_route(root: str, path: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    reached = []

    async def view(socket: Any) -> None:
        reached.append(socket.url.path)
        await socket.accept()
        await socket.close()

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None: ...

    app = guarded(Starlette(routes=[WebSocketRoute("/admin", view)]), ALLOW)
    scope = {
        "type": "websocket", "path": path, "root_path": root, "headers": [], "query_string": b"", "subprotocols": [],
        "scheme": "wss", "server": ("h", 80), "extensions": {"tls": GUEST.as_tls_extension()},
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert reached == []


def test_lifespan_has_no_path() -> None:
    started = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.append(dict(scope))

    async def none(*_: Any) -> Any: ...

    asyncio.run(guarded(app, root_path="/api")({"type": "lifespan"}, none, none))
    assert started == [{"type": "lifespan"}]


def test_an_application_under_an_adapter_counts_for_the_wsgi_layer() -> None:
    from a2wsgi import ASGIMiddleware

    app = wsgi.protect(ASGIMiddleware(path_sites.fastapi_root(itself)), source=ServerTLS(), allow=ALLOW)
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/api/admin",
        **KNOWN_SERVER,
        **GUEST.as_environ(),
    }
    started: list[str] = []
    list(app(environ, lambda status, *_: started.append(status)))
    assert started == ["400 Bad Request"]


class Odd:
    """What a walk through attributes may meet."""

    def __init__(self) -> None:
        self.app = self
        self.routes = [object(), None]
        self.mounts = {"/x": None, 7: self}

    @property
    def wrapped(self) -> Any:
        raise RuntimeError("working outside of a context")

    def __call__(self) -> None: ...


def test_an_odd_application_has_no_prefix() -> None:
    assert ApplicationPrefixes(Odd()).now() == ()
    assert ApplicationPrefixes(None).now() == ()
