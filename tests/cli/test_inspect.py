"""`mtls-middleware inspect`: each form in which a certificate is written, and what is said of it."""

import base64
import io
import json
import re
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID

from mtls_middleware import policy
from mtls_middleware.certificate import Verification
from mtls_middleware.cli.main import main
from mtls_middleware.der import header, read_header
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests import shared
from tests.exports import exported
from tests.validation.unusual_certificates import RSA_1024, signed, version_1

AUTHORITY = CertificateAuthority()
CLIENT = AUTHORITY.intermediate().issue(
    "CN=billing,O=Acme",
    dns=["billing.internal"],
    uris=["spiffe://acme.internal/billing"],
    ip_addresses=["192.0.2.7"],
    emails=["ops@acme.example"],
)


def b64(der: bytes) -> str:
    return base64.b64encode(der).decode()


def forms(client: IssuedCertificate) -> dict[str, bytes]:
    nginx = client.as_nginx()["X-SSL-Client-Cert"]
    return {
        "DER": client.der,
        "PEM file": b"subject=billing\n" + client.pem.encode(),
        "PEM": client.chain_pem.encode(),
        "PEM, as nginx": nginx.encode(),
        "PEM, as Apache": client.pem.replace("\n", " ").encode(),
        "RFC 9440": client.as_client_cert()["Client-Cert"].encode(),
        "base64 DER": b64(client.der).encode(),
        "Traefik": f"{b64(client.der)},{b64(AUTHORITY.certificate.public_bytes(Encoding.DER))}".encode(),
        "Envoy": f'Cert="{nginx}";Subject="CN=billing";URI=spiffe://acme.internal/billing'.encode(),
    }


@pytest.fixture
def inspect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def inspect(data: bytes, *options: str) -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main(["inspect", "-", *options]) == 0
        return capsys.readouterr().out

    return inspect


@pytest.mark.parametrize("form", forms(CLIENT))
def test_every_form_is_read_to_the_same_certificate(form, inspect):
    report = json.loads(inspect(forms(CLIENT)[form], "--json"))
    assert report["thumbprint"] == CLIENT.thumbprint
    assert report["form"].startswith(form.split(",")[0].split()[0])


def test_inspect_prints_the_fields_of_the_certificate(inspect):
    report = json.loads(inspect(CLIENT.chain_pem.encode(), "--json"))
    assert report["subject"] == "CN=billing,O=Acme"
    assert report["dns_names"] == ["billing.internal"]
    assert report["ip_addresses"] == ["192.0.2.7"]
    assert report["email_addresses"] == ["ops@acme.example"]
    assert report["spiffe_id"] == "spiffe://acme.internal/billing"
    assert report["key"] == "EC secp256r1"
    assert len(report["chain"]) == 1


def test_every_rule_that_it_names_holds(inspect):
    certificate = CLIENT.client_certificate()
    rules = json.loads(inspect(CLIENT.pem.encode(), "--json"))["rules"]
    assert len(rules) == 11
    for rule in rules:
        assert eval(rule, exported(policy)).holds(certificate), rule


def test_names_that_no_rule_can_have_are_no_rules(inspect):
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, value, _validate=False)
            for value in ("infra", "infra", "\u00ad", "\U0001fae0", "a, b='c'")
        ]
    )
    issued = AUTHORITY.issue(
        subject,
        dns=["*.wild.internal", "a.internal"],
        user_principal_names=["alice", "bob@corp.example"],
        policies=["2.16.840.1.101.3.2.1.3.13"],
    )
    report = json.loads(inspect(issued.pem.encode(), "--json"))
    assert report["user_principal_names"] == ["alice", "bob@corp.example"]
    assert report["policies"] == ["2.16.840.1.101.3.2.1.3.13"]
    assert report["extended_key_usages"] == ["1.3.6.1.5.5.7.3.2"]
    assert report["other_names"][0] == "1.3.6.1.4.1.311.20.2.3=#0c05616c696365"
    assert report["rules"][2:] == [
        "DNSName('a.internal')",
        "UserPrincipalName('bob@corp.example')",
        "CertificatePolicy('2.16.840.1.101.3.2.1.3.13')",
        "ExtendedKeyUsage('1.3.6.1.5.5.7.3.2')",
        "SubjectAttribute('OU', 'infra')",
        "SubjectAttribute('OU', \"a, b='c'\")",
    ]
    for rule in report["rules"]:
        assert eval(rule, exported(policy)).holds(issued.client_certificate()), rule


def test_a_certificate_with_unreadable_names_keeps_its_other_rules(inspect):
    names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3002a300"))
    report = json.loads(inspect(AUTHORITY.issue("CN=a", extensions=[(names, False)]).pem.encode(), "--json"))
    assert report["user_principal_names"].startswith("unreadable: ")
    assert report["other_names"].startswith("unreadable: ")
    assert [each.partition("(")[0] for each in report["rules"]] == [
        "Thumbprint",
        "Subject",
        "Issuer",
        "SubjectAttribute",
    ]


def test_a_file_is_read_and_a_missing_file_is_reported(tmp_path, capsys):
    (tmp_path / "client.pem").write_text(CLIENT.pem)
    assert main(["inspect", str(tmp_path / "client.pem")]) == 0
    assert f"thumbprint            {CLIENT.thumbprint}\n" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "other.pem")]) == 2
    assert "other.pem: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"\x30\x03abc", b"hello", b":AAAA:", b"\xff" * 40])
def test_an_input_that_is_not_a_certificate_is_reported(data, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["inspect", "-"]) == 2
    assert "no certificate" in capsys.readouterr().err


@pytest.mark.case("155")
def test_a_name_cannot_steer_the_terminal(inspect):
    hostile = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x\x1b[2J\r\nthumbprint  forged")])
    out = inspect(AUTHORITY.issue(hostile).pem.encode())
    assert "\x1b" not in out
    assert "\r" not in out
    assert "\nthumbprint  forged" not in out


@pytest.mark.parametrize(
    "char", "\u061c\u200b\u2028\u2029\u202e\u2066\u2069\ufeff\ue000\u3164\ufe0f\U000e0041\U000e0100", ids=ascii
)
def test_a_name_cannot_change_the_order_of_what_is_shown(inspect, char):
    hostile = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"a{char}b", _validate=False)])
    assert char not in inspect(AUTHORITY.issue(hostile).pem.encode())


@pytest.mark.shared
def test_the_captured_certificates_are_read(inspect):
    text = (shared.ROOT / "captures/certificates.json").read_text("utf-8")
    pems = {json.loads(f'"{each}"') for each in re.findall(r'"(-----BEGIN CERTIFICATE[^"]*)"', text)}
    assert len(pems) >= 8
    for pem in pems:
        assert json.loads(inspect(pem.encode(), "--json"))["thumbprint"]


def test_an_unreadable_value_is_an_error_without_the_extra_for_rfc_9440(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "http_sf", None)  # as if the package were not installed
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b":no base64:")))
    assert main(["inspect", "-"]) != 0
    assert "no certificate found" in capsys.readouterr().err


def of_key(algorithm: str, parameters: str, key: bytes) -> bytes:
    """DER of a certificate whose key is of this algorithm: the SubjectPublicKeyInfo is replaced."""

    def tlv(tag: int, content: bytes) -> bytes:
        return header(tag, len(content)) + content

    spki = CLIENT.x509.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    parts = b"".join(bytes.fromhex(each) for each in (algorithm, parameters))
    changed = tlv(0x30, tlv(0x30, parts) + tlv(3, b"\0" + key))
    tbs = CLIENT.x509.tbs_certificate_bytes
    start, end = read_header(tbs)
    content = tbs[start:end].replace(spki, changed)
    rest = CLIENT.der[CLIENT.der.index(tbs) + len(tbs) :]
    return tlv(0x30, tlv(0x30, content) + rest)


# The DER of the OID of the algorithm, the parameters, the key, and what `inspect` shows of the key.
KEYS = {
    "SM2": ("06072a8648ce3d0201", "06082a811ccf5501822d", b"\4" + b"1" * 64, "1.2.156.10197.1.301"),
    "GOST": ("06082a85030701010101", "301306072a85030202230106082a85030701010202", b"\4\x40" + b"1" * 64, "unknown"),
    "unknown curve": ("06072a8648ce3d0201", "06032a0304", b"\4" + b"1" * 64, "1.2.3.4"),
    "unknown algorithm": ("06032a0305", "", b"1" * 64, "unknown"),
    "point not on the curve": ("06072a8648ce3d0201", "06082a8648ce3d030107", b"\4" + b"1" * 64, "unknown"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_that_cannot_be_read_has_a_reason_and_no_traceback(inspect, kind):
    algorithm, parameters, key, shown = KEYS[kind]
    der = of_key(algorithm, parameters, key)
    found = json.loads(inspect(der, "--json"))
    assert shown in found["key"]
    assert any("a key that cannot be read" in each for each in found["trust_store"])
    assert "DNSName('billing.internal')" in found["rules"]
    assert "unknown" in inspect(der)


def test_only_rules_that_can_be_built_are_printed(inspect):
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("*.example.com"),
            x509.DNSName("trailing.example.com."),
            x509.DNSName("my server"),
            x509.DNSName(""),
            x509.UniformResourceIdentifier(""),
            x509.UniformResourceIdentifier("noscheme"),
            x509.RFC822Name("nohost"),
            x509.RFC822Name("@host"),
            x509.DNSName("good.example.com"),
        ]
    )
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "*.example.com"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "GRO\u1e9eMANN \U0001f600"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, " "),
            x509.NameAttribute(NameOID.TITLE, 'it\'s "x" \\'),
        ]
    )
    client = AUTHORITY.issue(subject, extensions=[(names, False)])
    rules = json.loads(inspect(client.der, "--json"))["rules"]
    assert "DNSName('good.example.com')" in rules
    for rule in rules:
        made = eval(rule, vars(policy) | {name: getattr(policy, name) for name in policy.__all__})
        assert made.holds(client.client_certificate(Verification.BY_PROXY)), rule
    assert not any(word in "".join(rules) for word in ("*.example.com'), DNS", "URI", "Email", "my server"))


OBJECTIONS = {
    "none": (lambda: CLIENT.der, []),
    "no identifier": (lambda: version_1(CLIENT.x509), ["X.509 version 1"]),
    "for servers": (lambda: AUTHORITY.server("a.example").der, ["extendedKeyUsage without clientAuth"]),
    "underscore": (lambda: AUTHORITY.issue(dns=["my_host.example"]).der, ["an invalid dNSName"]),
    "weak key": (lambda: signed(AUTHORITY, RSA_1024).der, ["1024 bits"]),
    "usable CA": (lambda: AUTHORITY.certificate.public_bytes(Encoding.DER), []),
}


@pytest.mark.parametrize("kind", OBJECTIONS)
def test_what_a_trust_store_objects_to_is_shown(inspect, kind):
    make, expected = OBJECTIONS[kind]
    found = json.loads(inspect(make(), "--json"))["trust_store"]
    assert len(found) >= len(expected)
    assert bool(found) is bool(expected)
    for words in expected:
        assert any(words in each for each in found)


def test_a_file_that_is_no_certificate_is_named(tmp_path, capsys):
    path = tmp_path / "client.pem"
    path.write_text(CLIENT.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"))
    assert main(["inspect", str(path)]) == 2
    assert f"openssl x509 -in {path} -out" in capsys.readouterr().err


@pytest.mark.parametrize("subject", ["CN=GRO\u1e9eMANN", "CN=a\U0001f600", "CN=a+CN=b"])
def test_a_subject_that_no_rule_matches_has_a_note(inspect, subject):
    pairs = [x509.NameAttribute(NameOID.COMMON_NAME, each.removeprefix("CN=")) for each in subject.split("+")]
    client = AUTHORITY.issue(x509.Name([x509.RelativeDistinguishedName(pairs)]))
    found = json.loads(inspect(client.der, "--json"))
    assert [each.split(":")[0] for each in found["notes"]] == ["no rule matches the whole subject"]
    assert not any(each.startswith("Subject(") for each in found["rules"])
    assert json.loads(inspect(CLIENT.der, "--json"))["notes"] == []
