"""One application for each framework, with the same views: each answers its own name.

The views are "/admin" and what is below it, "/health", and one for every other path. `prefix`: where the routes of a
framework begin that knows no root and reads the whole path.
"""

import warnings
from collections.abc import Callable
from typing import Any

Protect = Callable[[Any], Any]


def starlette_routes() -> list[Any]:
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    def view(name: str) -> Any:
        async def answer(_: Any) -> Any:
            return PlainTextResponse(name)

        return answer

    names = {"/admin": "admin", "/admin/{rest:path}": "admin", "/health": "health", "/{rest:path}": "other"}
    return [Route(path, view(name)) for path, name in names.items()]


def starlette(protect: Protect, prefix: str = "") -> Any:
    from starlette.applications import Starlette

    return protect(Starlette(routes=starlette_routes()))


def starlette_mount(protect: Protect, prefix: str = "") -> Any:
    """The layer is inside of a mount, at "/api"."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/api", protect(Starlette(routes=starlette_routes())))])


def _fastapi(**options: Any) -> Any:
    from fastapi import FastAPI

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FastAPI 0.140 and later: root_path= is deprecated
        app = FastAPI(**options)
    app.router.routes[:] = starlette_routes()
    return app


def fastapi(protect: Protect, prefix: str = "") -> Any:
    return protect(_fastapi())


def fastapi_root(protect: Protect, prefix: str = "") -> Any:
    return protect(_fastapi(root_path="/api"))


def fastapi_root_hidden(protect: Protect, prefix: str = "") -> Any:
    """Behind a middleware that is a function."""
    app = _fastapi(root_path="/api")

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return protect(middleware)


def fastapi_root_inside(protect: Protect, prefix: str = "") -> Any:
    """The layer as `add_middleware` puts it: FastAPI has written its root by then."""
    app = _fastapi(root_path="/api")
    app.add_middleware(protect)
    return app


def quart(protect: Protect, prefix: str = "") -> Any:
    from quart import Quart

    app = Quart("tests")
    _flask_like(app)
    return protect(app)


def flask(protect: Protect, prefix: str = "") -> Any:
    from flask import Flask

    app = Flask("tests")
    _flask_like(app)
    return protect(app)


def _flask_like(app: Any) -> None:
    app.add_url_rule("/admin", "a", lambda: "admin")
    app.add_url_rule("/admin/", "b0", lambda: "admin")
    app.add_url_rule("/admin/<path:rest>", "b", lambda rest: "admin")
    app.add_url_rule("/health", "c", lambda: "health")
    app.add_url_rule("/", "d", lambda: "other")
    app.add_url_rule("/<path:rest>", "e", lambda rest: "other")


def _litestar(**options: Any) -> Any:
    import litestar

    def view(path: str | list[str], name: str) -> Any:
        async def answer() -> str:
            return name

        return litestar.get(path)(answer)

    views = [
        view(["/admin", "/admin/{rest:path}"], "admin"),
        view("/health", "health"),
        view(["/", "/{r:path}"], "other"),
    ]
    return litestar.Litestar(views, logging_config=None, openapi_config=None, **options)


def litestar(protect: Protect, prefix: str = "") -> Any:
    return protect(_litestar())


def litestar_middleware(protect: Protect, prefix: str = "") -> Any:
    """The layer runs after Litestar has chosen the view."""
    return _litestar(middleware=[protect])


def _falcon(app: Any, responder: type, prefix: str) -> Any:
    app.add_route(f"{prefix}/admin", responder("admin"))
    app.add_route(f"{prefix}/admin/{{rest:path}}", responder("admin"))
    app.add_route(f"{prefix}/health", responder("health"))
    app.add_sink(responder("other").sink, "")
    return app


def falcon_asgi(protect: Protect, prefix: str = "") -> Any:
    from falcon.asgi import App

    class Responder:
        def __init__(self, name: str) -> None:
            self.name = name

        async def on_get(self, request: Any, response: Any, **_: Any) -> None:
            response.text = self.name

        async def sink(self, request: Any, response: Any, **_: Any) -> None:
            response.text = self.name

    return protect(_falcon(App(), Responder, prefix))


def falcon_wsgi(protect: Protect, prefix: str = "") -> Any:
    from falcon import App

    class Responder:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_get(self, request: Any, response: Any, **_: Any) -> None:
            response.text = self.name

        sink = on_get

    return protect(_falcon(App(), Responder, prefix))


def django_asgi(protect: Protect, prefix: str = "") -> Any:
    from tests.frameworks import django_site

    return protect(django_site.asgi())


def django_wsgi(protect: Protect, prefix: str = "") -> Any:
    from tests.frameworks import django_site

    return protect(django_site.wsgi())


def _name(path: str) -> str:
    return "admin" if f"{path}/".startswith("/admin/") else "health" if path == "/health" else "other"


def bare_asgi(protect: Protect, prefix: str = "") -> Any:
    """Reads the path as it is."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        name = _name(scope["path"].removeprefix(prefix))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": name.encode()})

    return protect(app)


def bare_wsgi(protect: Protect, prefix: str = "") -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [_name(environ["PATH_INFO"]).encode()]

    return protect(app)


def cherrypy(protect: Protect, prefix: str = "") -> Any:
    """Reads SCRIPT_NAME followed by PATH_INFO."""
    import cherrypy as cp

    class Root:
        @cp.expose
        def default(self, *_: Any, **__: Any) -> str:
            return "other"

        @cp.expose
        def admin(self, *_: Any) -> str:
            return "admin"

        @cp.expose
        def health(self) -> str:
            return "health"

    tree = cp._cptree.Tree()
    tree.mount(Root(), prefix, {"/": {"tools.trailing_slash.on": False}})
    cp.log.screen = False
    return protect(tree)
