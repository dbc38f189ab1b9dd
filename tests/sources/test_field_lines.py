"""Whether a field has one line: ASGI servers and gunicorn show each line, other WSGI servers join them.

A second end-entity certificate in Traefik's list is unneeded in a single line, and suspicious in a value that may have
been two lines.
"""

import base64
import functools
import socket
from collections.abc import Callable
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create

from mtls_middleware import wsgi
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources import Traefik
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.wsgi_request import WSGIRequest
from tests.certificate_report import certificate_of
from tests.sources.requests import PROXY, TRUST, view

NAME = "x-forwarded-tls-client-cert"
CA = CertificateAuthority()
CLIENT, OTHER = (base64.b64encode(CA.issue(name).der).decode() for name in ("CN=client", "CN=other"))


def received(*lines: str, header_map: str = "drop") -> tuple[dict[str, Any], Callable[..., Any]]:
    """The environ and `start_response` that gunicorn itself makes of these field lines."""
    settings = Config()
    settings.set("header_map", header_map)
    settings.set("limit_request_field_size", 65_536)
    head = "\r\n".join(["GET / HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()
    request = next(iter(RequestParser(settings, iter([head]), (PROXY, 40_000))))
    with socket.socket() as connection:
        response, environ = create(request, connection, (PROXY, 40_000), ("127.0.0.1", 8000), settings)
    return environ, response.start_response


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"{NAME}: a,b"], True),
        ([f"{NAME.title()}: a"], True),
        ([f"{NAME}: a", f"{NAME}: b"], False),
        ([f"{NAME}: a", f"{NAME.upper()}: b"], False),
        ([f"{NAME.replace('-', '_')}: a", f"{NAME}: b"], True),  # gunicorn drops the first
        ([], False),
        (["Accept: a", "Accept: b", f"{NAME}: a"], True),
    ],
)
def test_gunicorn_shows_whether_a_field_has_one_line(lines: list[str], expected: bool) -> None:
    assert WSGIRequest(*received(*lines)).has_one_line(NAME) is expected


def test_a_name_that_gunicorn_folds_is_a_second_line() -> None:
    lines = f"{NAME.replace('-', '_')}: a", f"{NAME}: b"
    assert WSGIRequest(*received(*lines, header_map="dangerous")).has_one_line(NAME) is False


def test_the_lines_are_unknown_if_a_middleware_changes_what_gunicorn_made() -> None:
    environ, start_response = received(f"{NAME}: a")
    wrapped = functools.partial(start_response)
    assert WSGIRequest(environ, wrapped).has_one_line(NAME) is False
    assert WSGIRequest({**environ, "HTTP_X_FORWARDED_TLS_CLIENT_CERT": "b"}, start_response).has_one_line(NAME) is False
    assert WSGIRequest({"wsgi.input": environ["wsgi.input"]}, start_response).has_one_line(NAME) is False
    assert WSGIRequest(environ, start_response).has_one_line(NAME) is True


def test_a_cached_decision_about_one_line_is_not_used_for_two() -> None:
    """Both requests have the same value in the environ, because gunicorn joins lines with the comma of Traefik."""
    seen: list[object] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(certificate_of(environ))
        start_response("200 OK", [])
        return []

    guarded = wsgi.ClientCertificateMiddleware(application, Traefik(**TRUST))

    def status(*lines: str) -> str:
        environ, start_response = received(*lines)
        b"".join(guarded(environ, start_response))
        return str(start_response.__self__.status)

    for _ in range(3):
        assert status(f"{NAME}: {CLIENT},{OTHER}") == "200 OK"
        assert status(f"{NAME}: {CLIENT}", f"{NAME}: {OTHER}") == "400 Bad Request"
        assert status(f"{NAME}: {OTHER}", f"{NAME}: {CLIENT}") == "400 Bad Request"
    assert len(seen) == 3
    assert len({str(each) for each in seen}) == 1


class OldView:
    """A view that was written before `has_one_line` existed."""

    def __init__(self, value: str) -> None:
        self._view = view([(NAME, value)])

    def __getattr__(self, name: str) -> Any:
        if name == "has_one_line":
            raise AttributeError(name)
        return getattr(self._view, name)


def test_a_view_that_does_not_know_its_lines_counts_as_joined() -> None:
    source = Traefik(**TRUST)
    found = source.find(OldView(CLIENT))
    assert found is not None
    assert base64.b64encode(found.der).decode() == CLIENT
    with pytest.raises(MalformedCertificate, match="second leaf"):
        source.find(OldView(f"{CLIENT},{OTHER}"))
