"""Servers that shut down: an exchange in flight, and a TLS client that is idle (docs/servers.md)."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.faults.applications import environment
from tests.introspection_server import IntrospectionServer
from tests.key_server import until
from tests.live.servers import ROOT, free_port, listens, tls_files
from tests.servers.clients import CA
from tests.servers.kinds import ASGI_WORKER, hypercorn, uvicorn

pytestmark = pytest.mark.live

APPLICATION = "tests.faults.applications:asgi_application"
# Server -> its command up to the port, with a time for the shutdown that is shorter than the exchange.
IN_FLIGHT: dict[str, list[str]] = {
    "uvicorn": ["uvicorn", APPLICATION, "--no-proxy-headers", "--timeout-graceful-shutdown", "1", "--port"],
    "hypercorn": ["hypercorn", APPLICATION, "--graceful-timeout", "1", "--bind"],
    "hypercorn-uvloop": ["hypercorn", APPLICATION, "--graceful-timeout", "1", "--worker-class", "uvloop", "--bind"],
    "daphne": ["daphne", APPLICATION, "--port"],
}


@contextlib.contextmanager
def started(command: list[str], port: int, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that accepts connections. The test ends it."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env={**os.environ, **variables}, stdout=file, stderr=file
        )
    try:
        assert listens(process, port), log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", IN_FLIGHT)
def test_an_exchange_in_flight_gets_503_when_the_server_shuts_down(
    name: str, mtls_client: IssuedCertificate, tmp_path: Path
) -> None:
    port, statuses = free_port(), []
    address = f"127.0.0.1:{port}" if IN_FLIGHT[name][-1] == "--bind" else str(port)

    def get() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=50)) as connection:
            connection.request("GET", "/", headers={**mtls_client.as_nginx(), "Authorization": "Bearer x"})
            statuses.append(connection.getresponse().status)

    client = threading.Thread(target=get)
    # From Python 3.12 on, hypercorn waits for open connections without a limit, so the exchange itself must end.
    timeout = 5 if name == "hypercorn" and sys.version_info >= (3, 12) else 50
    with IntrospectionServer() as server:
        server.stall = 60
        variables = environment(server.url, TokenIssuer(), timeout=timeout)
        with started(["-m", *IN_FLIGHT[name], address], port, tmp_path / "log", **variables) as process:
            client.start()
            until(lambda: len(server.questions) == 1, 30)
            process.terminate()
            client.join(30)
            process.wait(timeout=20)
    assert statuses == [503]
    assert "Exception in ASGI" not in (tmp_path / "log").read_text()


# --- An idle client


def _uvicorn(port: int, files: Path) -> list[str]:
    return [*uvicorn("H11", "WebSockets", port, files), "--timeout-graceful-shutdown", "1"]


def _hypercorn(port: int, files: Path) -> list[str]:
    (files / "hypercorn.toml").write_text("read_timeout = 1\ngraceful_timeout = 1\n")
    command = hypercorn("asyncio", port, files)
    keep_alive = command.index("--keep-alive")
    del command[keep_alive : keep_alive + 2]
    return [*command, "--config", str(files / "hypercorn.toml")]


def _gunicorn(port: int, files: Path) -> list[str]:
    command = [
        "-m",
        "gunicorn",
        "tests.servers.tls_applications:asgi",
        "--worker-class",
        ASGI_WORKER,
        "--no-control-socket",
    ]
    tls = ["--certfile", f"{files}/server.pem", "--keyfile", f"{files}/server-key.pem", "--ca-certs", f"{files}/ca.pem"]
    return [*command, *tls, "--cert-reqs", "1", "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "1"]


IDLE: dict[str, Callable[[int, Path], list[str]]] = {
    "uvicorn --timeout-graceful-shutdown": _uvicorn,
    "hypercorn read_timeout": _hypercorn,
    "gunicorn --graceful-timeout": _gunicorn,
}


@contextlib.contextmanager
def idle_client(port: int, *, has_sent: bool) -> Iterator[None]:
    """A TLS client that reads nothing more, so it does not answer the close_notify of the server (RFC 8446 6.1)."""
    context = CA.client_context(CA.issue("CN=idle"))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        if has_sent:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        yield


@pytest.mark.parametrize("has_sent", [False, True], ids=["after the handshake", "after a response"])
@pytest.mark.parametrize("name", IDLE)
def test_the_documented_option_ends_a_server_with_an_idle_tls_client(name: str, has_sent: bool, tmp_path: Path) -> None:
    """Without it, the server ends after 30 seconds or later (`ssl_shutdown_timeout` of asyncio)."""
    files, port = tls_files(CA, tmp_path), free_port()
    with (
        started(IDLE[name](port, files), port, tmp_path / "log") as process,
        idle_client(port, has_sent=has_sent),
    ):
        time.sleep(0.2)
        process.terminate()
        # From Python 3.12 on, hypercorn waits for open connections: no option ends it sooner.
        process.wait(timeout=90 if "hypercorn" in name and sys.version_info >= (3, 12) else 20)
