"""A certificate of a few seconds on real servers: websockets end with it, and kept-alive connections are rejected."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from mtls_middleware.testing import IssuedCertificate
from tests.live.servers import free_port, running, tls_files
from tests.servers.clients import CA
from tests.servers.kinds import KINDS

pytestmark = pytest.mark.live

SERVERS = ["uvicorn-h11", "uvicorn-httptools", "hypercorn", "daphne"]
PATHS = ["/bare", "/deaf", "/starlette", "/quart"]
# Seconds that a certificate lives: enough for a handshake on a busy machine.
SECONDS = 5


class Running:
    def __init__(self, name: str, port: int, ends: Path) -> None:
        self.name, self.port, self.ends = name, port, ends


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    files, port, ends = tls_files(CA, tmp_path_factory.mktemp("tls")), free_port(), tmp_path_factory.mktemp("ends")
    command = [
        part.replace("tests.servers.tls_applications", "tests.servers.lifetimes")
        for part in KINDS[request.param].command(port, files)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFETIMES", str(ends))
        with running(command, port):
            yield Running(request.param, port, ends)


def short_lived() -> IssuedCertificate:
    return CA.issue("CN=billing", not_after=datetime.fromtimestamp(int(time.time()) + SECONDS, UTC))


async def last(server: Running, path: str, client: IssuedCertificate) -> tuple[list[Any], int, float]:
    """What was echoed, the close code, and the seconds from the end of the certificate to the close."""
    ends, echoed = client.x509.not_valid_after_utc.timestamp(), []
    url = f"wss://localhost:{server.port}{path}"
    async with connect(url, ssl=CA.client_context(client), proxy=None) as websocket:
        await websocket.send("hello")
        with contextlib.suppress(ConnectionClosed):
            while True:
                echoed.append(await asyncio.wait_for(websocket.recv(), SECONDS + 10))
        return echoed, websocket.close_code or 0, time.time() - ends


def test_websocket_ends_within_two_seconds_after_its_certificate(server: Running) -> None:
    # daphne gives the scope of a websocket no scheme, which Quart needs.
    paths = [path for path in PATHS if (server.name, path) != ("daphne", "/quart")]

    async def gather_all() -> Any:
        client = short_lived()
        return await asyncio.gather(*(last(server, path, client) for path in paths))

    for path, (echoed, code, late) in zip(paths, asyncio.run(gather_all()), strict=True):
        assert code == 1008, path
        assert 0 < late < 2.5, path
        assert set(echoed) == {"tick"} if path == "/deaf" else echoed == ["hello"]
    time.sleep(0.5)
    found = {each.name: each.read_text() for each in server.ends.iterdir()}
    expected = {"/bare": "websocket.disconnect 1008", "/starlette": "ended", "/quart": "ended"}
    assert found == {path[1:]: text for path, text in expected.items() if path in paths}


def test_kept_alive_connection_is_rejected_and_closed(server: Running) -> None:
    client = short_lived()
    ends, request = client.x509.not_valid_after_utc.timestamp(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        socket.create_connection(("localhost", server.port), timeout=20) as plain,
        CA.client_context(client).wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(request)
        answer = b""
        while not answer.endswith(b"\r\n\r\nok"):
            answer += secured.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        time.sleep(max(0.0, ends + 1.1 - time.time()))
        secured.sendall(request)
        answer = b""
        while data := secured.recv(4096):  # until the server closes the connection
            answer += data
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"client_certificate_refused" in answer
    assert b"connection: close" in answer.lower()
