"""A smart card in software, with a key that it does not give away, logs in to samples/django_site through nginx."""

import contextlib
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtls_middleware import ClientCertificate
from mtls_middleware.testing import CertificateAuthority
from tests.live.servers import ROOT
from tests.proxies import django_sample, matrix
from tests.proxies.django_sample import NAME
from tests.proxies.software_token import FASC_N, Response, SoftwareToken, key_uri

pytestmark = pytest.mark.live
PARTNER = CertificateAuthority("CN=Partner CA")
VERSIONS = {"tls1_2": ("--tls-max", "1.2"), "tls1_3": ("--tlsv1.3",)}
PROFILE = f'{{"user":"{NAME}","groups":[]}}'


@dataclass(frozen=True)
class Site:
    """The sample behind nginx, which accepts the certificates of two CAs: only one of them has the staff."""

    port: int
    server_ca: Path
    database: Path

    def get(self, path: str, token: SoftwareToken, certificate: Path | None, *options: str, **key: str) -> Response:
        return token.get(f"https://localhost:{self.port}{path}", self.server_ca, certificate, *options, **key)

    def accounts(self) -> dict[str, int]:
        """The name and the primary key of each account."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return dict(connection.execute("SELECT username, id FROM auth_user"))


@pytest.fixture(scope="module")
def site(server_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "server-ca.pem").write_text(matrix.servers().pem)
    environment = django_sample.variables(folder, PARTNER.pem)
    with django_sample.running("gunicorn", environment, server_files, folder) as port:
        yield Site(port, folder / "server-ca.pem", Path(environment["DATABASE"]))


@pytest.fixture(scope="module")
def new_token(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], SoftwareToken]:
    return lambda: SoftwareToken(tmp_path_factory.mktemp("token"))


@pytest.fixture(scope="module")
def card(new_token: Callable[[], SoftwareToken]) -> tuple[SoftwareToken, Path]:
    """The token of alice, and its certificate."""
    token = new_token()
    token.generate()
    return token, token.certify(matrix.clients(), NAME)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["EC:prime256v1", "EC:secp384r1", "rsa:2048"])
def test_the_card_logs_its_user_in(site: Site, new_token: Callable[[], SoftwareToken], kind: str, version: str) -> None:
    token = new_token()
    token.generate(kind=kind)
    certificate = token.certify(matrix.clients(), NAME)
    assert site.get("/api/profile", token, certificate, *VERSIONS[version]) == Response(200, PROFILE, "")
    page = site.get("/admin/", token, certificate, *VERSIONS[version])
    assert (page.status, "Site administration" in page.body) == (200, True)


def test_the_certificate_has_the_names_of_a_piv_card(card: tuple[SoftwareToken, Path]) -> None:
    found = ClientCertificate.from_pem(card[1].read_bytes())
    assert found.user_principal_names == (NAME,)
    assert ("2.16.840.1.101.3.6.6", bytes.fromhex(f"0419{FASC_N}")) in found.other_names
    assert {"1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.311.20.2.2"} < set(found.extended_key_usages)


def test_the_private_key_cannot_be_exported_from_the_card(
    site: Site, card: tuple[SoftwareToken, Path], new_token: Callable[[], SoftwareToken]
) -> None:
    token, certificate = card
    (access,) = (line for line in token.tool("--list-objects", "--type", "privkey").splitlines() if "Access" in line)
    assert access.split(":")[1].strip() == "sensitive, always sensitive, never extractable, local"
    # OpenSSL writes a file, whose private value is 0, because the token does not give it the value.
    token.run("openssl", "pkey", "-engine", "pkcs11", "-inform", "engine", "-in", key_uri("01"), "-out", "key.pem")
    exported = ("--cert", str(certificate), "--key", str(token.folder / "key.pem"))
    assert site.get("/", token, certificate).status == 200
    assert site.get("/", new_token(), None, *exported).status == 0


def test_another_trusted_ca_cannot_issue_a_card_of_the_same_name(
    site: Site, new_token: Callable[[], SoftwareToken]
) -> None:
    token = new_token()
    token.generate()
    certificate = token.certify(PARTNER, NAME)
    assert site.get("/", token, certificate) == Response(200, '{"welcome": "guest"}', "")
    for path in ("/admin/", "/api/profile"):
        assert site.get(path, token, certificate).status == 403


@pytest.mark.parametrize("version", VERSIONS)
def test_the_copied_certificate_is_useless_with_the_key_of_another_card(
    site: Site, card: tuple[SoftwareToken, Path], new_token: Callable[[], SoftwareToken], version: str
) -> None:
    """The client of the attacker believes its token, so it signs with the wrong key, and nginx has to notice it."""
    token = new_token()
    token.generate()
    token.claim(card[1])
    assert site.get("/", token, card[1], *VERSIONS[version]).status == 0
    assert "alert decrypt error" in token.failed_handshake(site.port, card[1], f"-{version}")


def test_the_session_of_the_card_is_useless_without_the_card(
    site: Site, card: tuple[SoftwareToken, Path], new_token: Callable[[], SoftwareToken]
) -> None:
    token, certificate = card
    assert site.get("/", token, certificate).body == f'{{"welcome": "{NAME}"}}'
    thief = new_token()
    (thief.folder / "cookies").write_bytes((token.folder / "cookies").read_bytes())
    assert "sessionid" in (thief.folder / "cookies").read_text()
    assert site.get("/admin/", thief, None).status == 403
    assert site.get("/", thief, None).body == '{"welcome": "guest"}'


def test_a_renewed_certificate_is_the_same_user(site: Site, new_token: Callable[[], SoftwareToken]) -> None:
    token, name = new_token(), "bob@corp.example"
    token.generate()
    token.generate("02")
    certificates = [(token.certify(matrix.clients(), name, key_id), key_id) for key_id in ("01", "01", "02")]
    accounts = []
    for certificate, key_id in certificates:
        assert site.get("/", token, certificate, key_id=key_id).body == f'{{"welcome": "{name}"}}'
        accounts.append(site.accounts()[name])
    assert len(set(accounts)) == 1
    assert len({each.read_text() for each, _ in certificates}) == 3


def sh(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["sh", "-eu"], input=script, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_leads_from_a_new_token_to_the_admin(server_files: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "users.md").read_text("utf-8")
    scripts = dict(re.findall(r"```sh\n# (\w+\.sh)\n(.*?)```", page, re.DOTALL))
    (tmp_path / "server-ca.pem").write_text(matrix.servers().pem)
    output = sh(scripts["token.sh"], tmp_path)
    assert "never extractable" in output
    folder = tmp_path / "site"
    folder.mkdir()
    staff = (tmp_path / "staff-ca.pem").read_text()
    environment = django_sample.variables(folder, matrix.clients().pem, staff=staff)
    variables = [line for line in scripts["token.sh"].splitlines() if line.startswith(("export ", "KEY="))]
    with django_sample.running("gunicorn", environment, server_files, folder) as port:
        login = scripts["login.sh"].replace("8443", str(port))
        assert "Site administration" in sh("\n".join([*variables, login]), tmp_path)
