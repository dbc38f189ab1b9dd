"""Chromium without a window, with or without a client certificate."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

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


def home_of_browser(folder: Path, servers: CertificateAuthority, card: IssuedCertificate | None) -> Path:
    """A home folder whose NSS database trusts the CA of the servers, and has the certificate of the card."""
    database = folder / ".pki" / "nssdb"
    database.mkdir(parents=True)
    (folder / "ca.pem").write_text(servers.pem)
    at = ("-d", f"sql:{database}")
    _run("certutil", *at, "-N", "--empty-password")
    _run("certutil", *at, "-A", "-n", "server CA", "-t", "C,,", "-i", str(folder / "ca.pem"))
    if card is not None:
        bundle = pkcs12.serialize_key_and_certificates(b"card", card.key, card.x509, None, NoEncryption())
        (folder / "card.p12").write_bytes(bundle)
        _run("pk12util", *at, "-i", str(folder / "card.p12"), "-W", "")
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def browse(home: Path, address: str, *options: str, size: str = "1200,360") -> str:
    """The page as Chromium shows it, in a window of this width and height."""
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
        [*command, f"--window-size={size}", *options, address],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
