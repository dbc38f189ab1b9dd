"""`require_scopes` in real Django, behind the layers of both gateways: the views of docs/integrations.md and others."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from starlette.testclient import TestClient
from werkzeug.test import Client

from mtls_middleware import ConfigurationError, asgi, wsgi
from mtls_middleware.integrations.django_routes import require_scopes
from mtls_middleware.layers.attached import TOKEN_KEY
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate, TokenIssuer
from tests.frameworks import django_site
from tests.integrations.documented import proxy_fields
from tests.integrations.route_requests import (
    FORGED,
    PLANTED,
    PROXY,
    SOURCE,
    documented,
    fields,
    is_wiring_error,
    layer_answer,
    records,
    shown,
)

django_site.set_up()

READ, WRITE = "invoices:read", "invoices:write"
BY = pytest.mark.parametrize("gateway", ["wsgi", "asgi"])


class Got(NamedTuple):
    status: int
    headers: Any
    body: bytes

    def shown(self) -> tuple[int, dict[str, str], bytes]:
        return shown(*self)


def ask(gateway: str, app: Any, path: str, headers: dict[str, str], method: str = "GET") -> Got:
    if gateway == "wsgi":
        response = Client(app).open(
            path, method=method, headers=headers, environ_overrides={**TESTING_ENVIRON, "REMOTE_ADDR": PROXY}
        )
        return Got(response.status_code, response.headers, response.data)
    answer = TestClient(app, client=(PROXY, 4711)).request(method, path, headers=headers)
    return Got(answer.status_code, answer.headers, answer.content)


@contextlib.contextmanager
def routed(urls: list[Any], **more: Any) -> Iterator[None]:
    """Django with these URLs."""
    with override_settings(ROOT_URLCONF=URLconf(urls), **more):
        yield


class URLconf(SimpleNamespace):
    """A URLconf, which Django remembers by its hash."""

    def __init__(self, urls: list[Any]) -> None:
        super().__init__(urlpatterns=urls)

    __hash__ = object.__hash__


@pytest.fixture(params=["wsgi", "asgi"], scope="module")
def documents(request: pytest.FixtureRequest, mtls_issuer: TokenIssuer) -> Iterator[tuple[str, Any]]:
    with routed(documented("invoices_django.py", mtls_issuer)["urlpatterns"]):
        yield request.param, documented(f"invoices_{request.param}.py", mtls_issuer)["application"]


@pytest.mark.parametrize(
    ("method", "path", "scopes", "body"),
    [
        ("GET", "/invoices", [READ], {"for": "alice"}),
        ("GET", "/invoices", ["other", READ], {"for": "alice"}),
        ("POST", "/invoices/new", [READ, WRITE], {"created": True}),
        ("GET", "/me", [], {"subject": "alice"}),
        ("GET", "/reports/7", [READ], {"report": 7}),
        ("DELETE", "/reports/7", [READ, WRITE], {"deleted": 7}),
        ("GET", "/audit/log", ["audit"], {"auditor": "alice"}),
    ],
)
def test_a_token_with_the_scopes_reaches_the_view(
    documents: tuple[str, Any],
    mtls_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
    *,
    method: str,
    path: str,
    scopes: list[str],
    body: dict[str, Any],
) -> None:
    got = ask(*documents, path, fields(mtls_client, mtls_issuer, *scopes), method)
    assert (got.status, json.loads(got.body)) == (200, body)


@pytest.mark.parametrize(
    ("method", "path", "scopes", "demanded"),
    [
        ("GET", "/invoices", [], [READ]),
        ("GET", "/invoices", ["invoices:read2", "invoices", "INVOICES:READ"], [READ]),
        ("POST", "/invoices/new", [WRITE], [READ, WRITE]),
        ("HEAD", "/invoices/new", [WRITE], [READ, WRITE]),
        ("GET", "/reports/7", [WRITE], [READ]),
        ("HEAD", "/reports/7", [WRITE], [READ]),
        ("DELETE", "/reports/7", [READ], [READ, WRITE]),
        ("GET", "/audit/log", [READ], ["audit"]),
        ("OPTIONS", "/audit/log", [READ], ["audit"]),
    ],
)
def test_too_little_scope_is_answered_and_recorded_as_the_layer_does(
    documents: tuple[str, Any],
    mtls_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
    caplog: pytest.LogCaptureFixture,
    *,
    method: str,
    path: str,
    scopes: list[str],
    demanded: list[str],
) -> None:
    caplog.set_level(logging.INFO)
    headers = fields(mtls_client, mtls_issuer, *scopes)
    got = ask(*documents, path, headers, method)
    status, fields_of_layer, body = layer_answer(headers, mtls_issuer, *demanded)
    assert status == 403
    assert fields_of_layer["www-authenticate"].endswith(f', scope="{" ".join(demanded)}"')
    assert got.shown() == (status, fields_of_layer, b"" if method == "HEAD" else body)
    ours, the_layers = records(caplog)
    assert ours == {**the_layers, "method": method, "path": path}


@BY
def test_without_token_the_answer_is_the_layers(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    with routed(small()):
        app = protected(gateway, mtls_issuer, exempt=["/", "/async"])
        for where in ("/", "/async"):
            for headers in ({}, proxy_fields(mtls_client), {"Authorization": "Bearer rubbish"}):
                expected = layer_answer(proxy_fields(mtls_client), mtls_issuer, "a")
                assert expected[0] == 401
                assert ask(gateway, app, where, headers).shown() == expected


@BY
def test_a_certificate_layer_alone_is_401(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with routed(small()):
        app = MODULES[gateway].ClientCertificateMiddleware(bare(gateway), SOURCE)
        assert ask(gateway, app, "/", fields(mtls_client, mtls_issuer, "a")).status == 401
    assert "no CertificateBoundTokenMiddleware ran" in records(caplog)[0]["evidence"][0]


@BY
@pytest.mark.parametrize("where", ["/", "/async", "/class", "/async-class"])
@pytest.mark.parametrize("planted", PLANTED)
def test_without_our_layers_the_view_is_not_reached(
    gateway: str, where: str, planted: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Mtls-Middleware-Token": "a", "mtls_middleware.token": "a"}
    with routed(small()):
        got = ask(gateway, planting(gateway, bare(gateway), planted), where, headers)
    assert is_wiring_error(got.status, got.body, caplog)


@BY
def test_a_token_planted_inside_the_layers_is_ignored(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    with routed(small()):
        inner = planting(gateway, bare(gateway), {TOKEN_KEY: FORGED})
        app = MODULES[gateway].protect(inner, source=SOURCE, tokens=mtls_issuer.access_tokens(), exempt=["/async"])
        assert ask(gateway, app, "/async", {}).status == 401
        assert ask(gateway, app, "/", fields(mtls_client, mtls_issuer)).status == 403


@BY
def test_the_applications_own_error_pages_leave_the_answer_alone(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    headers = fields(mtls_client, mtls_issuer)
    urls = URLconf(small())
    urls.handler403 = urls.handler500 = lambda *_, **__: HttpResponse("a page")
    with override_settings(ROOT_URLCONF=urls):
        got = ask(gateway, protected(gateway, mtls_issuer), "/", headers)
    assert got.shown() == layer_answer(headers, mtls_issuer, "a")


@BY
def test_a_class_based_view_is_guarded_as_a_whole_or_by_its_methods(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    with routed(small()):
        app = protected(gateway, mtls_issuer)
        for where in ("/class", "/async-class", "/dispatch", "/async-dispatch", "/method", "/async-method"):
            assert ask(gateway, app, where, fields(mtls_client, mtls_issuer, "a")).body == b"reached"
            headers = fields(mtls_client, mtls_issuer)
            assert ask(gateway, app, where, headers).shown() == layer_answer(headers, mtls_issuer, "a")


@BY
def test_a_post_that_csrf_middleware_lets_through_is_judged(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    guarded = require_scopes("a")
    urls = [path("above", csrf_exempt(guarded(view))), path("below", guarded(csrf_exempt(view))), path("", view)]
    with routed(urls, MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"]):
        app = protected(gateway, mtls_issuer)
        for where in ("/above", "/below"):
            assert ask(gateway, app, where, fields(mtls_client, mtls_issuer, "a"), "POST").body == b"reached"
            headers = fields(mtls_client, mtls_issuer)
            assert ask(gateway, app, where, headers, "POST").shown() == layer_answer(headers, mtls_issuer, "a")


@BY
def test_realm_and_metadata_are_in_the_challenge(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    with routed(small(realm="billing", resource_metadata="https://api.example/meta")):
        got = ask(gateway, protected(gateway, mtls_issuer), "/", fields(mtls_client, mtls_issuer))
    challenge = got.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="billing", error="insufficient_scope"')
    assert challenge.endswith('scope="a", resource_metadata="https://api.example/meta"')


def test_the_record_has_the_path_below_the_mount(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with routed(small()):
        overrides = {**TESTING_ENVIRON, "REMOTE_ADDR": PROXY, "SCRIPT_NAME": "/mounted"}
        headers = fields(mtls_client, mtls_issuer)
        Client(protected("wsgi", mtls_issuer)).get("/async", headers=headers, environ_overrides=overrides)
    assert records(caplog)[0]["path"] == "/async"


# What is put together wrongly


def test_a_method_without_method_decorator_is_not_reached() -> None:
    class Careless(View):
        @require_scopes("a")
        def get(self, request: Any) -> HttpResponse:
            raise AssertionError("reached")

    for request in (RequestFactory().get("/"), HttpRequest()):
        request.method = "GET"
        with pytest.raises(ConfigurationError, match="did not receive a request"):
            Careless.as_view()(request)


def test_a_request_that_came_through_no_gateway_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match="did not receive a request"):
        require_scopes("a")(view)(HttpRequest())
    response = require_scopes("a")(view)(RequestFactory().get("/"))
    assert is_wiring_error(response.status_code, response.content, caplog)


def test_a_decorated_view_keeps_its_name_and_attributes() -> None:
    decorated = require_scopes("a")(csrf_exempt(view))
    assert (decorated.__name__, decorated.csrf_exempt) == ("view", True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: require_scopes(lambda: "view"), "in parentheses"),
        (lambda: require_scopes(["a", "b"]), "in parentheses"),
        (lambda: require_scopes("a b"), "scope 'a b': expected"),
        (lambda: require_scopes(""), "scope '': expected"),
        (lambda: require_scopes("a", realm='"'), "realm="),
        (lambda: require_scopes("a", resource_metadata="http://api.example"), "resource_metadata="),
        (lambda: require_scopes("a")(Class), "as_view"),
        (lambda: require_scopes("a")(None), "a function"),
    ],
)
def test_a_misuse_is_refused_where_it_is_written(wrong: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        wrong()


MODULES: dict[str, Any] = {"wsgi": wsgi, "asgi": asgi}


def view(request: Any) -> HttpResponse:
    return HttpResponse("reached")


async def async_view(request: Any) -> HttpResponse:
    return HttpResponse("reached")


class Class(View):
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse("reached")


class AsyncClass(View):
    async def get(self, request: Any) -> HttpResponse:
        return HttpResponse("reached")


def small(**options: Any) -> list[Any]:
    guarded = require_scopes("a", **options)
    urls = [
        path("", guarded(view)),
        path("async", guarded(async_view)),
        path("class", guarded(Class.as_view())),
        path("async-class", guarded(AsyncClass.as_view())),
    ]
    for prefix, base in (("", Class), ("async-", AsyncClass)):
        for name, method in (("dispatch", "dispatch"), ("method", "get")):
            decorated = method_decorator(guarded, name=method)(type("Decorated", (base,), {}))
            urls.append(path(prefix + name, decorated.as_view()))
    return urls


def bare(gateway: str) -> Any:
    return get_wsgi_application() if gateway == "wsgi" else get_asgi_application()


def protected(gateway: str, issuer: TokenIssuer, exempt: Any = ()) -> Any:
    return MODULES[gateway].protect(bare(gateway), source=SOURCE, tokens=issuer.access_tokens(), exempt=exempt)


def planting(gateway: str, app: Any, planted: dict[str, Any]) -> Any:
    """`app` inside of something that puts values under our keys."""
    if gateway == "wsgi":
        return lambda environ, start_response: app({**environ, **planted}, start_response)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, **planted}, receive, send)

    return outer
