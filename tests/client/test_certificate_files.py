"""`CertificateFiles`: renewed files are loaded, and a pair that does not fit is never used."""

import os
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import certificate_files
from mtls_middleware.certificate_files import trust_context
from mtls_middleware.client import CertificateFiles, ssl_context
from mtls_middleware.effects.exchange import default_context
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from mtls_middleware.validation import OCSP
from tests.client.servers import Server

PASSWORD = "password of the key"


@pytest.fixture
def issued(tmp_path: Path) -> IssuedCertificate:
    client = CertificateAuthority().intermediate().issue("CN=billing")
    client.write(tmp_path)
    return client


def files(directory: Path, **options: Any) -> CertificateFiles:
    return CertificateFiles(directory / "client.pem", directory / "client-key.pem", **options)


def test_the_current_pair_has_the_thumbprint_and_the_period(issued: IssuedCertificate, tmp_path: Path) -> None:
    pair = files(tmp_path).current()
    assert pair.thumbprint == issued.thumbprint
    assert pair.not_valid_before == issued.x509.not_valid_before_utc
    assert pair.not_valid_after == issued.x509.not_valid_after_utc
    assert len(pair.certificate.chain) == 1
    assert not pair.certificate.verified


def test_renewed_files_are_loaded_within_a_second(issued: IssuedCertificate, tmp_path: Path) -> None:
    given = files(tmp_path)
    first = given.current(100)
    renewed = CertificateAuthority().issue("CN=billing", key="rsa")
    renewed.write(tmp_path)
    assert given.current(100.9) is first
    assert given.current(101).thumbprint == renewed.thumbprint
    assert given.current().ssl_context()


def test_files_that_are_only_touched_give_the_same_pair(issued: IssuedCertificate, tmp_path: Path) -> None:
    given = files(tmp_path)
    first = given.current(100)
    os.utime(tmp_path / "client.pem")
    assert given.current(200) is first


def test_the_context_of_a_certificate_is_not_the_shared_one(issued: IssuedCertificate, tmp_path: Path) -> None:
    assert trust_context(None) is trust_context(None) is default_context()
    assert files(tmp_path).current().ssl_context() is not default_context()
    assert OCSP("http://ocsp.test")._client._tls is default_context()


def cut(text: str, end: int) -> str:
    return text[:end]


@pytest.mark.parametrize(
    "write",
    [
        lambda old, new: (new.chain_pem, old.key_pem),
        lambda old, new: (old.chain_pem, new.key_pem),
        lambda old, new: (cut(new.chain_pem, 300), new.key_pem),
        lambda old, new: (cut(new.chain_pem, -300), new.key_pem),
        lambda old, new: (new.chain_pem, cut(new.key_pem, 100)),
        lambda old, new: ("", ""),
        lambda old, new: (new.chain_pem, None),
        lambda old, new: (None, new.key_pem),
        lambda old, new: (new.key_pem, new.chain_pem),
        lambda old, new: (new.chain_pem, new.chain_pem),
    ],
)
def test_the_last_good_pair_is_used_until_both_files_are_complete(
    issued: IssuedCertificate,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    write: Callable[[IssuedCertificate, IssuedCertificate], tuple[str | None, str | None]],
) -> None:
    given = files(tmp_path)
    first = given.current(100)
    new = CertificateAuthority().intermediate().issue("CN=billing")
    for name, content in zip(("client.pem", "client-key.pem"), write(issued, new), strict=True):
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(content)
    assert given.current(200) is first
    assert given.current(300) is first
    assert caplog.text.count("the old contents stay in use") == 1
    assert new.key_pem.splitlines()[1] not in caplog.text
    assert isinstance(given.current(301).ssl_context(), ssl.SSLContext)  # from memory, not from the files
    new.write(tmp_path)
    assert given.current(400).thumbprint == new.thumbprint


def test_a_context_is_never_made_of_two_generations(tmp_path: Path) -> None:
    authority = CertificateAuthority()
    authority.issue().write(tmp_path)
    given = files(tmp_path)
    ends = threading.Event()

    def renew() -> None:
        while not ends.wait(0.005):
            for path in authority.issue().write(tmp_path, name="new"):
                os.replace(path, tmp_path / path.name.replace("new", "client"))

    writer = threading.Thread(target=renew)
    writer.start()
    try:
        seen = set()
        for number in range(40):
            pair = given.current(100 + 2 * number)
            pair.ssl_context()  # OpenSSL raises an error if the key does not belong to the certificate
            seen.add(pair.thumbprint)
    finally:
        ends.set()
        writer.join()
    assert len(seen) > 1


@pytest.mark.parametrize("form", [["ec", "-aes256"], ["pkcs8", "-topk8"]])
def test_an_encrypted_key_needs_its_password(issued: IssuedCertificate, tmp_path: Path, form: list[str]) -> None:
    key = tmp_path / "client-key.pem"
    command = ["openssl", *form, "-in", key, "-passout", f"pass:{PASSWORD}", "-out", tmp_path / "encrypted.pem"]
    subprocess.run(command, check=True, capture_output=True)
    os.replace(tmp_path / "encrypted.pem", key)
    assert b"ENCRYPTED" in key.read_bytes()
    for password in (PASSWORD, PASSWORD.encode()):
        assert files(tmp_path, password=password).current().ssl_context()
    for wrong in (None, "", "wrong"):
        with pytest.raises(ConfigurationError, match="give its password=") as caught:
            files(tmp_path, password=wrong)
        assert "wrong" not in str(caught.value)


def test_one_file_may_have_both(tmp_path: Path) -> None:
    client = self_signed()
    path = tmp_path / "both.pem"
    path.write_text(client.key_pem + client.pem)
    assert CertificateFiles(path, str(path)).current().thumbprint == client.thumbprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.pem", "client-key.pem"), "absent.pem: cannot be read"),
        (("client.pem", "client.pem"), "expected one private key"),
        (("client-key.pem", "client-key.pem"), "invalid PEM"),
        ((".", "client-key.pem"), "is not a file"),
        (("client.pem", "."), "is not a file"),
        (("other.pem", "client-key.pem"), "does not belong to the first certificate"),
        (("", "client-key.pem"), "certificate=''"),
        (("client.pem", None), "key=None"),
        (("client.pem", b"client-key.pem"), "key=b'"),
    ],
)
def test_wrong_files_are_named(
    issued: IssuedCertificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    CertificateAuthority().issue().write(tmp_path, name="other")
    with pytest.raises(ConfigurationError, match=message):
        CertificateFiles(*arguments)


def test_a_password_for_a_plain_key_is_an_error(issued: IssuedCertificate, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not encrypted") as caught:
        files(tmp_path, password=PASSWORD)
    assert PASSWORD not in str(caught.value)
    with pytest.raises(ConfigurationError, match="password"):
        files(tmp_path, password=17)


@pytest.mark.parametrize("has_memory_files", [True, False])
def test_a_context_presents_the_certificate_and_verifies_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_memory_files: bool
) -> None:
    import urllib.error
    import urllib.request

    if not has_memory_files:
        monkeypatch.delattr(certificate_files.os, "memfd_create", raising=False)
    authority = CertificateAuthority()
    authority.issue().write(tmp_path)
    (tmp_path / "ca.pem").write_text(authority.pem)
    given = files(tmp_path)
    with Server(authority) as server:
        context = ssl_context(given, tmp_path / "ca.pem")
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        urllib.request.urlopen(server.host, context=context).close()
        assert server.received[0].thumbprint == given.current().thumbprint
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(server.host, context=ssl_context(given.current()))
    with pytest.raises(ConfigurationError, match="certificate="):
        ssl_context(str(tmp_path / "client.pem"))  # type: ignore[arg-type]  # the mistake of the test
