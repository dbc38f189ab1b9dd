"""`mtls-middleware verify`: the whole path, the first thing that fails, and the exit status."""

import json
import time
from pathlib import Path

import pytest
from cryptography import x509

from mtls_middleware.cli.main import main
from mtls_middleware.testing import CertificateAuthority, self_signed
from tests.validation.authority import crl

ROOT = CertificateAuthority("CN=Root,O=Acme")
MIDDLE = ROOT.intermediate("CN=Middle")
CLIENT = MIDDLE.issue("CN=billing")
DAY = 86_400


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chain = CLIENT.pem + MIDDLE.pem
    contents = {
        "root.pem": ROOT.pem,
        "middle.pem": MIDDLE.pem,
        "chain.pem": chain,
        "leaf.pem": CLIENT.pem,
        "server.pem": ROOT.server("a.example").pem,
        "self.pem": self_signed("CN=self").pem,
        "foreign.pem": CertificateAuthority("CN=Other").issue("CN=x").pem,
        "junk.pem": "junk",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    now = time.time()
    (tmp_path / "root.crl").write_bytes(crl(ROOT, now=now))
    (tmp_path / "middle.crl").write_bytes(crl(MIDDLE, now=now))
    (tmp_path / "revoked.crl").write_bytes(crl(MIDDLE, [CLIENT.x509.serial_number], now=now))
    (tmp_path / "revoked-ca.crl").write_bytes(crl(ROOT, [MIDDLE.certificate.serial_number], now=now))
    return tmp_path


VALID = {
    "chain in the file": "chain.pem --roots root.pem",
    "configured intermediate": "leaf.pem --roots root.pem --intermediates middle.pem",
    "several roots": "chain.pem --roots middle.pem root.pem --roots root.pem",
    "lists": "chain.pem --roots root.pem --crl root.crl middle.crl",
    "purpose": "server.pem --roots root.pem --purpose server",
}


@pytest.mark.parametrize("arguments", VALID.values(), ids=VALID)
def test_a_valid_certificate_is_exit_status_0(folder, capsys, arguments):
    assert main(["verify", *arguments.split()]) == 0
    assert "valid: the path leads to a trusted root" in capsys.readouterr().out
    assert main(["verify", *arguments.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], found["complete"], found["first_failure"]) == (True, True, None)


# Arguments, the roles in the path, the position of the first failure, and its reason.
INVALID = {
    "missing intermediate": ("leaf.pem --roots root.pem", "leaf", 0, "missing intermediate"),
    "unknown issuer": ("foreign.pem --roots root.pem", "leaf", 0, "unknown issuer"),
    "self-signed": ("self.pem --roots root.pem", "leaf", 0, "the certificate is self-signed"),
    "expired": ("chain.pem --roots root.pem --at 2999-01-01", "leaf intermediate root", 0, "expired"),
    "not yet valid": ("chain.pem --roots root.pem --at 1999-01-01", "leaf intermediate root", 0, "not yet valid"),
    "other purpose": ("server.pem --roots root.pem", "leaf root", 0, "extendedKeyUsage without clientAuth"),
    "client as server": (
        "chain.pem --roots root.pem --purpose server",
        "leaf intermediate root",
        0,
        "extendedKeyUsage without serverAuth",
    ),
    "revoked": ("chain.pem --roots root.pem --crl root.crl revoked.crl", "leaf intermediate root", 0, "is revoked"),
    "revoked CA": (
        "chain.pem --roots root.pem --crl revoked-ca.crl middle.crl",
        "leaf intermediate root",
        1,
        "revoked",
    ),
    "no list": ("chain.pem --roots root.pem --crl middle.crl", "leaf intermediate root", 1, "no revocation list"),
    "too long": ("chain.pem --roots root.pem --max-depth 0", "leaf intermediate", 1, "max_depth=0"),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_certificate_is_exit_status_1(folder, capsys, case):
    arguments, roles, position, reason = INVALID[case]
    assert main(["verify", *arguments.split(), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is False
    assert " ".join(each["role"] for each in found["path"]) == roles
    assert found["complete"] is roles.endswith("root")
    assert found["first_failure"]["position"] == position
    assert reason in found["first_failure"]["reason"]
    assert main(["verify", *arguments.split()]) == 1
    text = capsys.readouterr().out
    assert f"not valid: certificate {position}: " in text
    for each in found["path"]:
        assert each["subject"] in text


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("chain.pem --roots root.pem --at 2999-01-01", "renew the certificate"),
        ("leaf.pem --roots root.pem", "let the client send the intermediate CA"),
    ],
)
def test_the_first_failure_says_what_to_do(folder, capsys, arguments, advice):
    assert main(["verify", *arguments.split()]) == 1
    (line,) = [each for each in capsys.readouterr().out.splitlines() if each.startswith("what to do: ")]
    assert advice in line


def test_a_failure_of_the_path_as_a_whole_is_named(folder, capsys):
    permitted = x509.NameConstraints([x509.DNSName("acme.example")], None)
    limited = CertificateAuthority("CN=Limited", extensions=[(permitted, False)])
    Path("limited.pem").write_text(limited.pem)
    Path("client.pem").write_text(limited.issue("CN=x", dns=["evil.example"]).pem)
    assert main(["verify", "client.pem", "--roots", "limited.pem", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["role"] for each in found["path"]] == ["leaf", "root"]
    assert "name constraint" in found["first_failure"]["reason"]


WRONG = {
    "no roots": ("chain.pem", "--roots is missing"),
    "junk as root": ("chain.pem --roots junk.pem", r"junk.pem: the file has no line"),
    "leaf as root": ("chain.pem --roots leaf.pem", "leaf.pem: certificate 1 of 1 can never validate"),
    "root for clients only": ("chain.pem --roots server.pem", "can never validate"),
    "no file": ("chain.pem --roots gone.pem", "gone.pem: No such file"),
    "no certificate": ("gone.pem --roots root.pem", "gone.pem: No such file"),
    "junk": ("junk.pem --roots root.pem", "no certificate found"),
    "junk as list": ("chain.pem --roots root.pem --crl junk.pem", "junk.pem"),
    "time": ("chain.pem --roots root.pem --at tomorrow", "--at tomorrow: expected"),
    "depth": ("chain.pem --roots root.pem --max-depth 17", "from 0 to 16"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_and_files_are_exit_status_2(folder, capsys, case):
    arguments, message = WRONG[case]
    assert main(["verify", *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err


def test_control_characters_of_names_do_not_reach_the_terminal(folder, capsys):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x1b[31m\nvalid: the path")])
    Path("client.pem").write_text(ROOT.issue(name).pem)
    main(["verify", "client.pem", "--roots", "root.pem"])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert not any(line.startswith("valid: the path") and "leads" not in line for line in shown.splitlines())
