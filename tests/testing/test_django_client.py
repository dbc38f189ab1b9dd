"""Django's test clients with the layers in front of the project."""

import asyncio
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from mtls_middleware import ConfigurationError, asgi, client_certificate, wsgi
from mtls_middleware.policy import Subject
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.testing.django import AsyncClient, Client
from tests.integrations.route_frameworks import URLconf

CA = CertificateAuthority()
BILLING, SHIPPING = CA.issue("CN=billing,O=Acme"), CA.issue("CN=shipping,O=Acme")
SOURCES = [Nginx(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", "s" * 16)), ServerTLS()]
# Each gateway has the keys of its requests in another attribute.
CARRIERS = {"wsgi": "META", "asgi": "scope"}


def view(request: HttpRequest) -> HttpResponse:
    carrier = request.META if hasattr(request, "META") and "wsgi.input" in request.META else request.scope
    certificate = client_certificate(carrier)
    assert certificate is not None
    return HttpResponse(f"{certificate.thumbprint} {request.body.decode()}")


@pytest.fixture(params=[*CARRIERS])
def clients(request: pytest.FixtureRequest) -> Any:
    """A function: (source, certificate) -> (method, path) -> the response."""
    gateway = request.param
    with override_settings(ROOT_URLCONF=URLconf([path("invoices", view)]), MIDDLEWARE=[]):
        project: Any = get_wsgi_application() if gateway == "wsgi" else get_asgi_application()
        layers: Any = wsgi if gateway == "wsgi" else asgi
        kind: Any = Client if gateway == "wsgi" else AsyncClient

        def client(source: Any, certificate: Any, **options: Any) -> Any:
            application = layers.protect(project, source=source, allow=Subject("CN=billing,O=Acme"))
            made = kind(application, None if certificate is None else certificate.for_source(source), **options)

            def send(method: str, *arguments: Any, **keywords: Any) -> Any:
                found = getattr(made, method)(*arguments, **keywords)
                return asyncio.run(found) if gateway == "asgi" else found

            return send

        yield client


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_requests_go_through_the_layers(clients: Any, source: Any) -> None:
    allowed = clients(source, BILLING)("get", "/invoices")
    assert (allowed.status_code, allowed.content.decode()) == (200, f"{BILLING.thumbprint} ")
    other = clients(source, SHIPPING)("get", "/invoices")
    assert (other.status_code, other.json()["error"]) == (403, "client_certificate_refused")
    nobody = clients(source, None)("get", "/invoices")
    assert (nobody.status_code, nobody.json()["error"]) == (403, "client_certificate_required")


def test_the_body_reaches_the_view(clients: Any) -> None:
    answer = clients(SOURCES[0], BILLING)("post", "/invoices", data="a body", content_type="text/plain")
    assert answer.content.decode() == f"{BILLING.thumbprint} a body"


def test_what_djangos_clients_add_to_a_response_is_there(clients: Any) -> None:
    answer = clients(SOURCES[0], BILLING)("get", "/invoices")
    assert answer.resolver_match.func is view
    assert answer.request["REQUEST_METHOD" if hasattr(answer, "wsgi_request") else "method"] == "GET"
    assert answer.headers["Vary"] == SOURCES[0].vary
    rejected = clients(SOURCES[0], SHIPPING)("get", "/invoices")
    assert rejected.headers["Content-Type"] == "application/json"


def test_header_fields_of_the_test_itself_do_not_count(clients: Any) -> None:
    send = clients(SOURCES[0], None, headers=dict(BILLING.as_nginx()))
    assert send("get", "/invoices").status_code == 403


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_application_without_layers_is_an_error(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="protect"):
        kind(lambda environ, start_response: [])
    other = {Client: asgi, AsyncClient: wsgi}[kind].protect(lambda *_: [], source=ServerTLS())
    with pytest.raises(ConfigurationError, match="protect"):
        kind(other)
