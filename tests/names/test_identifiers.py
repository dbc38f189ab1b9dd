"""Names of smart cards and eIDs: user principal names, other names, attributes of the subject, policies and usages."""

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from mtls_middleware import ClientCertificate, ConfigurationError, Verification
from mtls_middleware.der import header
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.policy import (
    URI,
    CertificatePolicy,
    DNSName,
    Email,
    ExtendedKeyUsage,
    Presented,
    Rule,
    Subject,
    SubjectAttribute,
    UserPrincipalName,
)
from mtls_middleware.testing import CertificateAuthority

AUTHORITY = CertificateAuthority("CN=Cards,O=Acme")
ALICE = UserPrincipalName("alice@corp.example")
UPN, FASC_N = "1.3.6.1.4.1.311.20.2.3", "2.16.840.1.101.3.6.6"
OU = NameOID.ORGANIZATIONAL_UNIT_NAME


def tlv(tag: int, content: bytes) -> bytes:
    return header(tag, len(content)) + content


def other_name(oid: str, value: bytes) -> bytes:
    """An otherName with a value that `cryptography` would not write."""
    encoded = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), "a", _validate=False)]).public_bytes()
    size = encoded[7]
    return tlv(0xA0, encoded[6 : 8 + size] + tlv(0xA0, value))


def upn(name: str | bytes, tag: int = 12) -> bytes:
    return other_name(UPN, tlv(tag, name if isinstance(name, bytes) else name.encode()))


def dns(name: str) -> bytes:
    return tlv(0x82, name.encode())


def certificate(*names: bytes) -> ClientCertificate:
    san = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, tlv(0x30, b"".join(names)))
    return AUTHORITY.issue("CN=card", extensions=[(san, False)]).client_certificate()


def with_subject(*attributes: tuple[x509.ObjectIdentifier, str]) -> ClientCertificate:
    name = x509.Name([x509.NameAttribute(oid, value, _validate=False) for oid, value in attributes])
    return AUTHORITY.issue(name).client_certificate()


# --- User principal names


def test_user_principal_names_are_in_the_order_of_the_certificate() -> None:
    found = certificate(upn("b@corp.example"), dns("a.internal"), upn("alice@CORP.example"), upn("b@corp.example"))
    assert found.user_principal_names == ("b@corp.example", "alice@CORP.example", "b@corp.example")
    assert found.dns_names == ("a.internal",)
    assert ALICE.holds(found)
    assert not (~ALICE).holds(found)
    assert UserPrincipalName("b@corp.example").holds(found)


UNREADABLE = {
    "empty": upn(""),
    "IA5String": upn("alice@corp.example", 22),
    "PrintableString": upn("alice", 19),
    "BMPString": upn("alice@corp.example".encode("utf-16-be"), 30),
    "OCTET STRING": upn("alice@corp.example", 4),
    "constructed": upn(tlv(12, b"alice@corp.example"), 0x2C),
    "NUL": upn("alice@corp.example\0.evil"),
    "NUL before": upn("\0alice@corp.example"),
    "line break": upn("alice@corp.example\n"),
    "right-to-left override": upn("alice\u202e@corp.example"),
    "zero width joiner": upn("alice\u200d@corp.example"),
    "not UTF-8": upn(b"alice\xff@corp.example"),
    "overlong UTF-8": upn(b"alice\xc0\xae@corp.example"),
    "surrogate": upn(b"alice\xed\xa0\x80@corp.example"),
    "trailing bytes": other_name(UPN, tlv(12, b"alice@corp.example") + b"\0"),
    "two strings": other_name(UPN, tlv(12, b"alice@corp.example") * 2),
    "no value": other_name(UPN, b""),
    "truncated": other_name(UPN, b"\x0c\x20alice@corp.example"),
    "indefinite length": other_name(UPN, b"\x0c\x80alice@corp.example\0\0"),
    "long form of a short length": other_name(UPN, b"\x0c\x81\x12alice@corp.example"),
}


@pytest.mark.parametrize("case", UNREADABLE)
@pytest.mark.parametrize("before", [True, False])
def test_one_unreadable_name_makes_all_names_unreadable(case: str, before: bool) -> None:
    good = [upn("alice@corp.example"), dns("a.internal")]
    found = certificate(*([UNREADABLE[case], *good] if before else [*good, UNREADABLE[case]]))
    for name in ("user_principal_names", "other_names", "dns_names"):
        with pytest.raises(MalformedCertificate):
            getattr(found, name)
    for rule in (ALICE, ~ALICE, DNSName("a.internal"), ALICE | ~ALICE, Presented(ALICE)):
        assert rule.judge(found) is None
        assert not rule.holds(found)
    assert (ALICE | Subject("CN=card")).holds(found)
    assert SubjectAttribute("CN", "card").holds(found)


@pytest.mark.parametrize(
    "name",
    [
        "Alice@corp.example",
        "alice@corp.example.",
        " alice@corp.example",
        "alice@corp.example ",
        "alice@corp.examp\u217ce",  # SMALL ROMAN NUMERAL FIFTY
        "\u0430lice@corp.example",  # a Cyrillic letter
        "\uff41lice@corp.example",  # a fullwidth letter
        "alice\uff20corp.example",  # a fullwidth @
        "alice@alice@corp.example",
        "alice@corp.example@corp.example",
        "alice",
        "@corp.example",
        "alice@",
        "corp.example",
    ],
)
def test_a_name_that_only_looks_the_same_does_not_match(name: str) -> None:
    found = certificate(upn(name))
    assert found.user_principal_names == (name,)
    assert ALICE.judge(found) is False
    assert (~ALICE).holds(found)


def test_only_ascii_letters_of_the_domain_have_another_case() -> None:
    for name, other in (("k@k.test", "k@\u212a.test"), ("a@\u00fc.test", "a@\u00dc.test"), ("\u00fc@a", "\u00dc@a")):
        assert UserPrincipalName(name).holds(certificate(upn(name)))
        assert not UserPrincipalName(name).holds(certificate(upn(other)))
        assert not UserPrincipalName(other).holds(certificate(upn(name)))
    assert UserPrincipalName("a@b@CORP.test").holds(certificate(upn("a@b@corp.TEST")))
    assert not UserPrincipalName("a@b@corp.test").holds(certificate(upn("a@B@corp.test")))


@pytest.mark.parametrize(
    "names",
    [
        [tlv(0x81, b"alice@corp.example")],
        [tlv(0x86, b"upn:alice@corp.example")],
        [other_name("1.3.6.1.4.1.311.20.2.4", tlv(12, b"alice@corp.example"))],
        [other_name("1.3.6.1.5.5.7.8.5", tlv(12, b"alice@corp.example"))],  # an XMPP address
        [],
    ],
)
def test_a_name_of_another_type_is_no_user_principal_name(names: list[bytes]) -> None:
    found = certificate(*names, dns("a.internal"))
    assert found.user_principal_names == ()
    assert ALICE.judge(found) is False
    assert not Email("alice@corp.example").holds(certificate(upn("alice@corp.example")))


def test_a_user_principal_name_in_the_subject_is_no_user_principal_name() -> None:
    found = with_subject(
        (NameOID.COMMON_NAME, "alice@corp.example"),
        (x509.ObjectIdentifier(UPN), "alice@corp.example"),
        (NameOID.USER_ID, "alice@corp.example"),
    )
    assert found.user_principal_names == ()
    assert ALICE.judge(found) is False
    assert found.subject_attributes(UPN) == ("alice@corp.example",)


def test_another_case_of_the_local_part_is_explained_in_the_log() -> None:
    assert "only in upper and lower case" in str(ALICE.near_miss(certificate(upn("Alice@corp.example"))))
    assert ALICE.near_miss(certificate(upn("bob@corp.example"))) is None


# --- Cards and eIDs


def test_a_piv_card_has_its_fasc_n_and_its_uuid() -> None:
    """FIPS 201-3 and NIST SP 800-73: the FASC-N is an OCTET STRING, and the card's UUID is a URI."""
    uuid = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    fasc_n = tlv(4, bytes(range(25)))
    found = certificate(other_name(FASC_N, fasc_n), upn("1234567890123456@mil"), tlv(0x86, uuid.encode()))
    assert dict(found.other_names)[FASC_N] == fasc_n
    assert [oid for oid, _ in found.other_names] == [FASC_N, UPN]
    assert found.user_principal_names == ("1234567890123456@mil",)
    assert found.uris == (uuid,)
    assert (UserPrincipalName("1234567890123456@MIL") & URI(uuid)).holds(found)


def test_an_eid_has_the_identifier_of_its_person_or_organization() -> None:
    """ETSI EN 319 412-1 5.1.3 and 5.1.4."""
    found = with_subject(
        (NameOID.COUNTRY_NAME, "NO"),
        (NameOID.SERIAL_NUMBER, "PNONO-26054012345"),
        (NameOID.ORGANIZATION_IDENTIFIER, "VATNO-123456789"),
    )
    assert found.subject_attributes("serialNumber") == ("PNONO-26054012345",)
    assert found.subject_attributes("organizationIdentifier") == ("VATNO-123456789",)
    assert found.subject_attributes("2.5.4.97") == ("VATNO-123456789",)
    assert SubjectAttribute("serialNumber", "PNONO-26054012345").holds(found)
    assert SubjectAttribute("organizationIdentifier", "VATNO-123456789").holds(found)
    assert not SubjectAttribute("organizationIdentifier", "PNONO-26054012345").holds(found)


# --- Attributes of the subject


def test_attributes_are_in_the_order_of_the_certificate() -> None:
    found = with_subject((OU, "b"), (NameOID.ORGANIZATION_NAME, "Acme"), (OU, "a"), (OU, "b"))
    for name in ("OU", "ou", "organizationalUnitName", "2.5.4.11"):
        assert found.subject_attributes(name) == ("b", "a", "b")
    assert found.subject_attributes("CN") == ()
    assert SubjectAttribute("OU", "a").holds(found)


def test_an_rdn_of_several_attributes_has_all_of_them() -> None:
    pair = [x509.NameAttribute(NameOID.COMMON_NAME, "x"), x509.NameAttribute(OU, "infra")]
    found = AUTHORITY.issue(x509.Name([x509.RelativeDistinguishedName(pair)])).client_certificate()
    assert found.subject_attributes("OU") == ("infra",)
    assert SubjectAttribute("OU", "Infra").holds(found)


@pytest.mark.parametrize("name", ["XX", "", "2.5.4.", "OU ", "OU=", None, 5, b"OU"])
def test_an_unknown_attribute_type_is_a_configuration_error(name: object) -> None:
    with pytest.raises(ConfigurationError, match="is not a known attribute type"):
        with_subject((OU, "a")).subject_attributes(name)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("INFRA", True),
        ("  infra ", True),
        ("inf\u00adra", True),  # RFC 4518 maps the soft hyphen to nothing
        ("\uff49nfra", True),  # NFKC
        ("infra,OU=ops", False),
        ("infra+ops", False),
        ("\u0456nfra", False),  # a Cyrillic letter
        ("inf ra", False),
        ("", False),
    ],
)
def test_a_value_compares_as_in_a_distinguished_name(value: str, result: bool) -> None:
    if not value:
        found = AUTHORITY.issue("O=Acme").client_certificate()
    else:
        found = with_subject((NameOID.ORGANIZATION_NAME, "Acme"), (OU, value))
        assert Subject("OU=infra,O=Acme").holds(found) is result
    assert SubjectAttribute("OU", "infra").judge(found) is result


def test_a_domain_component_matches_its_a_label() -> None:
    utf8 = x509.name._ASN1Type.UTF8String
    name = x509.Name([x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "b\u00fccher", utf8)])
    found = AUTHORITY.issue(name).client_certificate()
    assert SubjectAttribute("DC", "xn--bcher-kva").holds(found)
    assert not SubjectAttribute("DC", "bucher").holds(found)


def test_a_value_that_cannot_be_compared_makes_the_result_unknown() -> None:
    rule = SubjectAttribute("OU", "infra")
    for value in ("\U0001fae0", "a" + "\u0301" * 31):
        found = with_subject((OU, value))
        assert rule.judge(found) is None
        assert not (~rule).holds(found)
        assert rule.holds(with_subject((OU, value), (OU, "infra")))
        assert SubjectAttribute("CN", "x").judge(found) is False
    with pytest.raises(MalformedCertificate):
        with_subject((OU, "a\x07")).subject_attributes("OU")


def test_a_value_that_is_not_a_string_is_unreadable() -> None:
    unique = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\0ab", x509.name._ASN1Type.BitString)
    name = x509.Name([unique, x509.NameAttribute(OU, "infra")])
    found = AUTHORITY.issue(name).client_certificate()
    with pytest.raises(MalformedCertificate):
        found.subject_attributes("2.5.4.45")
    assert SubjectAttribute("2.5.4.45", "ab").judge(found) is None
    assert SubjectAttribute("OU", "infra").holds(found)


# --- Policies and usages


def test_any_policy_and_any_usage_match_no_other_one() -> None:
    any_usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.5.29.37.0")])
    found = AUTHORITY.issue(policies=["2.5.29.32.0"], extensions=[(any_usage, False)]).client_certificate()
    assert (found.policies, found.extended_key_usages) == (("2.5.29.32.0",), ("2.5.29.37.0",))
    assert CertificatePolicy("2.5.29.32.0").holds(found)
    assert ExtendedKeyUsage("anyExtendedKeyUsage").holds(found)
    assert CertificatePolicy("1.2.3").judge(found) is False
    assert ExtendedKeyUsage("clientAuth").judge(found) is False


def test_a_certificate_without_the_extensions_has_no_policy_and_no_usage() -> None:
    found = AUTHORITY.issue(extended_key_usage=()).client_certificate()
    assert found.policies == found.extended_key_usages == ()
    assert CertificatePolicy("1.2.3").judge(found) is False
    assert ExtendedKeyUsage("clientAuth").judge(found) is False


@pytest.mark.parametrize(
    ("extension", "rule"),
    [
        (ExtensionOID.CERTIFICATE_POLICIES, CertificatePolicy("1.2.3")),
        (ExtensionOID.EXTENDED_KEY_USAGE, ExtendedKeyUsage("clientAuth")),
    ],
)
def test_an_unreadable_extension_makes_the_result_unknown(extension: x509.ObjectIdentifier, rule: Rule) -> None:
    broken = x509.UnrecognizedExtension(extension, b"\x30\x03\x02\x01")
    found = AUTHORITY.issue("CN=a", extensions=[(broken, False)]).client_certificate()
    for name in ("policies", "extended_key_usages"):
        with pytest.raises(MalformedCertificate, match=name):
            getattr(found, name)
    assert rule.judge(found) is None
    assert not (~rule).holds(found)
    assert (rule | Subject("CN=a")).holds(found)


# --- What no rule may do


RULES: list[tuple[Rule, Callable[[], ClientCertificate]]] = [
    (ALICE, lambda: certificate(upn("alice@corp.example"))),
    (SubjectAttribute("OU", "infra"), lambda: with_subject((OU, "infra"))),
    (CertificatePolicy("1.2.3"), lambda: AUTHORITY.issue(policies=["1.2.3"]).client_certificate()),
    (ExtendedKeyUsage("clientAuth"), lambda: AUTHORITY.issue().client_certificate()),
]


@pytest.mark.parametrize(("rule", "issue"), RULES)
def test_a_presented_certificate_matches_only_inside_presented(
    rule: Rule, issue: Callable[[], ClientCertificate]
) -> None:
    presented = issue().with_verification(Verification.PRESENTED)
    assert rule.holds(issue())
    assert rule.judge(presented) is (~rule).judge(presented) is None
    assert Presented(rule).holds(presented)
    assert "not verified" in str(rule.near_miss(presented))
