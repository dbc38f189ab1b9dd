"""Names that fold into the proxy's, and addresses that an adapter hides: what was tried on servers and sources."""

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from a2wsgi import ASGIMiddleware, WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from cheroot.wsgi import Server
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from mtls_middleware import asgi, client_certificate, wsgi
from mtls_middleware.sources import HeaderSource, Nginx
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate
from tests.environs import KNOWN_SERVER
from tests.gateways import PROXY, Request, environ_of, exchange, scope_of, send
from tests.live.servers import free_port, running
from tests.servers.folding_apps import SECRET
from tests.servers.wsgi_kinds import WSGI

pytestmark = pytest.mark.case("005")

TRUST = {"trusted_proxies": ["10.0.0.0/8"]}
PLAIN: dict[str, Any] = {"certificate_header": "MtlsClientCert", "verify_header": "MtlsClientVerify"}

Wrap = Callable[[Any, Any], Any]


def layered(source: HeaderSource) -> Wrap:
    return lambda module, app: module.ClientCertificateMiddleware(app, source)


def plain(certificate: IssuedCertificate) -> list[tuple[str, str]]:
    return list(zip(PLAIN.values(), certificate.as_nginx().values(), strict=True))


def without_server(request: Request) -> dict[str, Any]:
    return {key: value for key, value in environ_of(request).items() if key not in KNOWN_SERVER}


def status_of(app: Any, environ: dict[str, Any]) -> int:
    statuses: list[int] = []
    list(app(environ, lambda status, *_: statuses.append(int(status[:3]))))
    return statuses[0]


def answering(environ: Any, start_response: Any) -> list[bytes]:
    body = json.dumps(getattr(client_certificate(environ), "thumbprint", None)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def answering_asgi(scope: Any, receive: Any, send: Any) -> None:
    body = json.dumps(getattr(client_certificate(scope), "thumbprint", None)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


# ---- names


@pytest.mark.live
def test_a_sharp_s_octet_does_not_forge_a_name_without_hyphens(
    mtls_client: IssuedCertificate,
) -> None:
    """cheroot's `b"x\\xdfl...".decode("latin-1").upper()`: XSSL. Such a name counts as one with a hyphen."""
    source = Nginx(trusted_proxies=["127.0.0.1"], certificate_header="XSSLClientCert", verify_header=False)
    server = Server(("127.0.0.1", 0), wsgi.ClientCertificateMiddleware(answering, source), numthreads=1)
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", server.bind_addr[1]), timeout=10) as connection:
            value = mtls_client.as_nginx()["X-SSL-Client-Cert"].encode()
            lines = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX\xdfLClientCert: " + value + b"\r\n\r\n"
            connection.sendall(lines)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 500
    finally:
        server.stop()
        thread.join()


@pytest.mark.live
def test_gunicorns_uwsgi_protocol_takes_folded_names_and_is_seen(mtls_client: IssuedCertificate) -> None:
    """Its SERVER_SOFTWARE is gunicorn's, but the proxy has folded the names (nginx with underscores_in_headers on)."""
    port = free_port()
    command = ["-m", "gunicorn", WSGI, "--bind", f"127.0.0.1:{port}", "--no-control-socket", "--protocol", "uwsgi"]
    certificate, verify = mtls_client.as_nginx().values()
    common = {"REQUEST_METHOD": "GET", "SERVER_NAME": "x", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1"}
    hyphens = {"PATH_INFO": "/hyphens", "HTTP_X_SSL_CLIENT_CERT": certificate, "HTTP_X_SSL_CLIENT_VERIFY": verify}
    secret = {"PATH_INFO": "/plain-secret", "HTTP_MTLSPROXYSECRET": SECRET[1]}
    secret |= {"HTTP_MTLSCLIENTCERT": certificate, "HTTP_MTLSCLIENTVERIFY": verify}
    with running(command, port):
        assert over_uwsgi(port, common | hyphens)[0] == 500
        status, body = over_uwsgi(port, common | secret)
        assert (status, mtls_client.thumbprint.encode() in body) == (200, True)


def over_uwsgi(port: int, variables: Mapping[str, str]) -> tuple[int, bytes]:
    parts = [part.encode() for pair in variables.items() for part in pair]
    packet = b"".join(struct.pack("<H", len(part)) + part for part in parts)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(struct.pack("<BHB", 0, len(packet), 0) + packet)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def test_two_lines_of_a_name_without_hyphens_are_rejected(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    source = Nginx(**TRUST, **PLAIN)
    for headers in (
        [*plain(mtls_client), *plain(mtls_other_client)],
        [*plain(mtls_client), plain(mtls_client)[0]],
        [*plain(mtls_client), ("MTLSCLIENTCERT", "")],
    ):
        for gateway in ("wsgi", "asgi"):
            result = send(gateway, layered(source), Request(headers=headers))
            assert (result.status, result.seen) == (400, None)


@pytest.mark.parametrize(
    "name",
    [
        "mtls_client_cert",
        "Mtls-Client-Cert",
        "MtlsClientCert-",
        "-MtlsClientCert",
        "HTTP_MtlsClientCert",
        "MtlsClientCert_",
    ],
)
def test_no_spelling_with_hyphens_or_underscores_is_the_name_without(name: str, mtls_client: IssuedCertificate) -> None:
    source = Nginx(**TRUST, certificate_header="MtlsClientCert", verify_header=False)
    value = mtls_client.as_nginx()["X-SSL-Client-Cert"]
    for gateway in ("wsgi", "asgi"):
        assert send(gateway, layered(source), Request(headers=[(name, value)])).application.certificate is None


# ---- what is around the layer


def test_a_middleware_outside_changes_nothing_of_what_is_known(mtls_client: IssuedCertificate) -> None:
    """werkzeug's dispatcher, a copy of the environ, another start_response: names stay known, or stay unknown."""
    fields = list(mtls_client.as_nginx().items())
    layer = wsgi.ClientCertificateMiddleware(answering, Nginx(**TRUST))
    around: list[Any] = [
        DispatcherMiddleware(answering, {"/app": layer}),
        lambda environ, start: DispatcherMiddleware(answering, {"/app": layer})({**environ}, start),
        lambda environ, start: ProxyFix(DispatcherMiddleware(answering, {"/app": layer}))(
            environ,
            lambda status, fields: start(status, fields),  # noqa: PLW0108  # another one than the server's
        ),
    ]
    request = Request(headers=fields, path="/app/x")
    for app in around:
        assert status_of(app, environ_of(request)) == 200
        assert status_of(app, without_server(request)) == 500


def test_proxy_fix_makes_no_address_known_under_an_unknown_server(mtls_client: IssuedCertificate) -> None:
    """What ProxyFix keeps as the original is what the adapter said, and a header may have written that."""
    layer = wsgi.ClientCertificateMiddleware(answering, Nginx(**TRUST, **PLAIN))
    request = Request(headers=[*plain(mtls_client), ("X-Forwarded-For", "203.0.113.9")])
    for environ, found in ((environ_of(request), mtls_client.thumbprint), (without_server(request), None)):
        body = b"".join(ProxyFix(layer)(environ, lambda *_: lambda _: None))
        assert json.loads(body) == found


@pytest.mark.parametrize("value", ["True", "1", 1, "yes", object()])
def test_only_the_tests_own_mark_is_one(value: Any, mtls_client: IssuedCertificate) -> None:
    """wsgiref and granian copy the process's environment into every environ; its values are strings."""
    layer = wsgi.ClientCertificateMiddleware(answering, Nginx(**TRUST))
    environ = without_server(Request(headers=list(mtls_client.as_nginx().items())))
    (key,) = TESTING_ENVIRON
    assert status_of(layer, {**environ, key: value}) == 500
    assert status_of(layer, {**environ, **TESTING_ENVIRON}) == 200


def test_headers_named_as_the_keys_of_servers_make_no_server_known(mtls_client: IssuedCertificate) -> None:
    names = ["SERVER_SOFTWARE", "waitress.client_disconnected", "mod_wsgi.version", "mtls_middleware.testing"]
    forged = [(name, "gunicorn/27.0.1") for name in names]
    environ = without_server(Request(headers=[*mtls_client.as_nginx().items(), *forged]))
    assert status_of(wsgi.ClientCertificateMiddleware(answering, Nginx(**TRUST)), environ) == 500


# ---- adapters, from either side


def over_wsgi(environ: dict[str, Any], source: HeaderSource) -> tuple[int, bytes]:
    """An ASGI application under a WSGI server, by a2wsgi."""
    statuses: list[int] = []
    app = ASGIMiddleware(asgi.ClientCertificateMiddleware(answering_asgi, source))
    body = b"".join(app(environ, lambda status, *_: statuses.append(int(status[:3]))))
    return statuses[0], body


def test_asgi_under_wsgi_goes_by_the_wsgi_server_below(mtls_client: IssuedCertificate) -> None:
    known = Request(headers=list(mtls_client.as_nginx().items()), extra={"REMOTE_PORT": "50000"})
    status, body = over_wsgi(environ_of(known), Nginx(**TRUST))
    assert (status, json.loads(body)) == (200, mtls_client.thumbprint)
    assert over_wsgi(without_server(known), Nginx(**TRUST))[0] == 500
    unhyphened = Request(headers=plain(mtls_client), extra={"REMOTE_PORT": "50000"})
    status, body = over_wsgi(without_server(unhyphened), Nginx(**TRUST, **PLAIN))
    assert (status, json.loads(body)) == (200, None)


@pytest.mark.parametrize("key", ["wsgi_environ", "wsgi.environ", "environ"])
@pytest.mark.parametrize("below", [{}, None, "gunicorn/27.0.1", [], {"REMOTE_ADDR": PROXY}])
def test_an_adapter_that_keeps_an_environ_in_the_scope_is_seen(
    key: str, below: Any, mtls_client: IssuedCertificate
) -> None:
    fields = list(mtls_client.as_nginx().items())
    assert send("asgi", layered(Nginx(**TRUST)), Request(headers=fields, extra={key: below})).status == 500
    found = send("asgi", layered(Nginx(**TRUST, **PLAIN)), Request(headers=plain(mtls_client), extra={key: below}))
    assert found.application.certificate is None


@pytest.mark.parametrize("adapter", [WSGIMiddleware, WsgiToAsgi])
def test_wsgi_under_asgi_trusts_neither_names_nor_the_address(adapter: Any, mtls_client: IssuedCertificate) -> None:
    """uvicorn with `--forwarded-allow-ips '*'` gives the address of X-Forwarded-For, and the adapter hides that."""

    def ask(source: HeaderSource, fields: list[tuple[str, str]]) -> tuple[int, bytes]:
        app = adapter(wsgi.ClientCertificateMiddleware(answering, source))
        forwarded = ("X-Forwarded-For", PROXY)
        scope = scope_of(Request(headers=[*fields, forwarded], extra={"client": (PROXY, 0)}))
        messages = [{"type": "http.request", "body": b"", "more_body": False}]
        start, *bodies = exchange(app, scope, messages)
        return start["status"], b"".join(each.get("body", b"") for each in bodies)

    assert ask(Nginx(**TRUST), list(mtls_client.as_nginx().items()))[0] == 500
    status, body = ask(Nginx(**TRUST, **PLAIN), plain(mtls_client))
    assert (status, json.loads(body)) == (200, None)
    status, body = ask(Nginx(shared_secret=SECRET, **PLAIN), [SECRET, *plain(mtls_client)])
    assert (status, json.loads(body)) == (200, mtls_client.thumbprint)
