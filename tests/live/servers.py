"""Real servers in processes of their own, on loopback, with the TLS files of a throwaway CA."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mtls_middleware.testing import CertificateAuthority

ROOT = Path(__file__).resolve().parents[2]
APPLICATIONS = "tests.live.applications"


# Below the ports of outgoing connections (from 32,768 on): one of those could take a port before the server that it was
# found for. Each process of a test run has a thousand of its own, in turn, for the same reason. Not from 10,000 on:
# clients refuse port 10,080 (Fetch Standard, "port blocking").
_OWN = 11_000 + 1_000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10)
_PORTS = itertools.cycle(range(_OWN, _OWN + 1_000))


def free_port() -> int:
    for port in itertools.islice(_PORTS, 1_000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"none of the ports from {_OWN} on is free")


def tls_files(authority: CertificateAuthority, directory: Path) -> Path:
    """`server.pem`, `server-key.pem` and `ca.pem` in `directory`."""
    (directory / "ca.pem").write_text(authority.pem)
    authority.server().write(directory, name="server")
    return directory


def listens(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server accepts connections. False if it ends before that, or does not within a minute."""
    until = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def running(
    command: list[str], port: int, *, program: Sequence[str] = (sys.executable,), **environment: str
) -> Iterator[Callable[[], str]]:
    """`program command...`, from when it accepts connections until the end of the block. Gives what tells its log."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*program, *command], cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log
        )
        try:
            if not listens(server, port):
                log.seek(0)
                raise AssertionError(f"{command} did not start:\n{log.read().decode(errors='replace')}")
            yield lambda: os.pread(log.fileno(), 1_000_000, 0).decode(errors="replace")  # the server's place stays
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
