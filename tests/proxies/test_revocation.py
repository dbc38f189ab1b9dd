"""Each proxy with `--crl` and `--ocsp`, the latter with `openssl ocsp` as responder: a revoked client is rejected."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from mtls_middleware.cli.proxies import PROXIES, Mode
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.testing.issued_certificate import IssuedCertificate
from tests.live.servers import free_port
from tests.openssl_responder import responding, row
from tests.proxies import matrix, programs
from tests.proxies.client import over_http1
from tests.proxies.conftest import options_for
from tests.proxies.matrix import Setup
from tests.validation.authority import crl

pytestmark = [pytest.mark.live]
LISTS = [name for name, proxy in PROXIES.items() if proxy.crl]
RESPONDERS = [name for name, proxy in PROXIES.items() if proxy.ocsp]
EXPECTED = {"good": "reached", "in the list": "rejected", "at the responder": "rejected", "unknown": "rejected"}


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority("CN=Test CA with revocations")


@pytest.fixture(scope="module")
def clients(authority: CertificateAuthority) -> dict[str, IssuedCertificate]:
    # Each certificate names another responder, which nobody must ask.
    other = x509.AccessDescription(
        AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://127.0.0.1:9")
    )
    access = x509.AuthorityInformationAccess([other])
    return {name: authority.issue(f"CN={name}", extensions=[(access, False)]) for name in (*EXPECTED, "later")}


@pytest.fixture(scope="module")
def folder(
    authority: CertificateAuthority, clients: dict[str, IssuedCertificate], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The CA, its list, an expired list, and the index of its responder, which does not know the list."""
    folder = tmp_path_factory.mktemp("revocation")
    (folder / "ca.pem").write_text(authority.pem)
    for name, ends in (("crl.pem", 3600), ("expired.pem", -60)):
        der = crl(authority, [clients["in the list"]], now=time.time(), ends=ends)
        (folder / name).write_bytes(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM))
    rows = [row("V", "", clients[name], name) for name in ("good", "in the list", "later")]
    (folder / "index.txt").write_text("".join(rows) + row("R", "250101000000Z", clients["at the responder"]))
    return folder


class Running:
    """A proxy that runs; `outcome` is what a client gets from it."""

    def __init__(self, setup: Setup, port: int) -> None:
        self._path, self._port = f"/{setup.key}/", port

    def outcome(self, client: IssuedCertificate | None) -> str:
        answer = over_http1(self._port, matrix.servers().client_context(client), self._path, [])
        if answer.status != 200:
            assert answer.status in (0, 400)
            return "rejected"
        assert (answer.report["certificate"] or {}).get("thumbprint") == (client and client.thumbprint)
        return "reached"


@pytest.fixture
def start(
    upstream: Callable[[Setup], int | Path], server_files: Path, folder: Path, tmp_path: Path
) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def start(proxy: str, mode: Mode, **options: str) -> Running:
            setup, port = Setup(proxy, "idiomatic", mode, "gunicorn"), free_port()
            made = replace(
                options_for(setup, port, upstream(setup), server_files), ca=str(folder / "ca.pem"), **options
            )
            stack.enter_context(programs.proxy(made, tmp_path))
            return Running(setup, port)

        yield start


@pytest.mark.parametrize("proxy", LISTS)
def test_a_proxy_with_a_list_rejects_the_clients_in_the_list(proxy, start, clients, folder):
    running = start(proxy, "required", crl=str(folder / "crl.pem"))
    names = ("good", "at the responder", "in the list")
    assert [running.outcome(clients[name]) for name in names] == ["reached", "reached", "rejected"]
    assert running.outcome(None) == "rejected"


@pytest.mark.parametrize("proxy", LISTS)
def test_a_proxy_with_an_expired_list_rejects_every_client(proxy, start, clients, folder):
    assert start(proxy, "required", crl=str(folder / "expired.pem")).outcome(clients["good"]) == "rejected"


@pytest.mark.parametrize("proxy", RESPONDERS)
def test_a_proxy_with_a_list_and_a_responder_asks_both(proxy, start, authority, clients, folder):
    with responding(folder, authority) as url:
        running = start(proxy, "optional", crl=str(folder / "crl.pem"), ocsp=url.replace("127.0.0.1", "localhost"))
        assert {name: running.outcome(clients[name]) for name in EXPECTED} == EXPECTED
        assert running.outcome(None) == "reached"
    assert running.outcome(clients["later"]) == "rejected"  # the responder does not answer any more
