"""`mtls-middleware dev-ca`: the files, and when they are replaced. tests/live has the servers that use them."""

import json
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mtls_middleware.cli.main import main
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate


def dev_ca(folder: Path, *options: str) -> int:
    return main(["dev-ca", "--output", str(folder), *options])


def thumbprint(folder: Path) -> str:
    return IssuedCertificate.read(folder).thumbprint


def test_the_files_are_a_ca_a_server_and_a_client(tmp_path, capsys):
    folder = tmp_path / "dev"
    names = ["--uri", "spiffe://acme.internal/b", "--dns", "b.x", "--email", "b@x", "--upn", "b@corp.example"]
    assert dev_ca(folder, "--subject", "CN=billing,O=Acme", *names) == 0
    assert "CN=billing,O=Acme" in capsys.readouterr().out
    assert "invalid" not in capsys.readouterr().err
    files = {"ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem", ".gitignore"}
    assert {each.name for each in folder.iterdir()} == files
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("client-key.pem", "server-key.pem")} == {0o600}
    client = IssuedCertificate.read(folder).client_certificate()
    assert (client.subject, client.uris, client.dns_names) == (
        "CN=billing,O=Acme",
        ("spiffe://acme.internal/b",),
        ("b.x",),
    )
    assert (client.email_addresses, client.user_principal_names) == (("b@x",), ("b@corp.example",))
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")


def test_valid_files_stay_until_they_are_renewed(tmp_path, capsys):
    assert dev_ca(tmp_path) == 0
    first = thumbprint(tmp_path)
    assert dev_ca(tmp_path) == 0
    assert thumbprint(tmp_path) == first
    assert dev_ca(tmp_path, "--subject", "CN=other") == 2
    assert "--renew" in capsys.readouterr().err
    assert dev_ca(tmp_path, "--subject", "CN=other", "--renew") == 0
    assert thumbprint(tmp_path) != first


def test_files_that_are_about_to_expire_or_incomplete_are_replaced(tmp_path):
    assert dev_ca(tmp_path, "--days", "1") == 0
    first = thumbprint(tmp_path)
    assert dev_ca(tmp_path) == 0
    second = thumbprint(tmp_path)
    assert second != first
    (tmp_path / "ca.pem").unlink()
    assert dev_ca(tmp_path) == 0
    assert thumbprint(tmp_path) != second


def test_no_warning_about_the_end_of_a_new_certificate(tmp_path):
    assert dev_ca(tmp_path) == 0
    assert (IssuedCertificate.read(tmp_path).x509.not_valid_after_utc - datetime.now(UTC)).days >= 30


def test_json_names_the_files(tmp_path, capsys):
    assert dev_ca(tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["files"]) == {"ca", "server", "server_key", "client", "client_key"}
    assert all(Path(each).is_file() for each in found["files"].values())
    assert found["thumbprint"] == thumbprint(tmp_path)


@pytest.mark.parametrize("options", [["--days", "0"], ["--days", "400"], ["--subject", "billing"], ["--dns", "é"]])
def test_what_no_certificate_can_have_is_an_error(tmp_path, capsys, options):
    assert dev_ca(tmp_path / "dev", *options) == 2
    assert capsys.readouterr().err.startswith("mtls-middleware dev-ca: ")
    assert not (tmp_path / "dev").exists()


@pytest.mark.parametrize("names", [["server.pem", "server-key.pem"], ["ca.pem"], ["client-key.pem"]])
def test_files_of_something_else_are_not_overwritten(tmp_path, capsys, names):
    for name in (*names, ".gitignore"):
        (tmp_path / name).write_text("my own")
    assert dev_ca(tmp_path) == 2
    assert "another folder" in capsys.readouterr().err
    assert {(tmp_path / name).read_text() for name in names} == {"my own"}
    assert dev_ca(tmp_path, "--renew") == 0
    assert (tmp_path / ".gitignore").read_text() == "my own"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("untouched")
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("ca.pem", "server.pem", "client-key.pem"):
        (folder / name).symlink_to(target)
    assert dev_ca(folder, "--renew") == 0
    assert target.read_text() == "untouched"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert dev_ca(tmp_path / "file") == 2
    assert "--output" in capsys.readouterr().err


def test_valid_files_of_another_authority_are_not_taken_for_ours(tmp_path, capsys):
    foreign = CertificateAuthority("CN=Production CA")
    foreign.issue().write(tmp_path)
    foreign.server().write(tmp_path, name="server")
    before = (tmp_path / "client-key.pem").read_text()
    for _ in range(2):  # without and with a CA file
        assert dev_ca(tmp_path) == 2
        assert "not the files that dev-ca writes" in capsys.readouterr().err
        (tmp_path / "ca.pem").write_text(foreign.pem)
    assert (tmp_path / "client-key.pem").read_text() == before


def test_an_existing_folder_gets_no_gitignore_and_a_warning(tmp_path, capsys):
    assert dev_ca(tmp_path) == 0
    assert not (tmp_path / ".gitignore").exists()
    assert "do not commit" in capsys.readouterr().err
