"""Real servers in processes of their own, on loopback, with the TLS files of a throwaway CA."""

import contextlib
import fcntl
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


# Below the ports of outgoing connections (from 32,768 on): an outgoing connection could take a port before the server
# does. Not from 10,000 on: clients refuse port 10,080 (Fetch Standard, "port blocking"). Each process of a test run
# begins at its own thousand, and uses its ports in turn.
_FIRST = 11_000 + 1_000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10)
_PORTS = itertools.cycle([*range(_FIRST, 21_000), *range(11_000, _FIRST)])
_LOCKS: dict[int, int] = {}  # open files by port


def free_port() -> int:
    """Return a free port that no other test process on this machine gets while this process runs."""
    for port in itertools.islice(_PORTS, 10_000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            _reserve(port)
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("none of the ports from 11,000 to 20,999 is free")


def _reserve(port: int) -> None:
    """Lock the file of this port until the process ends. Raises `OSError` if another process has it.

    Other test runs choose ports at the same time, and Envoy and nginx can listen on a port that is in use.
    """
    if port not in _LOCKS:
        folder = Path(tempfile.gettempdir(), f"mtls-middleware-ports-{os.getuid()}")
        folder.mkdir(exist_ok=True)
        file = os.open(folder / str(port), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise
        _LOCKS[port] = file


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
