"""Names of smart cards in certificates that OpenSSL writes: `openssl req` is an independent encoder."""

import subprocess
from pathlib import Path

import pytest

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.policy import CertificatePolicy, ExtendedKeyUsage, SubjectAttribute, UserPrincipalName

LONG = "a" * 300 + "@corp.example"


def issue(directory: Path, *names: str) -> ClientCertificate:
    """A self-signed certificate with these subject alternative names, which counts as verified."""
    listed = "\n".join(f"{kind}.{number} = {value}" for number, (kind, _, value) in enumerate(map(_parts, names)))
    settings = directory / "openssl.cnf"
    settings.write_text(
        f"""
        [req]
        prompt = no
        string_mask = utf8only
        distinguished_name = subject
        x509_extensions = extensions
        [subject]
        0.OU = PKI
        1.OU = Cards
        serialNumber = PNOEE-38001085718
        organizationIdentifier = VATEE-12345678
        [extensions]
        subjectAltName = @names
        certificatePolicies = 2.16.840.1.101.3.2.1.3.13, anyPolicy
        extendedKeyUsage = clientAuth, msSmartcardLogin, 1.3.6.1.5.2.3.4
        [names]
        {listed}
        """
    )
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", "/dev/null", "-config", str(settings)]
    done = subprocess.run(command, capture_output=True, check=True)
    return ClientCertificate.from_pem(done.stdout, verification=Verification.BY_PROXY)


def _parts(name: str) -> tuple[str, str, str]:
    return name.partition(":")


def test_each_form_of_a_card_is_read(tmp_path: Path) -> None:
    fasc_n = "04" * 25
    found = issue(
        tmp_path,
        "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:alice@corp.example",
        f"otherName:1.3.6.1.4.1.311.20.2.3;UTF8:{LONG}",
        f"otherName:2.16.840.1.101.3.6.6;FORMAT:HEX,OCT:{fasc_n}",
        "URI:urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    )
    assert found.user_principal_names == ("alice@corp.example", LONG)
    assert found.other_names[2] == ("2.16.840.1.101.3.6.6", b"\x04\x19" + bytes.fromhex(fasc_n))
    assert found.uris == ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",)
    assert found.subject_attributes("OU") == ("PKI", "Cards")
    assert found.policies == ("2.16.840.1.101.3.2.1.3.13", "2.5.29.32.0")
    assert found.extended_key_usages == ("1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.311.20.2.2", "1.3.6.1.5.2.3.4")
    for rule in (
        UserPrincipalName("alice@CORP.example"),
        UserPrincipalName(LONG),
        SubjectAttribute("serialNumber", "PNOEE-38001085718"),
        SubjectAttribute("organizationIdentifier", "VATEE-12345678"),
        CertificatePolicy("2.16.840.1.101.3.2.1.3.13"),
        ExtendedKeyUsage("smartcardLogon"),
        ExtendedKeyUsage("pkinitClientAuth"),
    ):
        assert rule.holds(found), rule


@pytest.mark.parametrize("kind", ["IA5", "PRINTABLESTRING", "BMP", "T61", "UNIV", "OCT", "BITSTR", "NUMERIC"])
def test_a_user_principal_name_of_another_string_type_is_unreadable(tmp_path: Path, kind: str) -> None:
    value = "12" if kind == "NUMERIC" else "alice"
    found = issue(tmp_path, f"otherName:1.3.6.1.4.1.311.20.2.3;{kind}:{value}", "DNS:a.internal")
    assert UserPrincipalName(f"{value}@corp.example").judge(found) is None
    assert (~UserPrincipalName(f"{value}@corp.example")).judge(found) is None
