"""Distinguished names in the forms that OpenSSL, Java and .NET print, and names that are rejected with a hint.

Reports: openssl/openssl#9187, dotnet/runtime#27466, pyca/cryptography#6804.
"""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.allowance import require_allowed
from mtls_middleware.names import distinguished
from mtls_middleware.policy import Issuer, Subject, SubjectAttribute
from mtls_middleware.testing import CertificateAuthority

CA = CertificateAuthority("CN=Clients,O=Acme,C=GB")

# Each string, and the same name in the form of RFC 4514 with OIDs.
ACCEPTED = {
    "blanks after commas": ("CN=billing, O=Acme", "2.5.4.3=billing,2.5.4.10=Acme"),
    "blanks around all separators": ("CN = billing , O = Acme + OU = x", "CN=billing,O=Acme+OU=x"),
    "many blanks": ("CN   =   billing   ,   O   =   Acme", "CN=billing,O=Acme"),
    "escaped blanks stay": ("CN = \\ a\\  , O = b", "CN=\\ a\\ ,O=b"),
    "empty value": ("CN = , O = Acme", "CN=,O=Acme"),
    "hex": ("2.5.4.97 = #0C0178 , CN = x", "2.5.4.97=#0c0178,CN=x"),
    "OpenSSL's default": ("C = GB, ST = Kent, O = Acme, CN = tpp", "C=GB,ST=Kent,O=Acme,CN=tpp"),
    "OpenSSL 3.2": (
        "C=GB, O=Acme, organizationIdentifier=PSDGB-FCA-1, CN=tpp",
        "C=GB,O=Acme,2.5.4.97=PSDGB-FCA-1,CN=tpp",
    ),
    "OpenSSL, multi-valued": ("CN = a + UID = b", "CN=a+UID=b"),
    "Java": (
        "EMAILADDRESS=a@b.example, CN=tpp, OID.2.5.4.97=PSDGB-FCA-1, C=GB",
        "E=a@b.example,CN=tpp,2.5.4.97=PSDGB-FCA-1,C=GB",
    ),
    "Java, small prefix": ("oid.2.5.4.15 = Private Organization", "businessCategory=Private Organization"),
    "Java, hex": ("OID.1.3.6.1.4.1.311.60.2.1.3=#13024742", "1.3.6.1.4.1.311.60.2.1.3=GB"),
    ".NET": (
        "E=a@b.example, G=Jo, SN=Doe, T=Dr, S=Kent, I=J, C=GB",
        "emailAddress=a@b.example,GN=Jo,sn=Doe,title=Dr,ST=Kent,initials=J,C=GB",
    ),
    ".NET, OIDs": ("OID.2.5.4.97=VATDE-1, SERIALNUMBER=HRB 1, CN=x", "2.5.4.97=VATDE-1,2.5.4.5=HRB 1,CN=x"),
    "jurisdictionC": ("jurisdictionC=DE,CN=x", "1.3.6.1.4.1.311.60.2.1.3=DE,CN=x"),
    "jurisdictionCountryName": ("jurisdictionCountryName = DE", "1.3.6.1.4.1.311.60.2.1.3=DE"),
    "jurisdictionST": ("jurisdictionST=Kent", "1.3.6.1.4.1.311.60.2.1.2=Kent"),
    "jurisdictionStateOrProvinceName": ("jurisdictionStateOrProvinceName=Kent", "1.3.6.1.4.1.311.60.2.1.2=Kent"),
    "jurisdictionL": ("jurisdictionL=Deal", "1.3.6.1.4.1.311.60.2.1.1=Deal"),
    "jurisdictionLocalityName": ("jurisdictionLocalityName=Deal", "1.3.6.1.4.1.311.60.2.1.1=Deal"),
    "CA/Browser Forum": ("jurisdictionOfIncorporationCountryName=DE", "1.3.6.1.4.1.311.60.2.1.3=DE"),
    "UID": ("uid=1", "0.9.2342.19200300.100.1.1=1"),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_form_that_is_not_ambiguous_is_read(kind):
    given, expected = ACCEPTED[kind]
    assert distinguished.matches(Subject(given)._parsed, distinguished.parse(expected))


# Each string, and words of the message.
REJECTED = {
    "slashes": ("/C=GB/O=Acme/CN=tpp", "'/C=.../CN=...'.*-nameopt RFC2253"),
    "slashes with a blank": (" /C=GB/CN=tpp", "'/C=.../CN=...'"),
    "label": ("subject=C = GB, CN = tpp", "remove the label"),
    "label of keytool": ("Issuer: CN=tpp, C=GB", "remove the label"),
    "other label of keytool": ("Owner: CN=tpp, C=GB", "remove the label"),
    "label with two words": ("Subject DN: CN=tpp, C=GB", "remove the label"),
    "multiline": ("subject=\n    countryName = GB\n", "label"),
    "multiline without label": ("    countryName               = GB\n    commonName = tpp", "several lines"),
    "two lines": ("CN=a\nO=b", "several lines"),
    "quotes": ('C = GB, O = "Acme, Inc", CN = tpp', r"in quotes.*O=Acme\\\\, Inc"),
    ".NET quotes": ('O="Acme ""Inc"""', "in quotes"),
    "semicolons": ("CN=a;O=b", "has ';'"),
    "no types": ("billing", "not a list of TYPE=value"),
    "host name first": ("billing.internal, O=Acme", "not a list of TYPE=value"),
    "comma in a value": ("O=Acme, Inc,C=GB", r"position 8.*a comma in a value as"),
    "unknown type": ("fooType=x,CN=a", "unknown attribute type 'fooType'.*dotted OID"),
    "blank at the end": ("CN=a ", "escape"),
    "backslash of Windows": ("CN=ACME\\user", "escape"),
    "trailing comma": ("CN=a, ", "no attribute type at position 6"),
    "empty": ("", "the name is empty"),
}


@pytest.mark.parametrize("kind", REJECTED)
@pytest.mark.parametrize("rule", [Subject, Issuer])
def test_a_rejected_form_is_named_with_the_right_form(rule, kind):
    given, expected = REJECTED[kind]
    with pytest.raises(ConfigurationError, match=rf"(?s){expected}.*mtls-middleware inspect"):
        rule(given)


def test_the_prefix_of_an_oid_is_read_in_attribute_types():
    assert SubjectAttribute("OID.2.5.4.97", "x").attribute == "OID.2.5.4.97"
    with pytest.raises(ConfigurationError, match="not a known attribute type"):
        SubjectAttribute("OID.CN", "x")


NAMES = ("jurisdictionC=DE", "jurisdictionST=Kent", "jurisdictionL=Deal", "organizationIdentifier=VATDE-1")
NAMES += ("businessCategory=Private", "serialNumber=HRB 1", "UID=7", "emailAddress=a@b.example", "GN=Jo", "SN=Doe")
NAMES += ("title=Dr", "initials=J", "pseudonym=P", "postalCode=1", "street=S", "dnQualifier=Q", "DC=example", "C=DE")


@pytest.fixture(scope="module")
def written_by_openssl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openssl")
    subject = "".join(f"/{each}" for each in (*NAMES, "O=Acme", "CN=tpp"))
    line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k.pem -out c.pem -utf8 -subj"
    subprocess.run([*line.split(), subject], cwd=folder, check=True, capture_output=True)
    return folder / "c.pem"


def printed(path: Path, *options: str) -> str:
    command = ["openssl", "x509", "-in", path, "-noout", "-subject", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().partition("=")[2].strip()


def verified(path: Path) -> ClientCertificate:
    return ClientCertificate.from_pem(path.read_bytes(), verification=Verification.BY_PROXY)


@pytest.mark.parametrize("options", ["RFC2253", "RFC2253,lname", "RFC2253,oid"])
def test_what_openssl_prints_in_the_order_of_rfc_2253_matches(written_by_openssl, options):
    assert Subject(printed(written_by_openssl, "-nameopt", options)).holds(verified(written_by_openssl))


@pytest.mark.parametrize("options", [(), ("-nameopt", "oneline"), ("-nameopt", "oneline,lname")])
def test_the_log_says_that_openssl_prints_the_reversed_order(written_by_openssl, options):
    rule = Subject(printed(written_by_openssl, *options))
    with pytest.raises(Refused) as error:
        require_allowed(rule, verified(written_by_openssl))
    assert error.value.advice is not None
    assert "exactly reversed" in error.value.advice
    assert "inspect" in error.value.advice


def test_the_old_form_of_openssl_is_named(written_by_openssl):
    with pytest.raises(ConfigurationError, match="-nameopt compat"):
        Subject(printed(written_by_openssl, "-nameopt", "compat"))


# The rule, and what the log says of the certificate `CN=billing,OU=a,OU=b,O=Acme`.
ORDERS = {
    "reversed": (Subject("O=Acme,OU=b,OU=a,CN=billing"), "exactly reversed"),
    "reversed with blanks": (Subject("O = Acme, OU = b, OU = a, CN = billing"), "exactly reversed"),
    "mixed": (Subject("OU=a,CN=billing,OU=b,O=Acme"), "in another order: write"),
    "in one RDN": (Subject("CN=billing+OU=a,OU=b,O=Acme"), "in another order: write"),
    "issuer reversed": (Issuer("C=GB,O=Acme,CN=Clients"), "exactly reversed"),
    "one of two rules": (Subject("CN=other") | Subject("O=Acme,OU=b,OU=a,CN=billing"), "exactly reversed"),
    "joined by OpenSSL": (Subject("CN=billing/emailAddress=a@b.example,OU=a,OU=b,O=Acme"), "/TYPE="),
    "other value": (Subject("O=Acme,OU=b,OU=a,CN=other"), "change allow="),
    "missing attribute": (Subject("O=Acme,OU=a,CN=billing"), "change allow="),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_the_log_says_whether_only_the_order_differs(kind):
    rule, expected = ORDERS[kind]
    certificate = CA.issue("CN=billing,OU=a,OU=b,O=Acme").client_certificate(Verification.BY_PROXY)
    with pytest.raises(Refused) as error:
        require_allowed(rule, certificate)
    assert error.value.advice is not None
    assert expected in error.value.advice


def test_a_teletex_string_with_octets_above_127_matches_nothing():
    """Its meaning is not certain: T.61, Latin-1 or UTF-8."""
    with pytest.raises(ValueError, match="ascii"):
        distinguished.parse("CN=#14024dfc")
    assert distinguished.matches(distinguished.parse("CN=#14034d4e4f"), distinguished.parse("CN=mno"))


def test_utf_8_in_a_teletex_string_does_not_equal_its_latin_1_text():
    kind = x509.name._ASN1Type.T61String
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Müller", _type=kind)])
    assert b"\x14\x07M\xc3\xbcller" in name.public_bytes()
    certificate = CA.issue(name).client_certificate(Verification.BY_PROXY)
    for text in ("CN=Müller", "CN=MÃ¼ller"):
        assert Subject(text).judge(certificate) is None
