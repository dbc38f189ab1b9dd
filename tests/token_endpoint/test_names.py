"""`tls_client_auth` over real certificates: the one registered name, and whether a certificate bears it."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtensionOID, NameOID

from mtls_middleware import ClientCertificate, ConfigurationError, Verification
from mtls_middleware.names import distinguished
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.token_endpoint import ClientAuthenticator
from tests import shared
from tests.token_endpoint.roles import authentication_result, pki, refused

AUTHORITY = CertificateAuthority()
DN = shared.read_json("vectors/dn.json")
SAN = shared.read_json("vectors/san.json")


def accepts(certificate: IssuedCertificate | ClientCertificate, **registered: str) -> bool:
    """Whether the client is let in with this certificate; every other way out than `invalid_client` fails the test."""
    client = pki(**registered)
    authenticator = ClientAuthenticator({client.client_id: client})
    try:
        return authentication_result(authenticator, certificate) is client
    except Exception:  # noqa: BLE001 (looked at more closely at once)
        with refused():
            authentication_result(authenticator, certificate)
        return False


# --- distinguished names ---


def test_the_log_says_that_a_registered_subject_is_reversed() -> None:
    client = pki(subject_dn="O = Acme, CN = billing")
    authenticator = ClientAuthenticator({client.client_id: client})
    with refused() as caught:
        authentication_result(authenticator, AUTHORITY.issue("CN=billing,O=Acme"))
    assert caught.value.advice is not None
    assert "exactly reversed" in caught.value.advice
    with refused() as caught:
        authentication_result(authenticator, AUTHORITY.issue("CN=other,O=Acme"))
    assert caught.value.advice is None


def test_the_log_has_the_parsers_reason_if_the_subject_cannot_be_read() -> None:
    client = pki(subject_dn="CN=billing")
    authenticator = ClientAuthenticator({client.client_id: client})
    der = AUTHORITY.issue("CN=billing").der.replace(b"\x0c\x07billing", b"\x14\x07bill\xefng")
    with refused() as caught:
        authentication_result(authenticator, ClientCertificate.from_der(der, verification=Verification.BY_SERVER))
    assert any("cannot be read: ParseError" in each for each in caught.value.evidence)


def name(text: str) -> x509.Name:
    """The name that RFC 4514 text describes, with the very ASN.1 types that it asks for."""
    return x509.Name(
        [
            x509.RelativeDistinguishedName(
                x509.NameAttribute(
                    x509.ObjectIdentifier(each.oid), each.text or "", _ASN1Type(each.tag), _validate=False
                )
                for each in rdn
            )
            for rdn in reversed(distinguished.parse(text).rdns)
        ]
    )


def attributes(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    """Attributes in the order of the certificate, each an RDN of its own."""
    return x509.Name([x509.NameAttribute(oid, value, _validate=False) for oid, value in pairs])


@pytest.mark.shared
@pytest.mark.standard("B7", "B8", "D2", "L7", "L8", "P7")
@pytest.mark.parametrize("pair", DN.get("match_pairs", ()), ids=lambda pair: pair["case"])
def test_subjects_are_compared_as_names(pair: dict[str, str]) -> None:
    registered, of_certificate, result = pair["registered"], pair["certificate"], pair["result"]
    if pair["case"] == "space after comma is not RFC 4514":  # but RFC 2253 section 4 allows it
        assert accepts(AUTHORITY.issue(name(registered)), subject_dn=of_certificate)
    elif result.startswith("unparsable"):
        with pytest.raises(ConfigurationError, match="tls_client_auth_subject_dn"):
            pki(subject_dn=of_certificate)
    elif not registered or result.startswith("undefined"):
        with pytest.raises(ConfigurationError, match="tls_client_auth_subject_dn"):
            pki(subject_dn=registered)
    else:  # "policy": where the vectors recommend to refuse a control character, which is what we do
        wanted = result == "match" and "policy" not in pair
        assert accepts(AUTHORITY.issue(name(of_certificate)), subject_dn=registered) is wanted


@pytest.mark.shared
@pytest.mark.standard("L5", "L13")
@pytest.mark.parametrize(
    "spelling",
    DN.get("same_subject_other_spellings", {}).get("spellings", ()),
    ids=lambda spelling: spelling["form"][:20],
)
def test_each_spelling_of_a_subject_lets_its_client_in(spelling: dict[str, str]) -> None:
    pem = DN["same_subject_other_spellings"]["certificate_pem"]
    certificate = ClientCertificate.from_pem(pem, verification=Verification.BY_PROXY)
    assert accepts(certificate, subject_dn=spelling["dn"])


CN, ORG = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME
SUBJECTS = [
    # registered, subject of the certificate, let in
    pytest.param("CN=client1,O=Org", attributes((ORG, "Org"), (CN, "client1")), True, marks=pytest.mark.case("085")),
    pytest.param("CN=client1,O=Org", attributes((CN, "client1"), (ORG, "Org")), False, marks=pytest.mark.case("085")),
    pytest.param("CN=client1,O=Org", attributes((CN, "client1,O=Org")), False, marks=pytest.mark.case("086")),
    pytest.param("CN=client1\\,O\\=Org", attributes((CN, "client1,O=Org")), True, marks=pytest.mark.case("086")),
    pytest.param("CN=good", attributes((CN, "good\0.evil")), False, marks=pytest.mark.case("087")),
    pytest.param("CN=good.evil", attributes((CN, "good\0.evil")), False, marks=pytest.mark.case("087")),
    pytest.param("CN=good.evil", attributes((CN, "good\r.evil")), False, marks=pytest.mark.case("087")),
    pytest.param("CN=a\\,b\\+c", attributes((CN, "a,b+c")), True, marks=pytest.mark.case("087")),
    pytest.param("CN=a+OU=b", name("OU=b+CN=a"), True, marks=pytest.mark.case("088")),
    pytest.param("CN=a+OU=b", name("CN=a,OU=b"), False, marks=pytest.mark.case("089")),
    pytest.param("CN=a,OU=b", name("CN=a+OU=b"), False, marks=pytest.mark.case("089")),
    pytest.param("CN=a,O=b", name("CN=a,O=b,C=DE"), False, marks=pytest.mark.case("091")),
    pytest.param("CN=a,O=b", name("OU=x,CN=a,O=b"), False, marks=pytest.mark.case("091")),
    pytest.param("CN=a,O=b,C=DE", name("CN=a,O=b"), False, marks=pytest.mark.case("091")),
    pytest.param("CN=admin", name("CN=\u0430dmin"), False, marks=pytest.mark.case("093")),
    pytest.param("CN=admin", name("CN=ad\u202emin"), False, marks=pytest.mark.case("093")),
    pytest.param("CN=m\u00fcller", name("CN=mu\u0308ller"), True, marks=pytest.mark.case("093")),
    pytest.param("CN=Foo", name("CN=\uff26\uff4f\uff4f"), True, marks=pytest.mark.case("093")),
    pytest.param("1.2.3.4=#0C0161", name("1.2.3.4=#0C0161"), True, marks=pytest.mark.case("094")),
    pytest.param("1.2.3.4=#0C0161", name("1.2.3.4=a"), True, marks=pytest.mark.case("094")),
    pytest.param("1.2.3.4=#0C0161", name("1.2.3.5=a"), False, marks=pytest.mark.case("094")),
    pytest.param("1.2.3.4=#0C0161", name("1.2.3.4=b"), False, marks=pytest.mark.case("094")),
    pytest.param("1.2.3.4=#040161", name("1.2.3.4=a"), False, marks=pytest.mark.case("094")),
]


@pytest.mark.parametrize(
    ("registered", "subject", "let_in"), SUBJECTS, ids=[f"{number}" for number in range(len(SUBJECTS))]
)
@pytest.mark.standard("B7", "D2")
def test_the_whole_subject_counts(registered: str, subject: x509.Name, let_in: bool) -> None:
    assert accepts(AUTHORITY.issue(subject), subject_dn=registered) is let_in


@pytest.mark.standard("L14", "D10")
def test_a_certificate_without_subject_bears_no_name() -> None:
    nameless = AUTHORITY.issue("", dns=["billing.internal"])
    assert not accepts(nameless, subject_dn="CN=billing")
    assert accepts(nameless, san_dns="billing.internal")


# --- alternative names ---

# RFC 5280 7.4 normalises URIs; ours are compared as they stand, which can only refuse more.
NOT_NORMALISED = {
    "HTTPS://Example.COM/A",
    "https://example.com/%61",
    "https://example.com:443/",
    "https://example.com/b/../a",
}
# A wildcard or a U-label is no name of one host; a network is no address.
NOT_REGISTERED = {"*.example.com", "bücher.example", "192.0.2.0/24"}
KINDS: dict[str, Callable[[str], x509.GeneralName]] = {
    "dns": x509.DNSName._init_without_validation,
    "uri": x509.UniformResourceIdentifier._init_without_validation,
    "email": x509.RFC822Name._init_without_validation,
    "ip": lambda text: x509.IPAddress(ip_address(text)),
}


def with_names(*entries: x509.GeneralName, subject: str = "CN=x") -> IssuedCertificate:
    return AUTHORITY.issue(subject, extensions=[(x509.SubjectAlternativeName(entries), False)])


def of_row(kind: str, value: str) -> IssuedCertificate:
    if value.startswith("(in subject"):
        return AUTHORITY.issue(name("emailAddress=ops@example.com,CN=api.example.com"))
    if value.startswith("(uniform"):
        return with_names(KINDS["uri"]("https://api.example.com"))
    entries = value.removesuffix(" (two entries)").split(", ")
    return with_names(*(KINDS[kind](each) for each in entries))


@pytest.mark.shared
@pytest.mark.standard("D3", "D4", "D5", "D6", "D11")
@pytest.mark.parametrize(
    "row", SAN.get("rows", ()), ids=lambda row: f"{row['type']} {row['registered']!a} {row['certificate']!a}"
)
def test_an_entry_lets_its_client_in(row: dict[str, Any]) -> None:
    kind, registered = row["type"], row["registered"]
    if row["match"] == "refuse" or registered in NOT_REGISTERED:
        with pytest.raises(ConfigurationError, match=SAN["fields"][kind]):
            pki(**{f"san_{kind}": registered})
        return
    wanted = row["match"] is True and row["certificate"] not in NOT_NORMALISED
    assert accepts(of_row(kind, row["certificate"]), **{f"san_{kind}": registered}) is wanted


ENTRIES = [
    # kind, registered, entries of the certificate, let in
    pytest.param("dns", "a.example.com", ["dns A.Example.COM"], True, marks=pytest.mark.case("096")),
    pytest.param("dns", "a.example.com", ["dns a.example.com."], False, marks=pytest.mark.case("096")),
    pytest.param("dns", "a.example.com", ["dns *.example.com"], False, marks=pytest.mark.case("096")),
    pytest.param("ip", "::1", ["ip 0:0:0:0:0:0:0:1"], True, marks=pytest.mark.case("097")),
    pytest.param("ip", "0:0:0:0:0:0:0:1", ["ip ::1"], True, marks=pytest.mark.case("097")),
    pytest.param("ip", "1.2.3.4", ["ip ::ffff:1.2.3.4"], False, marks=pytest.mark.case("097")),
    pytest.param("ip", "::ffff:1.2.3.4", ["ip 1.2.3.4"], False, marks=pytest.mark.case("097")),
    pytest.param("ip", "1.2.3.4", ["dns 1.2.3.4"], False, marks=pytest.mark.case("097")),
    pytest.param("email", "ops@example.com", ["email ops@EXAMPLE.com"], True, marks=pytest.mark.case("098")),
    pytest.param("email", "ops@example.com", ["email Ops@example.com"], False, marks=pytest.mark.case("098")),
    pytest.param("email", "ops@example.com", ["dns example.com"], False, marks=pytest.mark.case("098")),
    pytest.param("dns", "a.example.com", ["uri a.example.com"], False, marks=pytest.mark.case("098")),
    pytest.param("uri", "urn:a", ["dns urn:a", "email urn:a"], False, marks=pytest.mark.case("098")),
    pytest.param("uri", "https://a.test/%2f", ["uri https://a.test/%2f"], True, marks=pytest.mark.case("099")),
    pytest.param("uri", "https://a.test/%2f", ["uri https://a.test/%2F"], False, marks=pytest.mark.case("099")),
    pytest.param("uri", "https://a.test/", ["uri https://a.test:443/"], False, marks=pytest.mark.case("099")),
    pytest.param("uri", "spiffe://td/a", ["uri spiffe://td.evil/a"], False, marks=pytest.mark.case("101")),
    pytest.param("uri", "spiffe://td/a", ["uri spiffe://td/a/b"], False, marks=pytest.mark.case("101")),
    pytest.param("uri", "spiffe://td/a", ["uri spiffe://td/a"], True, marks=pytest.mark.case("101")),
    pytest.param("dns", "a.example.com", ["dns b.example.com", "dns a.example.com"], True),
]


@pytest.mark.parametrize(("kind", "registered", "entries", "let_in"), ENTRIES)
@pytest.mark.standard("D3", "D4", "D5", "D6", "D11")
def test_one_equal_entry_of_the_type_counts(kind: str, registered: str, entries: list[str], let_in: bool) -> None:
    certificate = with_names(*(KINDS[each.split()[0]](each.split()[1]) for each in entries))
    assert accepts(certificate, **{f"san_{kind}": registered}) is let_in


@pytest.mark.parametrize(
    ("kind", "registered"),
    [("dns", "a.example.com"), ("uri", "a.example.com:"), ("email", "ops@a.example.com"), ("ip", "192.0.2.1")],
)
@pytest.mark.standard("D3", "D11")
@pytest.mark.case("102")
def test_a_common_name_does_not_match_as_an_alternative_name(kind: str, registered: str) -> None:
    assert not accepts(AUTHORITY.issue(attributes((CN, registered))), **{f"san_{kind}": registered})
    other = "uri" if kind != "uri" else "dns"
    certificate = with_names(KINDS[other]("urn:x"), subject=f"CN={registered}")
    assert not accepts(certificate, **{f"san_{kind}": registered})


# Alternative names that are not what their type says, or not readable at all, as DER.
MALFORMED = {
    "iPAddress of 5 octets": "3007" + "8705" + "c000020101",
    "iPAddress of 8 octets, a network": "300a" + "8708" + "c0000200" + "ffffff00",
    "dNSName with NUL": "300f" + "820d" + b"a.example\0.ev".hex(),
    "dNSName in UTF-8": "3005" + "8203" + "61c3a9",
    "URI with a line break": "3007" + "8605" + b"urn:\n".hex(),
    "rfc822Name with a control": "3005" + "8103" + b"a\x07b".hex(),
    "x400Address": "3002a300",
    "cut short": "3005" + "8210",
    "not a sequence": "0401ff",
    "empty": "",
}
NAMES = {"san_dns": "a.example", "san_uri": "urn:a", "san_ip": "192.0.2.1", "san_email": "ops@a.example"}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("registered", NAMES)
@pytest.mark.standard("D12", "B22")
@pytest.mark.case("087")
def test_unreadable_alternative_names_match_no_client(malformed: str, registered: str) -> None:
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex(malformed))
    certificate = AUTHORITY.issue(extensions=[(extension, False)])
    assert not accepts(certificate, **{registered: NAMES[registered]})


@pytest.mark.standard("D12")
def test_an_address_range_matches_no_address() -> None:
    assert not accepts(with_names(x509.IPAddress(ip_network("192.0.2.1/32"))), san_ip="192.0.2.1")


@pytest.mark.standard("B22")
def test_a_subject_with_invalid_octets_matches_no_client() -> None:
    """No UTF-8: `cryptography` finds out when the name is read, not when the certificate is loaded."""
    whole = AUTHORITY.issue(attributes((CN, "marker"))).der
    broken = whole.replace(b"\x0c\x06marker", b"\x0c\x06mark\xff\xfe")
    assert broken != whole
    certificate = ClientCertificate.from_der(broken, verification=Verification.BY_PROXY)
    assert not accepts(certificate, subject_dn="CN=marker")
