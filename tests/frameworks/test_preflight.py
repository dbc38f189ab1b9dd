"""CORS preflights through the layers, to each CORS layer: inside of them with `exempt_preflight`, and outside."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import path

from mtls_middleware import asgi, wsgi
from mtls_middleware.testing import TESTING_ENVIRON
from tests.frameworks.reports import ALLOW, SOURCE, Headers

ORIGIN = "https://front.test"
# As Chromium sends it for fetch(..., {method: "DELETE", headers: {Authorization: ...}}).
PREFLIGHT = {
    "Accept": "*/*",
    "Access-Control-Request-Headers": "authorization",
    "Access-Control-Request-Method": "DELETE",
    "Origin": ORIGIN,
    "Referer": f"{ORIGIN}/",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "cross-site",
}

# (method, headers) -> (status, headers)
Ask = Callable[[str, Headers], tuple[int, Any]]
ran: list[str] = []


def _asgi(app: Any) -> Ask:
    from starlette.testclient import TestClient

    client = TestClient(app, raise_server_exceptions=False)

    def ask(method: str, headers: Headers) -> tuple[int, Any]:
        response = client.request(method, "/invoices", headers=headers)
        return response.status_code, response.headers

    return ask


def _wsgi(app: Any) -> Ask:
    from werkzeug.test import Client

    def ask(method: str, headers: Headers) -> tuple[int, Any]:
        response = Client(app).open("/invoices", method=method, headers=headers, environ_overrides=TESTING_ENVIRON)
        return response.status_code, response.headers

    return ask


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def view(request: Any) -> Any:
        ran.append(request.method)
        return PlainTextResponse("deleted")

    return Starlette(routes=[Route("/invoices", view, methods=["DELETE", "OPTIONS"])])


def _cors(app: Any) -> Any:
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(app, allow_origins=[ORIGIN], allow_methods=["DELETE"], allow_headers=["Authorization"])


@contextmanager
def starlette_outside(**options: Any) -> Iterator[Ask]:
    """The CORS layer is the last that is added, so it is the outermost."""
    from starlette.middleware.cors import CORSMiddleware

    app = _starlette()
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, **options)
    app.add_middleware(
        CORSMiddleware, allow_origins=[ORIGIN], allow_methods=["DELETE"], allow_headers=["Authorization"]
    )
    yield _asgi(app)


@contextmanager
def starlette_around(**options: Any) -> Iterator[Ask]:
    """The CORS layer is around `protect`."""
    yield _asgi(_cors(asgi.protect(_starlette(), source=SOURCE, allow=ALLOW, **options)))


@contextmanager
def starlette_inside(**options: Any) -> Iterator[Ask]:
    yield _asgi(asgi.protect(_cors(_starlette()), source=SOURCE, allow=ALLOW, **options))


@contextmanager
def flask_cors(**options: Any) -> Iterator[Ask]:
    import flask
    from flask_cors import CORS

    app = flask.Flask("tests")

    @app.delete("/invoices")
    def view() -> str:
        ran.append(flask.request.method)
        return "deleted"

    CORS(app, origins=[ORIGIN], methods=["DELETE"], allow_headers=["Authorization"])
    yield _wsgi(wsgi.protect(app.wsgi_app, source=SOURCE, allow=ALLOW, **options))


@contextmanager
def _django(**settings: Any) -> Iterator[None]:
    from django.test import override_settings

    from tests.frameworks import django_site

    django_site.set_up()
    with override_settings(
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["corsheaders.middleware.CorsMiddleware"],
        CORS_ALLOWED_ORIGINS=[ORIGIN],
        CORS_ALLOW_METHODS=["DELETE"],
        **settings,
    ):
        yield


@contextmanager
def django_wsgi_cors_headers(**options: Any) -> Iterator[Ask]:
    from tests.frameworks import django_site

    with _django():
        yield _wsgi(wsgi.protect(django_site.wsgi(), source=SOURCE, allow=ALLOW, **options))


@contextmanager
def django_asgi_cors_headers(**options: Any) -> Iterator[Ask]:
    from tests.frameworks import django_site

    with _django():
        yield _asgi(asgi.protect(django_site.asgi(), source=SOURCE, allow=ALLOW, **options))


def _view(request: Any) -> Any:
    ran.append(request.method)
    return HttpResponse("deleted")


urlpatterns = [path("invoices", _view)]

OUTSIDE = [starlette_outside, starlette_around]
INSIDE = [starlette_inside, flask_cors, django_wsgi_cors_headers, django_asgi_cors_headers]


@pytest.mark.parametrize(("site", "options"), [
    *((site, {}) for site in OUTSIDE),
    *((site, {"exempt_preflight": True}) for site in INSIDE),
])  # fmt: skip
def test_a_preflight_and_the_request_after_it_pass(site: Any, options: Any, proxied: Headers) -> None:
    ran.clear()
    with site(**options) as ask:
        status, headers = ask("OPTIONS", PREFLIGHT)
        assert status in {200, 204}
        assert headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "DELETE" in headers["Access-Control-Allow-Methods"]
        assert "authorization" in headers["Access-Control-Allow-Headers"].lower()
        assert ran == []
        status, headers = ask("DELETE", {"Origin": ORIGIN, **proxied})
        assert (status, headers["Access-Control-Allow-Origin"], ran) == (200, ORIGIN, ["DELETE"])
        assert ask("DELETE", {"Origin": ORIGIN})[0] == 403


@pytest.mark.parametrize("site", INSIDE)
def test_a_preflight_to_a_cors_layer_inside_is_rejected_by_default(site: Any) -> None:
    with site() as ask:
        assert ask("OPTIONS", PREFLIGHT)[0] == 403


@pytest.mark.parametrize("site", OUTSIDE)
def test_a_front_end_can_read_a_rejection_if_the_cors_layer_is_outside(site: Any) -> None:
    with site() as ask:
        status, headers = ask("DELETE", {"Origin": ORIGIN})
        assert (status, headers["Access-Control-Allow-Origin"]) == (403, ORIGIN)


@pytest.mark.parametrize("site", INSIDE)
def test_no_view_runs_for_a_request_that_looks_like_a_preflight(site: Any) -> None:
    """The views for OPTIONS, of other origins, and with fields that replace the method."""
    ran.clear()
    with site(exempt_preflight=True) as ask:
        ask("OPTIONS", {**PREFLIGHT, "Origin": "https://other.test"})
        ask("OPTIONS", {**PREFLIGHT, "Access-Control-Request-Method": "nonsense"})
        assert ask("OPTIONS", {**PREFLIGHT, "X-HTTP-Method-Override": "DELETE"})[0] == 403
        assert ask("OPTIONS", {"Origin": ORIGIN})[0] == 403
    assert ran == []
