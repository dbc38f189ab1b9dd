"""The tour's servers, each a process of its own: how it is started, and that it is there."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[1]


def gunicorn(app: str) -> Callable[[Path, str], list[str]]:
    """gunicorn's threaded worker: the one that hands over its socket, and with it the certificate."""
    return lambda directory, port: [
        *(sys.executable, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
        *("--threads", "4", "--log-level", "warning", "--no-control-socket"),
        *("--certfile", f"{directory}/server.pem", "--keyfile", f"{directory}/server-key.pem"),
        *("--ca-certs", f"{directory}/let-in.pem", "--cert-reqs", "1"),
    ]


def uvicorn(app: str) -> Callable[[Path, str], list[str]]:
    """uvicorn with our protocol classes, which hand over the certificate in the ASGI TLS extension."""
    return lambda directory, port: [
        *(sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", port, "--log-level", "warning"),
        *("--http", "mtls_middleware.servers.uvicorn_tls:HTTPTools"),
        *("--ws", "mtls_middleware.servers.uvicorn_tls:WebSockets", "--no-proxy-headers"),
        *("--ssl-certfile", f"{directory}/server.pem", "--ssl-keyfile", f"{directory}/server-key.pem"),
        *("--ssl-ca-certs", f"{directory}/let-in.pem", "--ssl-cert-reqs", "1"),
    ]


@contextlib.contextmanager
def running(command: list[str], url: str, environment: dict[str, str]) -> Iterator[None]:
    """One server, from when it accepts connections until the end of the block."""
    port = int(url.rpartition(":")[2])
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=SAMPLES, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while server.poll() is None and time.monotonic() < until:
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
            except subprocess.TimeoutExpired:  # gunicorn gives open connections half a minute
                server.kill()
                server.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
