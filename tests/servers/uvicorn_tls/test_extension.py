"""The extension that the application reads: real servers, real TLS, one for each test."""

import http.client
import socket
import ssl
from typing import Any

import pytest
import uvicorn
from websockets.exceptions import InvalidStatus

from mtls_middleware import client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware
from mtls_middleware.servers import uvicorn_tls
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import self_signed
from tests.servers.clients import greeting
from tests.servers.uvicorn_tls.server import (
    CA,
    CLIENT,
    HTTP,
    LOOPS,
    PRESENTED,
    SERVER,
    WS,
    Application,
    answers,
    connected,
    get,
    serving,
)

KEYS = {"server_cert", "client_cert_chain", "client_cert_name", "client_cert_error", "tls_version", "cipher_suite"}


@pytest.mark.live
@pytest.mark.standard("J1", "J2", "J3", "J4", "J5", "J6")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize(
    "handshake",
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", ssl.TLSVersion.TLSv1_2, 0x0303, 0xC02B),
        ("TLS_AES_256_GCM_SHA384", ssl.TLSVersion.TLSv1_3, 0x0304, 0x1302),
    ],
    ids=["1.2", "1.3"],
)
def test_every_key_has_the_type_and_value_of_the_specification(
    files: Any, http: str, loop: str, handshake: tuple[str, ssl.TLSVersion, int, int]
) -> None:
    app = Application()
    cipher, version, tls_version, cipher_suite = handshake
    context = CA.client_context(CLIENT)
    context.minimum_version = context.maximum_version = version
    if version is ssl.TLSVersion.TLSv1_2:
        context.set_ciphers(cipher)
    with (
        serving(app, http=http, loop=loop, ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as port,
        connected(port, context) as connection,
    ):
        assert connection.cipher()[0] == cipher
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answers(connection) == [b"ok"]
    assert app.tls == {
        "server_cert": SERVER.pem,
        "client_cert_chain": PRESENTED,
        "client_cert_name": "CN=billing,OU=a\\,b,O=Acme",
        "client_cert_error": None,
        "tls_version": tls_version,
        "cipher_suite": cipher_suite,
    }
    assert len(PRESENTED) == 2
    assert [type(each) for each in app.tls["client_cert_chain"]] == [str, str]
    assert [type(app.tls[key]) for key in ("server_cert", "client_cert_name")] == [str, str]
    assert [type(app.tls[key]) for key in ("tls_version", "cipher_suite")] == [int, int]


@pytest.mark.live
@pytest.mark.standard("J7")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("ws", WS)
@pytest.mark.parametrize("http", HTTP)
def test_a_websocket_has_it_too_beside_the_servers_own_extensions(files: Any, http: str, ws: str, loop: str) -> None:
    app = Application()
    with serving(app, http=http, ws=ws, loop=loop, ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as port:
        assert greeting(port, CLIENT, ca=CA) == "hello"
    assert app.scopes[0]["type"] == "websocket"
    assert set(app.tls) == KEYS
    assert app.tls["client_cert_chain"] == PRESENTED
    assert "websocket.http.response" in app.scopes[0]["extensions"]


@pytest.mark.live
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", HTTP)
def test_the_connection_is_read_once_and_shared_unchanged_by_requests(
    files: Any, http: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, read, reads = Application(), uvicorn_tls._extension, []

    def reading(*facts: Any) -> dict[str, object]:
        reads.append(facts)
        return read(*facts)

    monkeypatch.setattr(uvicorn_tls, "_extension", reading)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        serving(app, http=http, loop=loop, ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as port,
        connected(port, CA.client_context(CLIENT)) as connection,
    ):
        connection.sendall(request)
        answers(connection)
        connection.sendall(request + request)  # pipelined
        assert answers(connection, 2) == [b"ok", b"ok"]
    assert len(reads) == 1
    assert len(app.scopes) == 3
    assert [each["extensions"]["tls"] for each in app.scopes] == [app.tls] * 3
    assert app.tls["client_cert_chain"] == PRESENTED


@pytest.mark.live
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("http", "ws"), [("H11", "WebSockets"), ("HTTPTools", "WSProto"), ("Zttp", "WebSockets")])
def test_an_unreadable_connection_is_500(
    files: Any, http: str, ws: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Application()
    monkeypatch.setattr(ssl.SSLObject, "version", None)  # which asyncio does not ask for
    with serving(app, http=http, ws=ws, loop=loop, ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as port:
        assert get(port) == 500
        with pytest.raises(InvalidStatus, match="500"):
            greeting(port, CLIENT, ca=CA)
    assert app.scopes == []


@pytest.mark.live
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_resumed_session_keeps_its_leaf(files: Any, loop: str, version: ssl.TLSVersion) -> None:
    app = Application()
    context = CA.client_context(CLIENT)
    context.minimum_version = context.maximum_version = version
    session = None
    with serving(app, loop=loop, ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as port:
        for _ in range(2):
            with connected(port, context, session=session) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answers(connection)
                assert connection.session_reused is (session is not None)
                session = connection.session
    first, resumed = (each["extensions"]["tls"] for each in app.scopes)
    assert first["client_cert_chain"] == PRESENTED
    assert resumed["client_cert_chain"][0] == CLIENT.pem
    assert resumed["client_cert_name"] == first["client_cert_name"]


@pytest.mark.live
@pytest.mark.standard("J3", "J4", "J5")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", HTTP)
def test_without_a_certificate_the_chain_is_empty_and_nothing_is_attached(files: Any, http: str, loop: str) -> None:
    app = Application()
    wrapped = ClientCertificateMiddleware(app, ServerTLS())
    with serving(wrapped, http=http, loop=loop, ssl_cert_reqs=ssl.CERT_OPTIONAL, **files) as port:
        assert get(port, client=None) == 200
    assert set(app.tls) == KEYS
    assert app.tls["client_cert_chain"] == ()
    assert app.tls["client_cert_name"] is None
    assert app.tls["client_cert_error"] is None
    assert client_certificate(app.scopes[0]) is None


@pytest.mark.live
def test_a_server_that_asks_for_none_is_shown_none(files: Any) -> None:
    app = Application()
    with serving(app, ssl_cert_reqs=ssl.CERT_NONE, **files) as port:
        assert get(port) == 200
    assert app.tls["client_cert_chain"] == ()


@pytest.mark.live
@pytest.mark.parametrize("loop", LOOPS)
def test_a_certificate_that_does_not_verify_never_reaches_the_application(files: Any, loop: str) -> None:
    app = Application()
    with serving(app, loop=loop, ssl_cert_reqs=ssl.CERT_OPTIONAL, **files) as port:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            get(port, client=self_signed("CN=billing,O=Acme"))
        assert get(port) == 200  # the server goes on
    assert len(app.scopes) == 1


@pytest.mark.live
@pytest.mark.standard("J1")
@pytest.mark.parametrize("http", HTTP)
def test_without_tls_there_is_no_extension(http: str) -> None:
    app = Application()
    with serving(app, http=http) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers(connection)
    assert "tls" not in app.scopes[0]["extensions"]


# --- our own certificate ---


@pytest.mark.live
def test_server_cert_is_none_with_a_given_ssl_context(files: Any) -> None:
    app = Application()
    context = CA.server_context(SERVER)
    with serving(app, ssl_context_factory=lambda config, default: context) as port:
        assert get(port) == 200
    assert app.tls["server_cert"] is None
    assert app.tls["client_cert_chain"] == PRESENTED
    assert app.tls["cipher_suite"] == 0x1302


@pytest.mark.live
def test_server_cert_is_none_where_the_server_name_chose_another_context(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, other = Application(), CA.server_context(CA.server("localhost"))

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = other

    made = uvicorn.config.create_ssl_context

    def making(*args: Any, **options: Any) -> ssl.SSLContext:
        context = made(*args, **options)
        context.sni_callback = choose
        return context

    monkeypatch.setattr(uvicorn.config, "create_ssl_context", making)
    with serving(app, ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as port:
        assert get(port) == 200
    assert app.tls["server_cert"] is None
    assert app.tls["client_cert_chain"] == PRESENTED
