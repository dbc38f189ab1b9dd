"""uvicorn with our protocol classes: real servers, real TLS, one for each test."""

import asyncio
import http.client
import json
import logging
import os
import pickle
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from websockets.exceptions import InvalidStatus

from mtls_middleware import ConfigurationError, Verification, client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware
from mtls_middleware.servers import uvicorn_tls
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from tests.servers.asking import greeting

MODULE = "mtls_middleware.servers.uvicorn_tls"
HTTP, WS, LOOPS = ("H11", "HTTPTools", "Zttp"), ("WebSockets", "WSProto"), ("asyncio", "uvloop")
KEYS = {"server_cert", "client_cert_chain", "client_cert_name", "client_cert_error", "tls_version", "cipher_suite"}

CA = CertificateAuthority()
SERVER = CA.server()
CLIENT = CA.intermediate().issue("CN=billing,OU=a\\,b,O=Acme", dns=["billing.internal"])
ENVIRON = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # of a subprocess
PRESENTED = tuple(re.findall(r"-----BEGIN.*?END CERTIFICATE-----\n", CLIENT.chain_pem, re.DOTALL))


@dataclass
class Application:
    """Keeps each scope as it came, then spoils what it was given, as a bad application might."""

    scopes: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append({**scope, "extensions": dict(scope.get("extensions") or {})})
        if "tls" in self.scopes[-1]["extensions"]:
            self.scopes[-1]["extensions"]["tls"] = dict(scope["extensions"]["tls"])
            scope["extensions"]["tls"].update(client_cert_name="CN=forged", client_cert_chain=["forged"])
        if scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await send({"type": "websocket.close"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    @property
    def tls(self) -> dict[str, Any]:
        told: dict[str, Any] = self.scopes[-1]["extensions"]["tls"]
        return told


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = SERVER.write(directory, name="server")
    roots = directory / "roots.pem"
    roots.write_text(CA.pem)
    return {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_ca_certs": roots}


@contextmanager
def serving(app: Any, *, http: Any = "H11", ws: Any = "none", loop: str = "asyncio", **options: Any) -> Iterator[int]:
    """uvicorn in a thread, on a port of its own choice, which this gives; `http` and `ws`: our names, or any class."""
    config = uvicorn.Config(
        app,
        http=f"{MODULE}:{http}" if isinstance(http, str) else http,
        ws=f"{MODULE}:{ws}" if ws in WS else ws,
        loop=loop,
        lifespan="off",
        log_config=None,
        **options,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started:
                assert thread.is_alive(), "uvicorn did not start"
                assert time.monotonic() < deadline
                time.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            # uvicorn 0.54 cannot end while a websocket that it answered 500 is still closing: it answers it once more.
            until = time.monotonic() + 10
            while server.server_state.connections and time.monotonic() < until:
                time.sleep(0.005)
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def connected(port: int, context: ssl.SSLContext, **options: Any) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost", **options) as connection,
    ):
        yield connection


def answers(connection: socket.socket, count: int = 1) -> list[bytes]:
    """The bodies of that many answers."""
    bodies = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            assert stream.readline().split()[1] == b"200"
            bodies.append(stream.read(int(http.client.parse_headers(stream)["content-length"])))
    return bodies


def get(port: int, client: IssuedCertificate | None = CLIENT) -> int:
    """Status of one request."""
    connection = http.client.HTTPSConnection("localhost", port, context=CA.client_context(client), timeout=10)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


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
        assert connection.cipher()[0] == cipher  # type: ignore[index]
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
def test_the_connection_is_read_once_and_no_request_spoils_it_for_the_next(
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
def test_what_cannot_be_read_is_answered_500_and_the_application_not_reached(
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


# --- trailer fields ---

CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-SSL-Client-Cert\r\n\r\n"
TRAILER = b"2\r\nhi\r\n0\r\nX-SSL-Client-Cert: forged\r\n\r\n"


@pytest.mark.live
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize("at_once", [True, False])
def test_trailer_fields_are_no_header_fields(files: Any, http: str, loop: str, at_once: bool) -> None:
    app = Application()
    following = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Last: seen\r\n\r\n"
    with (
        serving(app, http=http, loop=loop, ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as port,
        connected(port, CA.client_context(CLIENT)) as connection,
    ):
        for part in [CHUNKED + TRAILER + following] if at_once else [CHUNKED, TRAILER, following]:
            connection.sendall(part)
            time.sleep(0 if at_once else 0.05)
        assert answers(connection, 2) == [b"ok", b"ok"]
    posted, last = app.scopes
    assert app.bodies == [b"hi", b""]
    assert [name for name, _ in posted["headers"]] == [b"host", b"transfer-encoding", b"trailer"]
    assert (b"x-last", b"seen") in last["headers"]  # the next message has its headers again


@pytest.mark.live
def test_uvicorns_own_class_still_needs_the_one_without_trailers(files: Any) -> None:
    """The control of the tests above. When it fails, uvicorn was mended, and `_WithoutTrailers` may go."""
    app = Application()
    with (
        serving(app, http=HttpToolsProtocol, **files) as port,
        connected(port, CA.client_context()) as connection,
    ):
        connection.sendall(CHUNKED + TRAILER)
        answers(connection)
    assert (b"x-ssl-client-cert", b"forged") in app.scopes[0]["headers"]
    assert "tls" not in app.scopes[0]["extensions"]  # and this is why the module is there at all


# --- end to end ---


@pytest.mark.live
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("http", "ws"), [("H11", "WebSockets"), ("HTTPTools", "WSProto"), ("Zttp", "WebSockets")])
def test_end_to_end_the_layer_attaches_what_the_server_verified(files: Any, http: str, ws: str, loop: str) -> None:
    app = Application()
    wrapped = ClientCertificateMiddleware(app, ServerTLS(), required=True)
    with serving(wrapped, http=http, ws=ws, loop=loop, ssl_cert_reqs=ssl.CERT_OPTIONAL, **files) as port:
        assert get(port, client=None) == 403
        with pytest.raises(InvalidStatus) as refused:
            greeting(port, None, ca=CA)
        assert refused.value.response.status_code == 403
        assert app.scopes == []
        assert get(port) == 200
        assert greeting(port, CLIENT, ca=CA) == "hello"
    assert [each["type"] for each in app.scopes] == ["http", "websocket"]
    for scope in app.scopes:
        attached = client_certificate(scope)
        assert attached == CLIENT.client_certificate()
        assert attached.verification is Verification.BY_SERVER
        assert attached.thumbprint == CLIENT.thumbprint
        assert attached.chain == CLIENT.client_certificate().chain
        assert len(attached.chain) == 1


COMMAND = """
import json
from mtls_middleware import client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware
from mtls_middleware.sources import ServerTLS

async def answer(scope, receive, send):
    certificate = client_certificate(scope)
    body = json.dumps([certificate.verification.name, certificate.thumbprint, scope["client"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

app = ClientCertificateMiddleware(answer, ServerTLS(), required=True)
"""


@pytest.mark.live
@pytest.mark.parametrize("http", HTTP)
def test_the_command_line_of_the_docstring(files: Any, http: str, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(COMMAND)
    command = [sys.executable, "-m", "uvicorn", "served:app", "--app-dir", str(tmp_path), "--port", "0"]
    command += [part for name, path in files.items() for part in ("--" + name.replace("_", "-"), str(path))]
    command += ["--ssl-cert-reqs", "1", "--http", f"{MODULE}:{http}", "--ws", f"{MODULE}:WebSockets"]
    with subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            lines = []
            for line in process.stdout or ():
                lines.append(line)
                if running := re.search(r"running on https://127\.0\.0\.1:(\d+)", line):
                    break
            else:
                pytest.fail("".join(lines))
            context = CA.client_context(CLIENT)
            request = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
            with connected(int(running[1]), context) as connection:
                connection.sendall(request)
                assert json.loads(answers(connection)[0]) == ["BY_SERVER", CLIENT.thumbprint, ["192.0.2.7", 0]]
        finally:
            process.terminate()
        log = process.stdout.read() if process.stdout else ""
    assert '192.0.2.7:0 - "GET / HTTP/1.1" 200' in log  # uvicorn's access log still sees what its proxy headers say


# --- our own certificate ---


@pytest.mark.live
def test_server_cert_is_none_where_somebody_else_made_the_context(files: Any) -> None:
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


# --- naming a class ---


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if no class had been named yet."""
    for name in (*HTTP, "HTTP2", *WS):
        monkeypatch.delitem(vars(uvicorn_tls), name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", [*HTTP, "HTTP2", *WS])
def test_a_class_is_made_once_and_found_again_by_its_name(name: str) -> None:
    made = getattr(uvicorn_tls, name)
    assert getattr(uvicorn_tls, name) is made
    assert pickle.loads(pickle.dumps(made)) is made  # uvicorn's workers get their configuration so


def test_other_names_are_none_of_ours() -> None:
    with pytest.raises(AttributeError, match="'H12'"):
        uvicorn_tls.H12  # noqa: B018


@pytest.mark.parametrize(
    ("name", "library"),
    [("HTTPTools", "httptools"), ("Zttp", "zttp"), ("WebSockets", "websockets"), ("WSProto", "wsproto")],
)
def test_a_missing_library_is_told_with_the_line_to_type(name: str, library: str, unnamed: pytest.MonkeyPatch) -> None:
    unnamed.setitem(sys.modules, library, None)
    config = uvicorn.Config(Application(), http=f"{MODULE}:{name}", log_config=None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'mtls-middleware\[uvicorn\]' {library}$"):
        config.load()


def test_without_uvicorn_the_line_to_type_is_told_too(unnamed: pytest.MonkeyPatch) -> None:
    unnamed.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigurationError, match="pip install"):
        uvicorn_tls.H11  # noqa: B018


class NoCallback(asyncio.Protocol):
    """Speaks neither of `connection_made` nor of httptools."""


class OtherApplication(H11Protocol):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.app = Application()


class NoApplication(H11Protocol):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        del self.app


class OtherArguments(H11Protocol):
    def __init__(self, context: Any) -> None:
        raise NotImplementedError


class NoContextFactory(H11Protocol):
    def __init__(self, config: Any, **options: Any) -> None:
        super().__init__(config, **options)
        del config.ssl_context_factory


class NoLoadedApplication(H11Protocol):
    def __init__(self, config: Any, **options: Any) -> None:
        super().__init__(config, **options)
        del config.loaded_app


@pytest.mark.parametrize(
    ("base", "told"),
    [
        (NoCallback, "no connection_made"),
        (OtherApplication, "its app is not config.loaded_app"),
        (NoApplication, "'app'"),
        (OtherArguments, "unexpected keyword argument"),
        (NoLoadedApplication, "'loaded_app'"),
        (NoContextFactory, "no ssl_context_factory"),
    ],
)
def test_a_moved_interface_is_told_before_uvicorn_listens(
    base: type[asyncio.Protocol], told: str, unnamed: pytest.MonkeyPatch
) -> None:
    unnamed.setattr("uvicorn.protocols.http.h11_impl.H11Protocol", base)
    config = uvicorn.Config(Application(), http=f"{MODULE}:H11", log_config=None)
    with pytest.raises(ConfigurationError, match=told) as refused:
        config.load()
    assert f"of uvicorn {uvicorn.__version__}" in str(refused.value)
    assert "pip install 'uvicorn==0.54.*'" in str(refused.value)


@pytest.mark.parametrize("callback", ["on_message_begin", "on_header", "on_headers_complete"])
def test_a_moved_callback_of_httptools_is_told(callback: str, unnamed: pytest.MonkeyPatch) -> None:
    unnamed.delattr(HttpToolsProtocol, callback)
    with pytest.raises(ConfigurationError, match=f"it has no {callback}"):
        uvicorn_tls.HTTPTools  # noqa: B018


def test_a_class_or_module_that_is_gone_is_told(unnamed: pytest.MonkeyPatch) -> None:
    unnamed.delattr("uvicorn.protocols.websockets.wsproto_impl.WSProtocol")
    with pytest.raises(ConfigurationError, match=WSProtocol.__name__):
        uvicorn_tls.WSProto  # noqa: B018
    unnamed.setitem(sys.modules, "uvicorn.protocols.websockets.websockets_sansio_impl", None)
    with pytest.raises(ConfigurationError, match="websockets_sansio_impl"):
        uvicorn_tls.WebSockets  # noqa: B018


def test_making_a_class_leaves_uvicorns_logging_as_it_was(unnamed: pytest.MonkeyPatch) -> None:
    loggers: Sequence[logging.Logger] = [logging.getLogger(each) for each in ("uvicorn", "uvicorn.access")]
    before = [(each.level, each.handlers, each.propagate) for each in loggers]
    assert uvicorn_tls.H11.__name__ == "H11"
    assert [(each.level, each.handlers, each.propagate) for each in loggers] == before


def test_a_name_imports_its_own_library_and_no_other() -> None:
    program = f"""
import sys
import {MODULE} as module
optional = ("uvicorn", "httptools", "zttp", "websockets", "wsproto")
print([each for each in optional if each in sys.modules])
module.H11
print([each for each in optional if each in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRON, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n['uvicorn']\n"
