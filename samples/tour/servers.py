"""Starts the servers of the tour as processes, and waits until they accept connections."""

import contextlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[1]


def gunicorn(app: str) -> Callable[[Path, str], list[str]]:
    """The command for gunicorn. Its gthread worker gives the application the socket, and with it the certificate."""
    return lambda directory, port: [
        *(sys.executable, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
        *("--threads", "4", "--log-level", "warning", "--no-control-socket"),
        *("--certfile", f"{directory}/server.pem", "--keyfile", f"{directory}/server-key.pem"),
        *("--ca-certs", f"{directory}/accepted-clients.pem", "--cert-reqs", "1"),
    ]


def uvicorn(app: str) -> Callable[[Path, str], list[str]]:
    """The command for uvicorn, with the protocol classes that pass the certificate in the ASGI TLS extension."""
    return lambda directory, port: [
        *(sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", port, "--log-level", "warning"),
        *("--http", "mtls_middleware.servers.uvicorn_tls:HTTPTools"),
        *("--ws", "mtls_middleware.servers.uvicorn_tls:WebSockets", "--no-proxy-headers"),
        *("--ssl-certfile", f"{directory}/server.pem", "--ssl-keyfile", f"{directory}/server-key.pem"),
        *("--ssl-ca-certs", f"{directory}/accepted-clients.pem", "--ssl-cert-reqs", "1"),
    ]


@contextlib.contextmanager
def run_server(command: list[str], url: str, environment: dict[str, str], directory: Path = SAMPLES) -> Iterator[None]:
    """Run a server until the end of the block. The block starts when the server accepts connections."""
    port = int(url.rpartition(":")[2])
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while server.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            else:
                log.seek(0)
                raise SystemExit(f"{' '.join(command)}\ndid not start:\n{log.read().decode(errors='replace')}")
            yield
        finally:
            server.terminate()
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:  # gunicorn waits 30 seconds for open connections
                server.kill()
                server.wait()


def free_ports(count: int) -> list[int]:
    """Free ports below 32768: an outgoing connection could take a higher port before the server does."""
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise SystemExit("no free ports from 20000 to 32000")
