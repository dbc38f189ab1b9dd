"""The WSGI gateway alone: PEP 3333 as `wsgiref.validate` reads it, bodies, `exc_info`, the transport peer, environ."""

import io
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

from mtls_middleware import client_certificate
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from mtls_middleware.wsgi import ClientCertificateMiddleware, protect
from tests.gateways import STRANGER, Request, environ_of, send

PROXIED = Nginx(trusted_proxies=["10.0.0.0/8"])


class Body:
    """A streamed body that says whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        yield b"two"

    def close(self) -> None:
        self.closed = True


def run(app: Any, environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started[:] = [status, dict(headers)]
        return io.BytesIO().write

    chunks = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    return started[0], started[1], body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("state", ["accepted", "no token", "no certificate"])
def test_both_sides_keep_to_pep_3333(
    method: str, state: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"] if environ["REQUEST_METHOD"] == "GET" else []

    wrapped = validator(
        protect(validator(app), source=ServerTLS(), allow=lambda _: True, tokens=mtls_issuer.access_tokens())
    )
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": ""}
    if state != "no certificate":
        environ |= mtls_client.as_environ()
    if state == "accepted":
        environ["HTTP_AUTHORIZATION"] = "Bearer " + mtls_issuer.token(certificate=mtls_client)
    setup_testing_defaults(environ)
    status, _, body = run(wrapped, environ)
    assert status == {"accepted": "200 OK", "no token": "401 Unauthorized", "no certificate": "403 Forbidden"}[state]
    assert (body == b"") == (method == "HEAD")


def test_streamed_body_is_the_applications_own_and_is_closed(mtls_client: IssuedCertificate) -> None:
    body = Body()

    def app(_environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [])
        return body

    layer = ClientCertificateMiddleware(app, PROXIED)
    request = environ_of(Request(headers=list(mtls_client.as_nginx().items())))
    assert layer(request, lambda *_: None) is body  # so `wsgi.file_wrapper`, close() and len() go on working
    assert run(layer, request)[2] == b"onetwo"
    assert body.closed


def test_generator_that_starts_late_is_served_and_closed() -> None:
    closed: list[bool] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        try:
            start_response("200 OK", [("X-Certificate", repr(client_certificate(environ)))])
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    chunks = ClientCertificateMiddleware(app, PROXIED)(environ_of(Request()), lambda *_: None)
    assert next(iter(chunks)) == b"one"
    chunks.close()
    assert closed == [True]


def test_exc_info_and_write_reach_the_server() -> None:
    written, calls = [], []

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"early")
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Internal Server Error", [("X-Late", "1")], sys.exc_info())
        return []

    def start_response(*arguments: Any) -> Any:
        calls.append(arguments)
        return written.append

    ClientCertificateMiddleware(app, PROXIED)(environ_of(Request()), start_response)
    vary = ("Vary", "x-ssl-client-cert")
    assert written == [b"early"]
    assert calls[0] == ("200 OK", [vary])
    status, headers, exc_info = calls[1]
    assert (status, headers) == ("500 Internal Server Error", [("X-Late", "1"), vary])
    assert exc_info[0] is ValueError


def test_applications_list_of_headers_is_left_alone() -> None:
    own: list[tuple[str, str]] = [("Vary", "Accept")]

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", own)
        return []

    ClientCertificateMiddleware(app, PROXIED)(environ_of(Request()), lambda *_: None)
    assert own == [("Vary", "Accept")]


@pytest.mark.parametrize("forged", ["10.0.0.7", "10.0.0.7, 10.0.0.7"])
def test_an_address_rewritten_by_proxy_fix_is_not_the_peer(forged: str, mtls_client: IssuedCertificate) -> None:
    headers = [*mtls_client.as_nginx().items(), ("X-Forwarded-For", forged)]

    def outside(_module: Any, app: Any) -> Any:
        return ProxyFix(ClientCertificateMiddleware(app, PROXIED))

    assert send("wsgi", outside, Request(peer=STRANGER, headers=headers)).application.certificate is None
    behind_proxy = Request(headers=[*headers[:2], ("X-Forwarded-For", STRANGER)])
    assert send("wsgi", outside, behind_proxy).application.certificate == mtls_client.client_certificate()


def _socket(family: Any) -> Any:
    return SimpleNamespace(family=family, getpeercert=None)


WAITRESS = "waitress.client_disconnected"


@pytest.mark.parametrize(
    ("facts", "trusted"),
    [
        ({"gunicorn.socket": _socket(socket.AF_UNIX)}, True),
        ({"gunicorn.socket": _socket(socket.AF_INET)}, False),
        ({"werkzeug.socket": _socket(socket.AF_UNIX), "REMOTE_ADDR": "<local>"}, True),
        ({WAITRESS: bool, "SERVER_PORT": "/run/app.sock", "REMOTE_ADDR": "localhost"}, True),
        ({WAITRESS: bool, "REMOTE_ADDR": "localhost"}, False),
        ({"REMOTE_ADDR": ""}, False),
        ({"REMOTE_ADDR": "<local>"}, False),
        ({}, False),
    ],
)
@pytest.mark.case("017")
def test_unix_peer_is_the_servers_own_word(
    facts: dict[str, Any], trusted: bool, mtls_client: IssuedCertificate
) -> None:
    headers = list(mtls_client.as_nginx().items())
    request = Request(peer=None, headers=headers, extra=facts)

    def wrap(trusted_proxies: list[str]) -> Any:
        source = Nginx(trusted_proxies=trusted_proxies)
        return lambda _module, app: ClientCertificateMiddleware(app, source)

    assert (send("wsgi", wrap(["unix"]), request).application.certificate is not None) is trusted
    assert send("wsgi", wrap(["10.0.0.0/8"]), request).application.certificate is None


@pytest.mark.parametrize("path", ["/caf\xe9", "/\u20ac", "/a\udcff"])
def test_a_path_that_is_not_utf_8_is_matched_unchanged(path: str) -> None:
    """PEP 3333 wants latin-1; whatever else a server gives is neither an error nor an exempt path."""

    def wrap(_module: Any, app: Any) -> Any:
        return ClientCertificateMiddleware(app, ServerTLS(), required=True, exempt=["/health"])

    assert send("wsgi", wrap, Request(extra={"PATH_INFO": path})).status == 403


@pytest.mark.standard("K10")
def test_keys_from_outside_do_not_survive(mtls_client: IssuedCertificate) -> None:
    forged = {
        "mtls_middleware.certificate": mtls_client.client_certificate(),
        "mtls_middleware.token": object(),
        "HTTP_MTLS_MIDDLEWARE_CERTIFICATE": "x",
    }
    seen = send("wsgi", lambda _, app: ClientCertificateMiddleware(app, PROXIED), Request(extra=forged)).application
    assert (seen.certificate, seen.token) == (None, None)


@pytest.mark.standard("K8")
@pytest.mark.case("001")
def test_header_with_the_servers_own_names_is_not_the_server(mtls_client: IssuedCertificate) -> None:
    forged = [("SSL-Client-Cert", mtls_client.pem), ("SSL-Client-Verify", "SUCCESS"), ("HTTPS-CC", mtls_client.pem)]

    def wrap(_module: Any, app: Any) -> Any:
        return ClientCertificateMiddleware(app, ServerTLS())

    seen = send("wsgi", wrap, Request(headers=forged)).application
    assert seen.certificate is None
    assert "ssl-client-cert" not in seen.headers


def test_environ_stripped_is_the_servers_own_dict(mtls_client: IssuedCertificate) -> None:
    """Access logs of servers read environ after the call: they find no forged header in it either."""

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    environ = environ_of(Request(peer=STRANGER, headers=list(mtls_client.as_nginx().items())))
    run(ClientCertificateMiddleware(app, PROXIED), environ)
    assert not [key for key in environ if "SSL" in key]
