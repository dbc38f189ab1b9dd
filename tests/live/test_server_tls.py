"""`ServerTLS` over the real WSGI servers that hand over the certificate (uvicorn: tests/servers)."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from mtls_middleware.testing import CertificateAuthority
from tests.live.servers import APPLICATIONS, free_port, running, tls_files

pytestmark = pytest.mark.live

AUTHORITY = CertificateAuthority()
# gunicorn and werkzeug hand over their socket, where Python's `ssl` has the chain as presented; cheroot the leaf alone.
SERVERS = {
    "gunicorn-sync": ("BY_SERVER", 2),
    "gunicorn-gthread": ("BY_SERVER", 2),
    "gunicorn-gevent": ("BY_SERVER", 2),
    "cheroot": ("BY_SERVER", 0),
    "werkzeug": ("BY_SERVER", 2),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    files = tls_files(AUTHORITY, tmp_path_factory.mktemp("tls"))
    port = free_port()
    with running(command(request.param, port, files), port):
        yield request.param, f"https://127.0.0.1:{port}/"


def command(name: str, port: int, files: Path) -> list[str]:
    if not name.startswith("gunicorn-"):
        return ["-m", APPLICATIONS, name, str(port), str(files)]
    return [
        *("-m", "gunicorn", f"{APPLICATIONS}:own_tls", "--bind", f"127.0.0.1:{port}", "--no-control-socket"),
        *("--worker-class", name.removeprefix("gunicorn-"), "--threads", "2", "--ca-certs", f"{files}/ca.pem"),
        *("--certfile", f"{files}/server.pem", "--keyfile", f"{files}/server-key.pem", "--cert-reqs", "1"),
    ]


def test_the_presented_certificate_is_attached_with_the_servers_word(server):
    name, url = server
    verification, chain = SERVERS[name]
    client = AUTHORITY.intermediate("CN=One").intermediate("CN=Two").issue("CN=billing,O=Acme")
    with httpx2.Client(verify=AUTHORITY.client_context(client), trust_env=False) as session:
        for _ in range(2):  # keep-alive: the second request is judged anew, on the same connection where there is one
            told = session.get(url).json()["certificate"]
            assert told == {"thumbprint": client.thumbprint, "verification": verification, "chain": chain}


@pytest.mark.case("058")
@pytest.mark.standard("A1", "K8")
def test_no_certificate_is_none_whatever_headers_say(server):
    _, url = server
    forged = AUTHORITY.issue()
    headers = {**forged.as_nginx(), "SSL-Client-Cert": forged.pem.replace("\n", " ").strip(), **forged.as_client_cert()}
    with httpx2.Client(verify=AUTHORITY.client_context(), trust_env=False) as session:
        assert session.get(url, headers=headers).json() == {"certificate": None, "seen": []}


def test_a_certificate_of_another_ca_does_not_get_in(server):
    _, url = server
    stranger = CertificateAuthority("CN=Elsewhere").issue()
    with (
        httpx2.Client(verify=AUTHORITY.client_context(stranger), trust_env=False) as session,
        pytest.raises(httpx2.TransportError),
    ):
        session.get(url)
