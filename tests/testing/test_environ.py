"""`TESTING_ENVIRON` in real test clients: without it, each is an unknown server."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from werkzeug.test import Client

from mtls_middleware import client_certificate, wsgi
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate
from tests.frameworks import django_site

PROXY = {**TESTING_ENVIRON, "REMOTE_ADDR": "10.0.0.1"}
SOURCE = Nginx(trusted_proxies=["10.0.0.0/8"])

Fields = Mapping[str, str]


def application(environ: Any, start_response: Any) -> list[bytes]:
    certificate = client_certificate(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"" if certificate is None else certificate.thumbprint.encode()]


def werkzeugs(fields: Fields, environ: Mapping[str, Any]) -> tuple[int, str]:
    client = Client(wsgi.ClientCertificateMiddleware(application, SOURCE))
    response = client.get("/", headers=fields, environ_overrides=environ)
    return response.status_code, response.text


def webtests(fields: Fields, environ: Mapping[str, Any]) -> tuple[int, str]:
    from webtest import TestApp

    client = TestApp(wsgi.ClientCertificateMiddleware(application, SOURCE), extra_environ=dict(environ))
    response = client.get("/", headers=dict(fields), expect_errors=True)
    return response.status_int, response.text


def djangos(fields: Fields, environ: Mapping[str, Any]) -> tuple[int, str]:
    """Django's client calls Django's own handler, not what is in wsgi.py: the layer is one of Django's middlewares."""
    from django.test import Client as DjangoClient
    from django.test.utils import override_settings

    django_site.set_up()
    with override_settings(MIDDLEWARE=[f"{__name__}.djangos_middleware"]):
        response = DjangoClient(headers=fields, **environ).get("/async")
    return response.status_code, response.content.decode() if response.status_code == 200 else ""


def djangos_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    from django.http import HttpResponse

    def middleware(request: Any) -> Any:
        started: list[int] = []

        def start_response(status: str, headers: Any, *_: Any) -> Any:
            started.append(int(status[:3]))

        list(wsgi.ClientCertificateMiddleware(application, SOURCE)(request.environ, start_response))
        return get_response(request) if started == [200] else HttpResponse(status=started[0])

    return middleware


CLIENTS: dict[str, Callable[[Fields, Mapping[str, Any]], tuple[int, str]]] = {
    "werkzeug": werkzeugs,
    "WebTest": webtests,
    "Django": djangos,
}


@pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")  # WebOb imports it
@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
def test_a_test_client_with_the_mark_is_behind_the_proxy(
    ask: Callable[..., tuple[int, str]], mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    fields = mtls_client.as_nginx()
    assert ask(fields, PROXY) == (200, mtls_client.thumbprint)
    assert ask(fields, {**PROXY, "REMOTE_ADDR": "203.0.113.9"}) == (200, "")
    assert ask({**fields, "mtls_middleware.testing": "True"}, {"REMOTE_ADDR": "10.0.0.1"})[0] == 500
    assert "In tests, add mtls_middleware.testing.TESTING_ENVIRON to the environ" in caplog.text


def test_the_fixture_is_the_tests_own(mtls_environ: dict[str, Any]) -> None:
    assert mtls_environ == TESTING_ENVIRON
    mtls_environ["REMOTE_ADDR"] = "10.0.0.1"
    assert "REMOTE_ADDR" not in TESTING_ENVIRON


def test_the_environ_of_a_certificate_has_the_mark(mtls_client: IssuedCertificate) -> None:
    assert TESTING_ENVIRON.items() <= mtls_client.as_environ().items()
