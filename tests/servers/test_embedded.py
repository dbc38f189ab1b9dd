"""What only uWSGI and mod_wsgi have: options that let more through, and a socket behind TLS that believes anybody."""

import contextlib
import json
import socket
import stat
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from tests.key_server import until
from tests.live.servers import free_port, running, tls_files
from tests.servers import embedded
from tests.servers.clients import BILLING, CA, ask, expected

pytestmark = pytest.mark.live

REFUSED = r"(?i)alert|EOF|reset|closed"  # by TLS: what a client sees of it depends on when it looks


@contextlib.contextmanager
def apache(files: Path, **instead: str) -> Iterator[int]:
    port = free_port()
    with running(embedded.mod_wsgi("%{GLOBAL}", port, tls_files(CA, files), **instead), port, program=embedded.APACHE):
        yield port


@pytest.mark.standard("K2", "K3")
def test_what_mod_wsgi_lets_through_unverified_is_presented(tmp_path: Path) -> None:
    stranger = CertificateAuthority("CN=Elsewhere").issue("CN=billing,O=Acme")
    with apache(tmp_path, SSLVerifyClient="optional_no_ca") as port:
        for client in (self_signed("CN=billing,O=Acme"), stranger):
            presented = {"thumbprint": client.thumbprint, "verification": "PRESENTED", "chain": 0}
            assert ask(port, client)["certificate"] == presented
        assert ask(port, BILLING)["certificate"] == expected(BILLING)
        assert ask(port, None)["certificate"] is None
        yesterday = datetime.now(UTC) - timedelta(days=1)
        with pytest.raises(OSError, match=REFUSED):
            ask(port, CA.issue(not_before=yesterday - timedelta(days=1), not_after=yesterday))


def test_apache_can_demand_a_certificate(tmp_path: Path) -> None:
    with apache(tmp_path, SSLVerifyClient="require") as port:
        assert ask(port, BILLING)["certificate"] == expected(BILLING)
        with pytest.raises(OSError, match=REFUSED):
            ask(port, None)


def test_uwsgi_can_demand_a_certificate(tmp_path: Path) -> None:
    port = free_port()
    command = [part.replace("HIGH,", "HIGH,!") for part in embedded.uwsgi(port, tls_files(CA, tmp_path))]
    with running(command, port, program=embedded.UWSGI):
        assert ask(port, BILLING)["certificate"] == expected(BILLING, chain=0)
        with pytest.raises(OSError, match=REFUSED):
            ask(port, None)


@pytest.mark.standard("K2")
def test_mod_wsgi_that_verifies_and_does_not_export_is_refused(tmp_path: Path) -> None:
    with apache(tmp_path, SSLOptions="+StdEnvVars") as port:
        with pytest.raises(AssertionError, match="invalid_client_certificate"):
            ask(port, BILLING)
        assert ask(port, None)["certificate"] is None


@pytest.mark.standard("K2")
def test_without_a_depth_apache_refuses_certificates_with_intermediates(tmp_path: Path) -> None:
    leaf = CA.issue("CN=leaf")
    with apache(tmp_path, SSLVerifyDepth="1") as port:  # Apache's default
        assert ask(port, leaf)["certificate"]["thumbprint"] == leaf.thumbprint
        with pytest.raises(OSError, match=REFUSED):
            ask(port, BILLING)


@pytest.fixture
def uwsgi(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    with running(embedded.uwsgi(port, tls_files(CA, tmp_path)), port, program=embedded.UWSGI):
        yield port


def test_uwsgis_workers_believe_their_socket_which_is_its_users_alone(uwsgi: int, tmp_path: Path) -> None:
    path = tmp_path / "uwsgi.sock"
    forged = CertificateAuthority("CN=Elsewhere").issue("CN=billing,O=Acme")
    until(path.exists)  # uWSGI creates it after the port
    assert over_its_socket(path, forged)["certificate"]["verification"] == "BY_SERVER"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_large_certificate_comes_through_uwsgi(uwsgi: int) -> None:
    large = CA.issue("CN=large", dns=[f"host-{number}.large.example" for number in range(200)])
    assert len(large.der) > 4096
    assert ask(uwsgi, large)["certificate"] == expected(large, chain=0)


def over_its_socket(path: Path, certificate: IssuedCertificate) -> Any:
    """What the application says to a request in uWSGI's own protocol, in which `certificate` is claimed."""
    variables = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTPS": "on", "HTTPS_CC": certificate.pem}
    parts = [part.encode() for pair in variables.items() for part in pair]
    body = b"".join(struct.pack("<H", len(part)) + part for part in parts)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(struct.pack("<BHB", 0, len(body), 0) + body)
        with connection.makefile("rb") as answer:
            return json.loads(answer.read().partition(b"\r\n\r\n")[2])
