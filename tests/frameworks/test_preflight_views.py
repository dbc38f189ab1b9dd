"""docs/paths.md: what an application runs for a preflight that `exempt_preflight` lets through."""

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import path
from django.views import View
from django.views.decorators.http import require_GET

from mtls_middleware import asgi, wsgi
from mtls_middleware.testing import TESTING_ENVIRON
from tests.frameworks.reports import ALLOW, SOURCE

PREFLIGHT = {"Origin": "https://other.test", "Access-Control-Request-Method": "DELETE"}
OPTIONS = {"source": SOURCE, "allow": ALLOW, "exempt_preflight": True}
ran: list[str] = []


def note(what: str) -> str:
    ran.append(what)
    return "ran"


def flask_app(cors: bool = False) -> Any:
    import flask
    from flask.views import MethodView
    from flask_cors import CORS

    class Plain(MethodView):
        def get(self) -> str:
            return note("get")

    class WithOptions(Plain):
        def options(self) -> str:
            return note("options")

    app = flask.Flask("tests")
    app.before_request(lambda: ran.append("before_request"))
    app.add_url_rule("/view", "view", lambda: note("view"))
    app.add_url_rule("/listed", "listed", lambda: note("view"), methods=["GET", "OPTIONS"])
    app.add_url_rule("/class", view_func=Plain.as_view("plain"))
    app.add_url_rule("/class-options", view_func=WithOptions.as_view("with_options"))
    if cors:
        CORS(app, origins=["https://front.test"])
    return app


def flask_cors_app() -> Any:
    return flask_app(cors=True)


def quart_app() -> Any:
    import quart

    app = quart.Quart("tests")

    @app.before_request
    async def before() -> None:
        note("before_request")

    async def view() -> str:
        return note("view")

    app.add_url_rule("/view", "view", view)
    app.add_url_rule("/listed", "listed", view, methods=["GET", "OPTIONS"])
    return app


def falcon_app(**options: Any) -> Any:
    import falcon

    class Plain:
        def on_get(self, _request: Any, _response: Any) -> None:
            note("get")

    class WithOptions:
        def on_options(self, _request: Any, _response: Any) -> None:
            note("options")

    app = falcon.App(**options)
    app.add_route("/view", Plain())
    app.add_route("/class-options", WithOptions())
    app.add_sink(lambda _request, _response: ran.append("sink"), "/sink")
    return app


def falcon_cors_app() -> Any:
    return falcon_app(cors_enable=True)


def _view(_request: Any) -> HttpResponse:
    return HttpResponse(note("view"))


class _Class(View):
    def dispatch(self, request: Any, *args: Any, **options: Any) -> Any:
        note("dispatch")
        return super().dispatch(request, *args, **options)

    def get(self, _request: Any) -> HttpResponse:
        return HttpResponse(note("get"))


urlpatterns = [path("view", require_GET(_view)), path("listed", _view), path("class", _Class.as_view())]


def django_app() -> Any:
    from tests.frameworks import django_site

    return django_site.wsgi()


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.endpoints import HTTPEndpoint
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    class Plain(HTTPEndpoint):
        async def get(self, _request: Any) -> Any:
            return PlainTextResponse(note("get"))

    class WithOptions(Plain):
        async def options(self, _request: Any) -> Any:
            return PlainTextResponse(note("options"))

    async def view(_request: Any) -> Any:
        return PlainTextResponse(note("view"))

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(note("bare"))(scope, receive, send)

    routes = [
        Route("/view", view),
        Route("/listed", view, methods=["GET", "OPTIONS"]),
        Route("/class", Plain),
        Route("/class-options", WithOptions),
        Mount("/bare", bare),
    ]
    return Starlette(routes=routes)


def starlette_cors_app() -> Any:
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(starlette_app(), allow_origins=["https://front.test"])


FLASK = {
    "/view": ["before_request"],
    "/class": ["before_request"],
    "/listed": ["before_request", "view"],
    "/class-options": ["before_request", "options"],
}
FALCON = {"/view": [], "/class-options": ["options"], "/sink": ["sink"]}
STARLETTE = {"/view": [], "/class": [], "/listed": ["view"], "/class-options": ["options"], "/bare": ["bare"]}
TABLE: dict[Callable[[], Any], dict[str, list[str]]] = {
    flask_app: FLASK,
    flask_cors_app: FLASK,
    quart_app: {"/view": ["before_request"], "/listed": ["before_request", "view"]},
    falcon_app: FALCON,
    falcon_cors_app: FALCON,
    django_app: {"/view": [], "/listed": ["view"], "/class": ["dispatch"]},
    starlette_app: STARLETTE,
    starlette_cors_app: {target: [] for target in STARLETTE},
}


@pytest.mark.parametrize(("build", "target"), [(build, target) for build, row in TABLE.items() for target in row])
def test_what_runs_for_a_preflight(build: Any, target: str) -> None:
    from django.test import override_settings
    from starlette.testclient import TestClient
    from werkzeug.test import Client

    from tests.frameworks import django_site

    django_site.set_up()
    ran.clear()
    with override_settings(ROOT_URLCONF=__name__):
        if build in {quart_app, starlette_app, starlette_cors_app}:
            TestClient(asgi.protect(build(), **OPTIONS)).options(target, headers=PREFLIGHT)
        else:
            client = Client(wsgi.protect(build(), **OPTIONS))
            client.options(target, headers=PREFLIGHT, environ_overrides=TESTING_ENVIRON)
    assert ran == TABLE[build][target]


def test_a_layer_inside_method_override_sees_the_new_method() -> None:
    from werkzeug.test import Client

    app = wsgi.protect(flask_app(), **OPTIONS)

    def outside(environ: Any, start_response: Any) -> Any:
        environ["REQUEST_METHOD"] = "DELETE"
        return app(environ, start_response)

    ran.clear()
    response = Client(outside).options("/view", headers=PREFLIGHT, environ_overrides=TESTING_ENVIRON)
    assert (response.status_code, ran) == (403, [])
