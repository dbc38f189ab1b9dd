"""One application for each framework, protected as that framework's users would do it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from mtls_middleware import asgi, wsgi
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.testing import TESTING_ENVIRON
from tests.frameworks.reports import ALLOW, SOURCE, Headers, seen

Ask = Callable[[str, Headers], tuple[int, Mapping[str, str], Any]]
Build = Callable[[JWTAccessTokens], Ask]


def flask_app(tokens: JWTAccessTokens) -> Ask:
    import flask

    app = flask.Flask(__name__)

    @app.get("/<path:_path>")
    def view(_path: str) -> Any:
        return seen(flask.request, flask.request.headers.get("X-SSL-Client-Cert"))

    app.wsgi_app = wsgi.CertificateBoundTokenMiddleware(app.wsgi_app, tokens, exempt=["/health"])
    app.wsgi_app = wsgi.ClientCertificateMiddleware(app.wsgi_app, SOURCE, allow=ALLOW, exempt=["/health"])

    def ask(path: str, headers: Headers) -> Any:
        response = app.test_client().get(path, headers=headers, environ_overrides=TESTING_ENVIRON)
        return response.status_code, response.headers, response.get_json()

    return ask


def werkzeug_app(tokens: JWTAccessTokens) -> Ask:
    from werkzeug import Request, Response

    @Request.application
    def app(request: Request) -> Response:
        body = json.dumps(seen(request, request.headers.get("X-SSL-Client-Cert")))
        return Response(body, content_type="application/json")

    return _wsgi(app, tokens)


def _wsgi(app: Any, tokens: JWTAccessTokens) -> Ask:
    from werkzeug.test import Client

    client = Client(wsgi.protect(app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"]))

    def ask(path: str, headers: Headers) -> Any:
        response = client.get(path, headers=headers, environ_overrides=TESTING_ENVIRON)
        return response.status_code, response.headers, response.get_json()

    return ask


def _asgi(app: Any, tokens: JWTAccessTokens | None) -> Ask:
    from starlette.testclient import TestClient

    if tokens is not None:
        app = asgi.protect(app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"])
    client = TestClient(app)

    def ask(path: str, headers: Headers) -> Any:
        response = client.get(path, headers=headers)
        return response.status_code, response.headers, response.json()

    return ask


def django_wsgi(tokens: JWTAccessTokens) -> Ask:
    from tests.frameworks import django_site

    return _wsgi(django_site.wsgi(), tokens)


def django_asgi(tokens: JWTAccessTokens) -> Ask:
    from tests.frameworks import django_site

    return _asgi(django_site.asgi(), tokens)


async def starlette_view(request: Any) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(seen(request, request.headers.get("X-SSL-Client-Cert")))


def starlette_add_middleware(tokens: JWTAccessTokens) -> Ask:
    from starlette.applications import Starlette
    from starlette.routing import Route

    app = Starlette(routes=[Route("/{path:path}", starlette_view)])
    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=tokens, exempt=["/health"])
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, exempt=["/health"])
    return _asgi(app, None)


def starlette_middleware(tokens: JWTAccessTokens) -> Ask:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    layers = [
        Middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, exempt=["/health"]),
        Middleware(asgi.CertificateBoundTokenMiddleware, tokens=tokens, exempt=["/health"]),
    ]
    return _asgi(Starlette(routes=[Route("/{path:path}", starlette_view)], middleware=layers), None)


def fastapi_app(tokens: JWTAccessTokens) -> Ask:
    import fastapi

    app = fastapi.FastAPI()

    @app.get("/{path:path}")
    def view(request: fastapi.Request) -> dict[str, str | None]:  # sync: in a thread of its own
        return seen(request, request.headers.get("X-SSL-Client-Cert"))

    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=tokens, exempt=["/health"])
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, exempt=["/health"])
    return _asgi(app, None)


def quart_app(tokens: JWTAccessTokens) -> Ask:
    import quart

    app = quart.Quart(__name__)

    @app.get("/<path:_path>")
    async def view(_path: str) -> Any:
        return seen(quart.request, quart.request.headers.get("X-SSL-Client-Cert"))

    app.asgi_app = asgi.protect(app.asgi_app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"])

    async def get(path: str, headers: Headers) -> Any:
        response = await app.test_client().get(path, headers=headers)
        return response.status_code, response.headers, await response.get_json()

    return lambda path, headers: asyncio.run(get(path, headers))


def litestar_app(tokens: JWTAccessTokens) -> Ask:
    import litestar
    from litestar.middleware import DefineMiddleware
    from litestar.testing import TestClient

    @litestar.get(["/invoices", "/health"], sync_to_thread=False)
    def view(request: litestar.Request[Any, Any, Any]) -> dict[str, str | None]:
        return seen(request, request.headers.get("X-SSL-Client-Cert"))

    app = litestar.Litestar(
        [view],
        logging_config=None,
        middleware=[
            DefineMiddleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, exempt=["/health"]),
            DefineMiddleware(asgi.CertificateBoundTokenMiddleware, tokens=tokens, exempt=["/health"]),
        ],
    )

    def ask(path: str, headers: Headers) -> Any:
        with TestClient(app) as client:
            response = client.get(path, headers=headers)
            return response.status_code, response.headers, response.json()

    return ask


class _FalconView:
    def on_get(self, request: Any, response: Any, path: str = "") -> None:
        response.media = seen(request, request.get_header("X-SSL-Client-Cert"))


class _FalconAsyncView:
    async def on_get(self, request: Any, response: Any, path: str = "") -> None:
        response.media = seen(request, request.get_header("X-SSL-Client-Cert"))


def falcon_wsgi(tokens: JWTAccessTokens) -> Ask:
    import falcon
    from falcon import testing

    app = falcon.App()
    app.add_route("/{path}", _FalconView())
    app = wsgi.protect(app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"])
    return _falcon(testing, app, extras=TESTING_ENVIRON)


def falcon_asgi(tokens: JWTAccessTokens) -> Ask:
    import falcon.asgi
    from falcon import testing

    app = falcon.asgi.App()
    app.add_route("/{path}", _FalconAsyncView())
    return _falcon(testing, asgi.protect(app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"]))


def _falcon(testing: Any, app: Any, **options: Any) -> Ask:
    def ask(path: str, headers: Headers) -> Any:
        response = testing.simulate_get(app, path, headers=headers, **options)
        return response.status_code, response.headers, response.json

    return ask


FRAMEWORKS: dict[str, Build] = {
    "Flask": flask_app,
    "Werkzeug": werkzeug_app,
    "Django WSGI": django_wsgi,
    "Django ASGI": django_asgi,
    "Starlette add_middleware": starlette_add_middleware,
    "Starlette Middleware": starlette_middleware,
    "FastAPI": fastapi_app,
    "Quart": quart_app,
    "Litestar": litestar_app,
    "Falcon WSGI": falcon_wsgi,
    "Falcon ASGI": falcon_asgi,
}
