"""daphne with TLS of ours: its files, its handshakes, and what it says when daphne has moved.

What it hands over, over each protocol: `test_each_server.py`. daphne installs Twisted's reactor when it is imported, so
each test that needs it runs a process of its own.
"""

import http.client
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.servers import daphne_tls
from mtls_middleware.servers.daphne_tls import TLS
from mtls_middleware.testing import self_signed
from tests.live.servers import ROOT, free_port, running, tls_files
from tests.servers.clients import BILLING, CA, ask, expected, options

MODULE = "mtls_middleware.servers.daphne_tls"


def python(program: str) -> str:
    """The last line of what the program's process writes to standard error, or else all of its output."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else done.stdout.strip()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tls_files(CA, tmp_path)


# --- its options ---


@pytest.mark.parametrize("cert_reqs", [3, -1, None, "1"])
def test_other_cert_reqs_are_refused(cert_reqs: int) -> None:
    with pytest.raises(ConfigurationError, match="expected 0, 1 or 2, for example cert_reqs=1"):
        TLS(certfile="c", keyfile="k", cert_reqs=cert_reqs)


@pytest.mark.parametrize(("cert_reqs", "ca_certs"), [(1, None), (2, None), (2, ""), (0, "clients.pem")])
def test_asking_for_certificates_and_naming_their_cas_go_together(cert_reqs: int, ca_certs: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"ca_certs='clients\.pem'"):
        TLS(certfile="c", keyfile="k", ca_certs=ca_certs, cert_reqs=cert_reqs)


@pytest.mark.parametrize("broken", ["certfile", "keyfile", "ca_certs"])
@pytest.mark.parametrize("content", [None, "", "nothing of PEM"])
def test_files_that_cannot_be_used_are_told_before_anything_listens(
    files: Path, broken: str, content: str | None
) -> None:
    names = {"certfile": files / "server.pem", "keyfile": files / "server-key.pem", "ca_certs": files / "ca.pem"}
    names[broken] = files / "broken.pem"
    if content is not None:
        names[broken].write_text(content)
    with pytest.raises(ConfigurationError, match=r"broken\.pem.*cannot be used"):
        TLS(**{name: str(path) for name, path in names.items()}, cert_reqs=1).options()


def test_a_key_of_another_certificate_is_told(files: Path) -> None:
    self_signed("CN=other").write(files, name="other")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        TLS(certfile=str(files / "server.pem"), keyfile=str(files / "other-key.pem")).options()


# --- its handshakes ---


@pytest.fixture
def demanding(files: Path) -> Iterator[int]:
    port = free_port()
    command = ["-m", MODULE, "--bind", "127.0.0.1", "--port", str(port), *options(files), "--cert-reqs", "2"]
    with running([*command, "tests.servers.tls_applications:asgi"], port):
        yield port


@pytest.mark.live
def test_a_certificate_can_be_demanded(demanding: int) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(demanding, None)
    answer = ask(demanding)
    assert answer["certificate"] == expected(BILLING)


@pytest.mark.live
def test_every_endpoint_has_tls_and_nothing_is_served_without(demanding: int) -> None:
    with socket.create_connection(("127.0.0.1", demanding), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not plain.recv(65536).startswith(b"HTTP/")


@pytest.mark.live
def test_old_versions_of_tls_are_not_spoken(demanding: int) -> None:
    context = CA.client_context(BILLING)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", demanding), timeout=10) as plain,
        pytest.raises(OSError, match=r"(?i)alert|version|closed|reset"),
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass


@pytest.mark.live
def test_clients_that_signed_themselves_come_in_by_their_own_certificates(files: Path) -> None:
    port, registered, stranger = free_port(), self_signed("CN=registered"), self_signed("CN=stranger")
    (files / "ca.pem").write_text(CA.pem + registered.pem)
    command = ["-m", MODULE, "--bind", "127.0.0.1", "--port", str(port), *options(files), "--cert-reqs", "1"]
    with running([*command, "tests.servers.tls_applications:asgi"], port):
        assert ask(port, registered)["certificate"] == expected(registered, chain=0)
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(port, stranger)


@pytest.mark.live
def test_it_is_daphnes_server_in_code_too(files: Path) -> None:
    port = free_port()
    program = f"""
from {MODULE} import Server, TLS
from tests.servers.tls_applications import asgi
tls = TLS(certfile="{files}/server.pem", keyfile="{files}/server-key.pem", ca_certs="{files}/ca.pem", cert_reqs=1)
Server(asgi, endpoints=["tcp:{port}:interface=127.0.0.1"], tls=tls).run()
"""
    with running(["-c", program], port):
        assert ask(port)["tls"]["server_cert"] == (files / "server.pem").read_text()
        assert ask(port, None)["certificate"] is None


@pytest.mark.live
def test_a_request_that_came_without_tls_is_answered_500(files: Path) -> None:
    """Not to be had by any option: as if daphne listened with another factory than the one behind TLS."""
    port = free_port()
    program = f"""
from {MODULE} import Server, TLS
from tests.servers.tls_applications import report_unattached
class Moved(Server):
    http_factory = None
tls = TLS(certfile="{files}/server.pem", keyfile="{files}/server-key.pem")
Moved(report_unattached, endpoints=["tcp:{port}:interface=127.0.0.1"], tls=tls).run()
"""
    with running(["-c", program], port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 500
        connection.close()


# --- a moved interface ---

MOVED = {
    "del daphne.server.Server.create_application": "Server has no create_application",
    "daphne.server.Server.create_application = lambda self, scope: None": "the arguments of create_application are not",
    "daphne.server.Server.run = lambda self: None": "Server.run does not use http_factory to listen",
    "del daphne.server.Server": "has no attribute 'Server'",
    "daphne.http_protocol.HTTPFactory.buildProtocol = lambda self, address: None": "does not set requestFactory",
    "twisted.web.http.HTTPChannel.requestDone = lambda self, request: None": "does not read the attribute persistent",
    "twisted.web._http2.H2Stream.__init__ = lambda self: None": "has no _conn",
}


@pytest.mark.parametrize("change", MOVED)
def test_a_moved_interface_is_told_before_daphne_listens(change: str) -> None:
    program = f"import daphne.server, twisted.web._http2\n{change}\nimport {MODULE} as ours\nours.Server"
    report = python(program)
    assert report.startswith(f"mtls_middleware.errors.ConfigurationError: {MODULE}.Server is not compatible with")
    assert MOVED[change] in report
    assert "pip install 'daphne==4.2.*'" in report


def test_a_moved_command_line_is_told_too() -> None:
    change = "daphne.cli.CommandLineInterface.run = lambda self, args: None"
    report = python(f"import daphne.cli\n{change}\nimport {MODULE} as ours\nours.CommandLineInterface")
    assert "CommandLineInterface.run does not use server_class" in report


@pytest.mark.parametrize("missing", ["daphne", "twisted", "OpenSSL"])
def test_a_missing_library_is_told_with_the_line_to_type(missing: str) -> None:
    report = python(f"import sys; sys.modules[{missing!r}] = None\nimport {MODULE} as ours\nours.Server")
    assert report.endswith("pip install 'daphne>=4.2' 'twisted[http2]'")


def test_a_class_is_made_once_and_is_daphnes() -> None:
    program = "assert ours.Server is ours.Server; assert issubclass(ours.Server, daphne.server.Server); print('yes')"
    assert python(f"import daphne.server\nimport {MODULE} as ours\n{program}") == "yes"


def test_other_names_raise_attribute_error_without_importing_twisted() -> None:
    with pytest.raises(AttributeError, match="'Sever'"):
        daphne_tls.Sever  # noqa: B018 (the access alone raises)
    assert python(f"import {MODULE}, sys; print({{'twisted', 'daphne', 'OpenSSL'}} & set(sys.modules))") == "set()"
