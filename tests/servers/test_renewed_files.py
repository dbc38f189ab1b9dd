"""docs/rotation.md is true about servers: which of them use renewed files, and whether they need a signal for it."""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.key_server import until
from tests.live.servers import ROOT, free_port, listens, tls_files
from tests.servers.kinds import KINDS

pytestmark = pytest.mark.live
PAGE = (ROOT / "docs" / "rotation.md").read_text("utf-8")
OLD, NEW = CertificateAuthority("CN=old"), CertificateAuthority("CN=new")
# The name of a server on the page, and those among KINDS, which other tests start.
SERVERS = {
    "gunicorn, `sync` and `gthread`": ["gunicorn-sync", "gunicorn-gthread"],
    "gunicorn, `gevent` and asgi worker": ["gunicorn-gevent", "gunicorn-asgi"],
    "mod_wsgi": ["mod_wsgi"],
    "uvicorn, hypercorn, daphne, cheroot, uWSGI": ["uvicorn-h11", "hypercorn", "daphne", "cheroot", "uwsgi"],
}
SIGNALS = {"`kill -HUP`": signal.SIGHUP, "`kill -USR1`": signal.SIGUSR1}
ROWS = [
    (server, SIGNALS.get(needs.partition(" of ")[0], needs))
    for name, needs in re.findall(r"^\| (.*?) \| (the next connection|`kill .*?|a restart) \|$", PAGE, re.MULTILINE)
    for server in SERVERS[name]
]


@contextlib.contextmanager
def started(name: str, port: int, files: Path) -> Iterator[int]:
    """The server, in a process group of its own. Gives the id of its main process."""
    kind = KINDS[name]
    log = (files / "log").open("wb")
    command = [*kind.program, *kind.command(port, files)]
    with log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            assert listens(process, port), (files / "log").read_text(errors="replace")
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def presented(port: int, client: IssuedCertificate) -> bytes | None:
    """The certificate of the server, on a new connection. `None` if it rejects that of the client."""
    context = OLD.client_context(client)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the verdict of the server arrives before the handshake ends
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        tls = stack.enter_context(context.wrap_socket(connection, server_hostname="localhost"))
        return tls.getpeercert(binary_form=True)
    return None


def test_the_page_names_every_server() -> None:
    assert [server for server, _ in ROWS] == [server for servers in SERVERS.values() for server in servers]


@pytest.mark.parametrize(("name", "needs"), ROWS, ids=[name for name, _ in ROWS])
def test_a_server_uses_renewed_files_when_the_page_says(name: str, needs: str | signal.Signals, tmp_path: Path) -> None:
    files, port = tls_files(OLD, tmp_path), free_port()
    old_client, new_client, renewed = OLD.issue(), NEW.issue(), NEW.server()
    with started(name, port, files) as process:
        assert presented(port, old_client) is not None
        assert presented(port, new_client) is None
        renewed.write(files, name="server")
        (files / "ca.pem").write_text(OLD.pem + NEW.pem)
        if needs == "the next connection":
            assert presented(port, new_client) == renewed.der
            return
        for client in (old_client, new_client):
            assert presented(port, client) != renewed.der
        if isinstance(needs, signal.Signals):
            os.kill(process, needs)
            until(lambda: presented(port, new_client) == renewed.der, seconds=30)
