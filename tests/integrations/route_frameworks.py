"""One adapter per web framework for tests/integrations/test_routes.py: it builds applications and sends requests.

`small` is an application whose routes all demand the scope `a` and answer the text `reached`.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import flask
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi import Request as HTTPRequest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from werkzeug.test import Client

from mtls_middleware import AccessToken, ClientCertificate, asgi, wsgi
from mtls_middleware.integrations import django_routes, fastapi_routes, flask_routes, starlette_routes
from mtls_middleware.integrations.fastapi_routes import CertificateBoundToken
from mtls_middleware.layers.attached import CERTIFICATE_KEY, TOKEN_KEY
from mtls_middleware.policy import Rule
from mtls_middleware.testing import TESTING_ENVIRON, TokenIssuer
from tests.frameworks import django_site
from tests.gateways import Request, exchange, scope_of
from tests.integrations.route_requests import PROXY, SOURCE, documented, shown

django_site.set_up()

MODULES: dict[str, Any] = {"wsgi": wsgi, "asgi": asgi}


def behind_proxy(app: Any, **options: Any) -> TestClient:
    """A client whose requests come from the documented proxy."""
    return TestClient(app, client=(PROXY, 4711), **options)


def answer_without_denial(app: Any, path: str, headers: dict[str, str]) -> list[tuple[str, Any]]:
    """What an application sends to a websocket if the server lacks the denial extension: types and close codes."""
    request = Request(path=path, headers=list(headers.items()), peer=PROXY, extra={"subprotocols": []})
    messages = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
    return [(each["type"], each.get("code")) for each in exchange(app, scope_of(request, "websocket"), messages)]


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Any
    body: bytes

    def shown(self) -> tuple[int, dict[str, str], bytes]:
        return shown(*self)


class Framework:
    """What the shared tests need of a framework; a subclass builds its applications."""

    name: str
    gateway: str
    paths: tuple[str, ...] = ("/",)  # of `small`: one of each kind of view
    require_scopes: Callable[..., Any] | None = None
    require_certificate: Callable[..., Any]

    def documented(self, issuer: TokenIssuer) -> Any:
        """The application of docs/integrations.md, with its layers."""
        raise NotImplementedError

    def small(self, guard: Any = None, **options: Any) -> Any:
        """The small application without layers; `options` are those of the challenge. `guard`: another decorator."""
        raise NotImplementedError

    def certified(self, rule: Rule | None = None) -> Any:
        """The small application without layers, whose routes require a certificate."""
        return self.small(self.require_certificate(rule))

    def add_error_pages(self, app: Any) -> None:
        """Answer 403, 500 and every exception with a page whose status is 200."""
        raise NotImplementedError

    def protected(self, app: Any, issuer: TokenIssuer, exempt: Sequence[str] = ()) -> Any:
        return MODULES[self.gateway].protect(app, source=SOURCE, tokens=issuer.access_tokens(), exempt=exempt)

    def with_certificate_layer(self, app: Any) -> Any:
        return MODULES[self.gateway].ClientCertificateMiddleware(app, SOURCE)

    def planting(self, app: Any, planted: dict[str, Any]) -> Any:
        """`app` inside of a middleware that puts these values into every environ or scope."""
        if self.gateway == "wsgi":
            return lambda environ, start_response: app({**environ, **planted}, start_response)

        async def outer(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, **planted}, receive, send)

        return outer

    def send(self, app: Any, path: str, headers: dict[str, str], method: str = "GET") -> Answer:
        """One request through the documented proxy."""
        if self.gateway == "wsgi":
            overrides = {**TESTING_ENVIRON, "REMOTE_ADDR": PROXY}
            response = Client(app).open(path, method=method, headers=headers, environ_overrides=overrides)
            return Answer(response.status_code, response.headers, response.data)
        answer = behind_proxy(app).request(method, path, headers=headers)
        return Answer(answer.status_code, answer.headers, answer.content)


class Flask(Framework):
    name, gateway = "flask", "wsgi"
    require_scopes = staticmethod(flask_routes.require_scopes)
    require_certificate = staticmethod(flask_routes.require_certificate)

    def documented(self, issuer: TokenIssuer) -> Any:
        return documented("invoices_flask.py", issuer)["app"]

    def small(self, guard: Any = None, **options: Any) -> flask.Flask:
        app = flask.Flask("small")

        @app.get("/")
        @(guard or flask_routes.require_scopes("a", **options))
        def view() -> str:
            return "reached"

        return app

    def add_error_pages(self, app: flask.Flask) -> None:
        for each in (403, 500, Exception):
            app.register_error_handler(each, lambda _: ("a page", 200))

    def protected(self, app: Any, issuer: TokenIssuer, exempt: Sequence[str] = ()) -> Any:
        if not isinstance(app, flask.Flask):
            return super().protected(app, issuer, exempt)
        app.wsgi_app = super().protected(app.wsgi_app, issuer, exempt)
        return app


class ASGIApplication(Framework):
    """Starlette and FastAPI, which share their interface for error pages."""

    gateway = "asgi"
    errors: tuple[Any, ...]

    def add_error_pages(self, app: Any) -> None:
        for each in self.errors:
            app.add_exception_handler(each, lambda *_: PlainTextResponse("a page"))


class StarletteRoutes(ASGIApplication):
    name, paths = "starlette", ("/", "/sync", "/class")
    require_scopes = staticmethod(starlette_routes.require_scopes)
    require_certificate = staticmethod(starlette_routes.require_certificate)
    errors = (403, 500, Exception)

    def documented(self, issuer: TokenIssuer) -> Any:
        return documented("invoices_starlette.py", issuer)["app"]

    def small(self, guard: Any = None, **options: Any) -> Starlette:
        guarded = guard or starlette_routes.require_scopes("a", **options)

        async def awaited(request: HTTPRequest) -> Response:
            return PlainTextResponse("reached")

        def sync(request: HTTPRequest) -> Response:
            return PlainTextResponse("reached")

        class Class(HTTPEndpoint):
            @guarded
            async def get(self, request: HTTPRequest) -> Response:
                return PlainTextResponse("reached")

        return Starlette(routes=[Route("/", guarded(awaited)), Route("/sync", guarded(sync)), Route("/class", Class)])


class FastAPIRoutes(ASGIApplication):
    name = "fastapi"
    require_certificate = staticmethod(fastapi_routes.require_certificate)
    errors = (403, HTTPException, Exception)

    def documented(self, issuer: TokenIssuer) -> Any:
        return documented("invoices_fastapi.py", issuer)["app"]

    def small(self, guard: Any = None, **options: Any) -> FastAPI:
        assert guard is None
        app, bound = FastAPI(), declared("a", **options)
        bound.install(app)

        @app.api_route("/", methods=["GET", "HEAD"])
        async def route(request: HTTPRequest, token: Annotated[AccessToken, Security(bound, scopes=["a"])]) -> Response:
            assert request.scope[TOKEN_KEY] is token
            assert token.subject == "alice"
            return PlainTextResponse("reached")

        return app

    def certified(self, rule: Rule | None = None) -> FastAPI:
        return _certified(rule)


def _certified(rule: Rule | None) -> FastAPI:
    app = FastAPI()
    fastapi_routes.install(app)
    required = fastapi_routes.require_certificate(rule)

    @app.api_route("/", methods=["GET", "HEAD"])
    async def route(request: HTTPRequest, certificate: Annotated[ClientCertificate, Depends(required)]) -> Response:
        assert request.scope[CERTIFICATE_KEY] is certificate
        return PlainTextResponse("reached")

    return app


def declared(*scopes: str, **options: Any) -> CertificateBoundToken:
    """A FastAPI dependency that declares these scopes."""
    return CertificateBoundToken(
        token_url="https://as.example/token", scopes={each: each.upper() for each in scopes}, **options
    )


class Django(Framework):
    """Django behind the layers of one gateway."""

    paths = ("/", "/async", "/class", "/async-class")
    require_scopes = staticmethod(django_routes.require_scopes)
    require_certificate = staticmethod(django_routes.require_certificate)

    def __init__(self, gateway: str) -> None:
        self.name, self.gateway = f"django-{gateway}", gateway

    def documented(self, issuer: TokenIssuer) -> Any:
        app = documented(f"invoices_{self.gateway}.py", issuer)["application"]
        return self.routed(documented("invoices_django.py", issuer)["urlpatterns"], app)

    def small(self, guard: Any = None, **options: Any) -> Any:
        return self.routed(urls(guard or django_routes.require_scopes("a", **options)))

    def add_error_pages(self, app: Any) -> None:
        app.urlconf.handler403 = app.urlconf.handler500 = lambda *_, **__: HttpResponse("a page")

    def routed(self, urlpatterns: list[Any], app: Any = None, **settings: Any) -> Any:
        """Django, or `app`, which contains Django, with these URLs and settings."""
        urlconf = URLconf(urlpatterns)
        chosen = override_settings(ROOT_URLCONF=urlconf, **settings)
        if app is None:
            with chosen:  # Django loads its middleware here
                app = get_wsgi_application() if self.gateway == "wsgi" else get_asgi_application()
        return (RoutedWSGI if self.gateway == "wsgi" else RoutedASGI)(app, urlconf, settings)


class URLconf(SimpleNamespace):
    """A URLconf, which Django caches by its hash."""

    def __init__(self, urlpatterns: list[Any]) -> None:
        super().__init__(urlpatterns=urlpatterns)

    __hash__ = object.__hash__


class RoutedWSGI:
    """A WSGI application whose requests see this URLconf."""

    def __init__(self, app: Any, urlconf: URLconf, settings: dict[str, Any]) -> None:
        self.app, self.urlconf, self.settings = app, urlconf, settings

    def __call__(self, environ: Any, start_response: Any) -> Any:
        with override_settings(ROOT_URLCONF=self.urlconf, **self.settings):
            return self.app(environ, start_response)


class RoutedASGI(RoutedWSGI):
    """An ASGI application whose requests see this URLconf."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with override_settings(ROOT_URLCONF=self.urlconf, **self.settings):
            await self.app(scope, receive, send)


def view(request: Any) -> HttpResponse:
    return HttpResponse("reached")


async def async_view(request: Any) -> HttpResponse:
    return HttpResponse("reached")


class ClassView(View):
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse("reached")


class AsyncClassView(View):
    async def get(self, request: Any) -> HttpResponse:
        return HttpResponse("reached")


def urls(guarded: Any) -> list[Any]:
    """Django's views in each form that a decorator guards."""
    patterns = [
        path("", guarded(view)),
        path("async", guarded(async_view)),
        path("class", guarded(ClassView.as_view())),
        path("async-class", guarded(AsyncClassView.as_view())),
    ]
    for prefix, base in (("", ClassView), ("async-", AsyncClassView)):
        for name, method in (("dispatch", "dispatch"), ("method", "get")):
            decorated = method_decorator(guarded, name=method)(type("Decorated", (base,), {}))
            patterns.append(path(prefix + name, decorated.as_view()))
    return patterns


FLASK, STARLETTE, FASTAPI = Flask(), StarletteRoutes(), FastAPIRoutes()
DJANGO = {"wsgi": Django("wsgi"), "asgi": Django("asgi")}
FRAMEWORKS: dict[str, Framework] = {
    each.name: each for each in (FLASK, STARLETTE, DJANGO["wsgi"], DJANGO["asgi"], FASTAPI)
}
