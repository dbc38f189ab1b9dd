"""A websocket handshake without a body passes each proxy; no other upgrade does."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtls_middleware.cli.proxies import PROXIES
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.client import connected
from tests.proxies.conftest import context, options_for, server_command, until_it_answers
from tests.proxies.matrix import Setup

# Go hides Transfer-Encoding from conditions. Caddy forwards such a handshake without its body; Traefik answers 413.
BODY_DROPPED = {"caddy"}
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}
# Name -> the method, the fields in the place of or beside those above, the body.
OTHERS: dict[str, tuple[str, dict[str, str | list[str] | None], bytes]] = {
    "with a body": ("GET", {"Content-Length": "5"}, b"hello"),
    "with a chunked body": ("GET", {"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\n0\r\n\r\n"),
    "with a chunked body in capitals": ("GET", {"Transfer-Encoding": "Chunked"}, b"5\r\nhello\r\n0\r\n\r\n"),
    "POST": ("POST", {}, b""),
    "POST with a body": ("POST", {"Content-Length": "5"}, b"hello"),
    "h2c": ("GET", {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk"}, b""),
    "h2c without settings": ("GET", {"Upgrade": "h2c"}, b""),
    "H2C": ("GET", {"Upgrade": "H2C"}, b""),
    "another protocol": ("GET", {"Upgrade": "TLS/1.0"}, b""),
    "two protocols": ("GET", {"Upgrade": "websocket, h2c"}, b""),
    "two protocols, the other first": ("GET", {"Upgrade": "h2c, websocket"}, b""),
    "two lines": ("GET", {"Upgrade": ["websocket", "h2c"]}, b""),
    "two lines, the other first": ("GET", {"Upgrade": ["h2c", "websocket"]}, b""),
    "no upgrade": ("GET", {"Upgrade": None, "Connection": None}, b""),
}  # fmt: skip
pytestmark = [pytest.mark.live, pytest.mark.parametrize("behind", PROXIES, indirect=True)]


@dataclass(frozen=True)
class Behind:
    proxy: str
    port: int


@pytest.fixture(scope="module")
def behind(
    request: pytest.FixtureRequest, server_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """The proxy in front of uvicorn, which accepts websockets."""
    setup = Setup(request.param, "idiomatic", "optional", "H11")
    upstream, port, folder = free_port(), free_port(), tmp_path_factory.mktemp(request.param)
    made = options_for(setup, port, upstream, server_files)
    command = [*server_command("H11", upstream, "tests.proxies.websocket_application"), "--ws", "websockets-sansio"]
    with (
        programs.started(command, upstream, ROOT, SOURCE=made.source(), **programs.environment(made)),
        programs.proxy(made, folder),
    ):
        until_it_answers(port, "/")
        yield Behind(request.param, port)


def sent(port: int, kind: str, method: str, fields: dict[str, str | list[str] | None], body: bytes) -> bytes:
    """What comes back, to its end or the first websocket message."""
    lines = [f"{method} / HTTP/1.1", "Host: localhost"]
    for name, value in fields.items():
        lines += [f"{name}: {each}" for each in ([value] if isinstance(value, str) else value or [])]
    answer = b""
    with connected(port, context(kind), "http/1.1") as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        connection.settimeout(5)
        try:
            while b"}" not in answer and (more := connection.recv(65_536)):
                answer += more
        except (TimeoutError, OSError):
            pass
    return answer


@pytest.mark.parametrize("spelling", ["websocket", "WebSocket"])
def test_a_websocket_handshake_passes_each_proxy(behind: Behind, spelling):
    answer = sent(behind.port, "RSA", "GET", {**HANDSHAKE, "Upgrade": spelling}, b"")
    assert answer.startswith(b"HTTP/1.1 101 ")
    report = json.loads(answer[answer.rindex(b"{") :])
    assert report["type"] == "websocket"
    assert report["thumbprint"] == matrix.certificate("RSA").thumbprint
    assert [each.lower() for each in report["upgrade"]] == ["websocket"]


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_upgrade_passes(behind: Behind, name):
    method, fields, body = OTHERS[name]
    answer = sent(behind.port, "RSA", method, {**HANDSHAKE, **fields}, body)
    upgrade = []
    if b"{" in answer:  # the application answers
        report = json.loads(answer[answer.rindex(b"{") :])
        upgrade = report["upgrade"]
        # Of two protocols, nginx 1.22 and Go read the first line alone, and HAProxy 3.2 forwards websocket alone.
        dropped = behind.proxy in BODY_DROPPED and "chunked" in name
        assert upgrade == [] or (upgrade == ["websocket"] and (dropped or name.startswith("two ")))
        assert report["thumbprint"] == matrix.certificate("RSA").thumbprint
    assert answer.startswith(b"HTTP/1.1 101 ") == bool(upgrade)
