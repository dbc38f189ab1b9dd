"""A real browser, Debian's Chromium with a client certificate, opens the admin of samples/django_site through nginx.

`MTLS_WRITE_RESULTS=1` keeps the picture of docs/users.md.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from mtls_middleware.testing import IssuedCertificate
from tests.live.servers import ROOT
from tests.proxies import django_sample, matrix
from tests.proxies.django_sample import ALICE

pytestmark = pytest.mark.live
PICTURE = ROOT / "docs" / "admin-by-smart-card.png"
# Chromium reads this folder only; the policy selects the certificate for one port, and is removed after the test.
POLICIES = Path("/etc/chromium/policies/managed")


@contextmanager
def selecting_certificates(address: str) -> Iterator[None]:
    """Chromium selects the only certificate for this address, instead of asking its user."""
    POLICIES.mkdir(parents=True, exist_ok=True)
    policy = POLICIES / f"mtls-{os.getpid()}.json"
    rule = json.dumps({"pattern": address, "filter": {}})
    policy.write_text(json.dumps({"AutoSelectCertificateForUrls": [rule]}))
    try:
        yield
    finally:
        policy.unlink()


def home_of_browser(folder: Path, card: IssuedCertificate | None) -> Path:
    """A home folder whose NSS database trusts the server's CA, and has the certificate of the card."""
    database = folder / ".pki" / "nssdb"
    database.mkdir(parents=True)
    (folder / "ca.pem").write_text(matrix.servers().pem)
    at = ("-d", f"sql:{database}")
    run("certutil", *at, "-N", "--empty-password")
    run("certutil", *at, "-A", "-n", "server CA", "-t", "C,,", "-i", str(folder / "ca.pem"))
    if card is not None:
        bundle = pkcs12.serialize_key_and_certificates(b"card", card.key, card.x509, None, NoEncryption())
        (folder / "card.p12").write_bytes(bundle)
        run("pk12util", *at, "-i", str(folder / "card.p12"), "-W", "")
    return folder


def run(*command: str, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def browse(home: Path, address: str, *options: str) -> str:
    """The page as Chromium shows it."""
    environment = {**os.environ, "HOME": str(home)}
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={home}/profile",
    ]
    done = subprocess.run(
        [*command, "--window-size=1200,360", *options, address],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def admin(server_files: Path, tmp_path: Path) -> Iterator[str]:
    environment = {**django_sample.variables(tmp_path), "DEBUG": "1"}
    with (
        django_sample.running("gunicorn", environment, server_files, tmp_path) as port,
        selecting_certificates(f"https://localhost:{port}"),
    ):
        yield f"https://localhost:{port}/admin/"


def test_a_browser_with_the_card_opens_the_admin(admin: str, tmp_path: Path) -> None:
    card = matrix.clients().issue("CN=Alice Example,OU=sales", **ALICE)
    home = home_of_browser(tmp_path / "with", card)
    page = browse(home, admin, "--dump-dom")
    assert "Site administration" in page
    assert "alice@corp.example" in page
    picture = PICTURE if os.environ.get("MTLS_WRITE_RESULTS") else tmp_path / "admin.png"
    browse(home, admin, f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_browser_without_a_card_gets_403(admin: str, tmp_path: Path) -> None:
    page = browse(home_of_browser(tmp_path / "without", None), admin, "--dump-dom")
    assert "client_certificate_required" in page
    assert "Site administration" not in page
