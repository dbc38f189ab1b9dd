"""`require_scopes` in real Django: what only Django has. test_routes.py has what all frameworks share."""

import logging
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from werkzeug.test import Client

from mtls_middleware import ConfigurationError
from mtls_middleware.integrations.django_routes import require_scopes
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate, TokenIssuer
from tests.integrations.route_frameworks import DJANGO, ClassView, Django, view
from tests.integrations.route_requests import PROXY, fields, is_wiring_error, layer_answer, records

both_gateways = pytest.mark.parametrize("django", DJANGO.values(), ids=DJANGO)


@both_gateways
def test_a_class_based_view_is_guarded_as_a_whole_or_by_its_methods(
    django: Django, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = django.protected(django.small(), mtls_issuer)
    for where in ("/class", "/async-class", "/dispatch", "/async-dispatch", "/method", "/async-method"):
        assert django.send(app, where, fields(mtls_client, mtls_issuer, "a")).body == b"reached"
        headers = fields(mtls_client, mtls_issuer)
        assert django.send(app, where, headers).shown() == layer_answer(headers, mtls_issuer, "a")


@both_gateways
def test_a_post_that_csrf_middleware_lets_through_is_judged(
    django: Django, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    guarded = require_scopes("a")
    urls = [path("above", csrf_exempt(guarded(view))), path("below", guarded(csrf_exempt(view))), path("", view)]
    small = django.routed(urls, MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"])
    app = django.protected(small, mtls_issuer)
    for where in ("/above", "/below"):
        assert django.send(app, where, fields(mtls_client, mtls_issuer, "a"), "POST").body == b"reached"
        headers = fields(mtls_client, mtls_issuer)
        assert django.send(app, where, headers, "POST").shown() == layer_answer(headers, mtls_issuer, "a")


def test_the_record_has_the_path_below_the_mount(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = DJANGO["wsgi"].protected(DJANGO["wsgi"].small(), mtls_issuer)
    overrides = {**TESTING_ENVIRON, "REMOTE_ADDR": PROXY, "SCRIPT_NAME": "/mounted"}
    Client(app).get("/async", headers=fields(mtls_client, mtls_issuer), environ_overrides=overrides)
    assert records(caplog)[0]["path"] == "/async"


def test_a_decorated_view_keeps_its_attributes() -> None:
    decorated = require_scopes("a")(csrf_exempt(view))
    assert (decorated.__name__, decorated.csrf_exempt) == ("view", True)


# Misuse


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


def test_a_decorated_view_class_is_rejected_with_advice() -> None:
    with pytest.raises(ConfigurationError, match="as_view"):
        require_scopes("a")(ClassView)
