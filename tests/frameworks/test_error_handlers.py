"""Error handlers see the certificate and no field of the proxy, whether they are inside or outside of the layer."""

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import path

from mtls_middleware import asgi, client_certificate, wsgi
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate
from tests.frameworks.reports import SOURCE, Headers

# What the handlers saw.
saw: list[tuple[str | None, list[str]]] = []


def note(request: Any) -> None:
    """What a handler sees: the certificate's thumbprint, and the proxy's fields, in every spelling."""
    certificate = client_certificate(request)
    names = [name.lower().replace("_", "-") for name in dict(request.headers)]
    hidden = [name for name in names if name.startswith(("x-ssl", "x-proxy"))]
    saw.append((None if certificate is None else certificate.thumbprint, hidden))


def flask_app() -> Any:
    import flask
    from werkzeug.exceptions import HTTPException

    app = flask.Flask("tests")
    app.add_url_rule("/fails", view_func=lambda: {}["x"])

    def handler(error: Exception) -> Any:
        note(flask.request)
        return "handled", error.code if isinstance(error, HTTPException) else 500

    app.register_error_handler(Exception, handler)
    app.wsgi_app = wsgi.ClientCertificateMiddleware(app.wsgi_app, SOURCE)
    return app


def falcon_wsgi() -> Any:
    import falcon

    class View:
        def on_get(self, _request: Any, _response: Any) -> None:
            raise LookupError

    def handler(request: Any, response: Any, error: Exception, _params: Any) -> None:
        note(request)
        response.status = getattr(error, "status", 500)

    app = falcon.App()
    app.add_route("/fails", View())
    app.add_error_handler([Exception, falcon.HTTPError], handler)
    return wsgi.ClientCertificateMiddleware(app, SOURCE)


def _fails(_request: Any) -> Any:
    raise LookupError


def handler500(request: Any) -> HttpResponse:
    note(request)
    return HttpResponse(status=500)


def handler404(request: Any, exception: Exception) -> HttpResponse:
    note(request)
    return HttpResponse(status=404)


urlpatterns = [path("fails", _fails)]


def django_wsgi() -> Any:
    from tests.frameworks import django_site

    return wsgi.ClientCertificateMiddleware(django_site.wsgi(), SOURCE)


def django_asgi() -> Any:
    from tests.frameworks import django_site

    return asgi.ClientCertificateMiddleware(django_site.asgi(), SOURCE)


def _starlette_handlers() -> dict[Any, Any]:
    from starlette.exceptions import HTTPException
    from starlette.responses import PlainTextResponse

    async def handler(request: Any, error: Exception) -> Any:
        note(request)
        return PlainTextResponse("handled", error.status_code if isinstance(error, HTTPException) else 500)

    return {Exception: handler, HTTPException: handler}


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Route

    app = Starlette(routes=[Route("/fails", _fails)], exception_handlers=_starlette_handlers())
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE)
    return app


def starlette_mounted() -> Any:
    """The layer is in the application that is mounted, the handlers are outside."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Mount, Route

    layers = [Middleware(asgi.ClientCertificateMiddleware, source=SOURCE)]
    inner = Starlette(routes=[Route("/fails", _fails)], middleware=layers)
    return Starlette(routes=[Mount("/", inner)], exception_handlers=_starlette_handlers())


def fastapi_app() -> Any:
    import fastapi

    app = fastapi.FastAPI(exception_handlers=_starlette_handlers())
    app.add_api_route("/fails", lambda: {}["x"])
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE)
    return app


def litestar_app() -> Any:
    import litestar
    from litestar.middleware import DefineMiddleware

    @litestar.get("/fails", sync_to_thread=False)
    def view() -> None:
        raise LookupError

    def handler(request: Any, error: Exception) -> Any:
        note(request)
        return litestar.Response("handled", status_code=getattr(error, "status_code", 500))

    layer = DefineMiddleware(asgi.ClientCertificateMiddleware, source=SOURCE)
    return litestar.Litestar([view], logging_config=None, middleware=[layer], exception_handlers={Exception: handler})


def falcon_asgi() -> Any:
    import falcon.asgi

    class View:
        async def on_get(self, _request: Any, _response: Any) -> None:
            raise LookupError

    async def handler(request: Any, response: Any, error: Exception, _params: Any) -> None:
        note(request)
        response.status = getattr(error, "status", 500)

    app = falcon.asgi.App()
    app.add_route("/fails", View())
    app.add_error_handler([Exception, falcon.HTTPError], handler)
    return asgi.ClientCertificateMiddleware(app, SOURCE)


def quart_app() -> Any:
    import quart
    from werkzeug.exceptions import HTTPException

    app = quart.Quart("tests")

    @app.get("/fails")
    async def view() -> None:
        raise LookupError

    @app.errorhandler(Exception)
    async def handler(error: Exception) -> Any:
        note(quart.request)
        return "handled", error.code if isinstance(error, HTTPException) else 500

    app.asgi_app = asgi.ClientCertificateMiddleware(app.asgi_app, SOURCE)
    return app


WSGI = [flask_app, falcon_wsgi, django_wsgi]
# Litestar's middleware does not run for a path without a view, and a mounted application answers that by itself.
NO_404 = [litestar_app, starlette_mounted]
ASGI = [starlette_app, starlette_mounted, fastapi_app, litestar_app, falcon_asgi, quart_app, django_asgi]

STATUSES = {"/fails": 500, "/absent": 404}


def status_of(build: Callable[[], Any], path: str, headers: Headers) -> int:
    if build in WSGI:
        from werkzeug.test import Client

        return Client(build()).get(path, headers=headers, environ_overrides=TESTING_ENVIRON).status_code
    from starlette.testclient import TestClient

    return TestClient(build(), raise_server_exceptions=False).get(path, headers=headers).status_code


@pytest.mark.parametrize(("build", "path"), [
    *((build, "/fails") for build in (*WSGI, *ASGI)),
    *((build, "/absent") for build in (*WSGI, *ASGI) if build not in NO_404),
])  # fmt: skip
@pytest.mark.parametrize("trusted", [True, False])
def test_a_handler_sees_the_certificate_and_no_field_of_the_proxy(
    build: Any, path: str, trusted: bool, proxied: Headers, mtls_client: IssuedCertificate
) -> None:
    from django.test import override_settings

    from tests.frameworks import django_site

    django_site.set_up()
    headers = proxied if trusted else mtls_client.as_nginx()
    saw.clear()
    with override_settings(ROOT_URLCONF=__name__):
        assert status_of(build, path, headers) == STATUSES[path]
    assert saw == [(mtls_client.thumbprint if trusted else None, [])]
