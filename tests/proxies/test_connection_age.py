"""The lines of docs/operations.md that limit how long a client's connection lives, in the real proxies."""

import http.client
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from mtls_middleware.testing import CertificateAuthority
from tests.live.servers import ROOT, free_port
from tests.proxies import programs
from tests.proxies.client import connected

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "operations.md").read_text()
# Seconds in the place of those of the page.
AGE = 2

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind 127.0.0.1:{port} ssl crt server.pem alpn h2,http/1.1
{lines}
    default_backend application
backend application
    server one 127.0.0.1:{upstream}
"""
NGINX = """
server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate server.pem;
    ssl_certificate_key server.pem;
    {lines}
    location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
}}
"""
APACHE = """
Listen 127.0.0.1:{port}
Protocols h2 http/1.1
SSLEngine on
SSLCertificateFile {folder}/server.pem
KeepAlive On
{lines}
ProxyPass / http://127.0.0.1:{upstream}/
"""


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def keepalive_time() -> str:
    (found,) = re.findall(r"`(keepalive_time [^`]*;)`", PAGE)
    return found


class Application(BaseHTTPRequestHandler):
    """Rejects "/no" with 403."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(403 if self.path == "/no" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Application) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def proxy(name: str, lines: str, upstream: int, folder: Path) -> Iterator[Callable[[str], ssl.SSLSocket]]:
    """What opens a connection to the proxy with these lines, by the name of the protocol."""
    authority, port = CertificateAuthority(), free_port()
    server = authority.server()
    (folder / "server.pem").write_text(server.pem + server.key_pem)
    places = {"port": port, "upstream": upstream, "lines": lines, "folder": folder}
    match name:
        case "haproxy":
            (folder / "haproxy.cfg").write_text(HAPROXY.format(**places))
            command = [programs.program("haproxy"), "-db", "-q", "-f", "haproxy.cfg"]
        case "nginx":
            (folder / "mtls.conf").write_text(NGINX.format(**places))
            (folder / "nginx.conf").write_text(programs.NGINX.format(njs=""))
            command = [programs.program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        case _:
            modules = "\n".join(
                f"LoadModule {each}_module /usr/lib/apache2/modules/mod_{each}.so" for each in programs.MODULES
            )
            (folder / "mtls.conf").write_text(APACHE.format(**places))
            whole = programs.APACHE.format(folder=folder, modules=modules, user="www-data")
            (folder / "apache.conf").write_text(whole)
            command = [programs.program("apache2"), "-f", str(folder / "apache.conf"), "-D", "FOREGROUND"]
    with programs.started(command, port, folder):
        yield lambda protocol: connected(port, authority.client_context(), protocol)


def ask_http1(connection: ssl.SSLSocket, path: str = "/") -> tuple[int, bool]:
    """The status, and whether the response says that the connection closes."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status, response.getheader("Connection", "").lower() == "close"


class OverHTTP2:
    """One HTTP/2 connection. `ended`: GOAWAY came."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        assert connection.selected_alpn_protocol() == "h2"
        self._connection, self.ended = connection, False
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._state.initiate_connection()

    def ask(self) -> str | None:
        """The status, or `None` without a response."""
        fields = {":method": "GET", ":path": "/", ":scheme": "https", ":authority": "localhost"}
        stream = self._state.get_next_available_stream_id()
        self._state.send_headers(stream, list(fields.items()), end_stream=True)
        self._connection.sendall(self._state.data_to_send())
        status: str | None = None
        while data := self._connection.recv(65_536):
            # A response may follow GOAWAY, which the library does not read: its frames are read one by one.
            self.ended = self.ended or any(kind == 0x07 for kind in kinds(data))
            if self.ended:
                return status
            for event in self._state.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    status = str(dict(event.headers)[b":status"], "ascii")
                if isinstance(event, h2.events.StreamEnded):
                    return status
        self.ended = True
        return status


def kinds(data: bytes) -> Iterator[int]:
    """The kinds of the frames in `data` (RFC 9113 4.1)."""
    while len(data) >= 9:
        yield data[3]
        data = data[9 + int.from_bytes(data[:3]) :]


def short(lines: str) -> str:
    return lines.replace("600", str(AGE)).replace("10m", f"{AGE}s")


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_connection_ends_at_its_age(name: str, upstream: int, tmp_path: Path) -> None:
    lines = short(block("haproxy") if name == "haproxy" else keepalive_time())
    assert str(AGE) in lines
    with proxy(name, lines, upstream, tmp_path) as connect:
        with connect("http/1.1") as connection:
            for _ in range(3):
                assert ask_http1(connection) == (200, False)
            time.sleep(AGE + 1.1)  # HAProxy compares whole seconds
            assert ask_http1(connection) == (200, True)
            assert connection.recv(1) == b""
        with connect("h2") as connection:
            client = OverHTTP2(connection)
            for _ in range(3):
                assert client.ask() == "200"
            time.sleep(AGE + 1.1)
            client.ask()
            assert client.ended


def test_apache_closes_a_connection_after_a_rejection(upstream: int, tmp_path: Path) -> None:
    with proxy("apache", block("apache"), upstream, tmp_path) as connect, connect("http/1.1") as connection:
        for _ in range(3):
            assert ask_http1(connection) == (200, False)
        assert ask_http1(connection, "/no") == (403, True)
        assert connection.recv(1) == b""
