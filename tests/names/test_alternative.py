"""Subject alternative names: the rules of RFC 5280 section 7 as the policy rules apply them."""

from ipaddress import ip_address

import pytest
from cryptography import x509

from mtls_middleware import ClientCertificate, ConfigurationError, Verification
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names import alternative
from mtls_middleware.policy import URI, DNSName, Email, IPAddress, Rule
from mtls_middleware.testing import CertificateAuthority
from tests import shared

RULES = {"dns": DNSName, "uri": URI, "ip": IPAddress, "email": Email}
# RFC 5280 7.4 normalises URIs; we compare them as they stand, which can only refuse more.
NOT_NORMALISED = {
    "HTTPS://Example.COM/A",
    "https://example.com/%61",
    "https://example.com:443/",
    "https://example.com/b/../a",
}
# Refused at construction, where the row would have it compared: a wildcard or a U-label is no name of one host.
REFUSED = {"*.example.com", "bücher.example"}

AUTHORITY = CertificateAuthority()


def certificate(kind: str, value: str) -> ClientCertificate:
    """A certificate with one SAN, or, where the row says so, with none."""
    if value.startswith("(in subject"):
        return AUTHORITY.issue("CN=api.example.com").client_certificate()
    if value.startswith("(uniform"):
        return AUTHORITY.issue(uris=["https://api.example.com"]).client_certificate()
    if value.endswith("(two entries)"):
        return AUTHORITY.issue(dns=value.removesuffix(" (two entries)").split(", ")).client_certificate()
    wanted = {"dns": x509.DNSName, "uri": x509.UniformResourceIdentifier, "email": x509.RFC822Name}
    entry = (
        x509.IPAddress(ip_address(str(ip_address(value))))
        if kind == "ip"
        else wanted[kind]._init_without_validation(value)
    )
    return AUTHORITY.issue(extensions=[(x509.SubjectAlternativeName([entry]), False)]).client_certificate()


@pytest.mark.shared
@pytest.mark.case("096", "097", "098", "099", "102")
@pytest.mark.parametrize(
    "row",
    shared.read_json("vectors/san.json").get("rows", ()),
    ids=lambda row: f"{row['registered']} {row['certificate']!a}",
)
def test_an_entry_matches_as_rfc_5280_says(row):
    kind, registered = row["type"], row["registered"]
    rule: type[Rule] = RULES[kind]
    if row["match"] == "refuse" or registered in REFUSED or ("/" in registered and kind == "ip"):
        with pytest.raises(ConfigurationError):
            rule(registered)
        return
    expected = row["match"] and row["certificate"] not in NOT_NORMALISED
    assert rule(registered).holds(certificate(kind, row["certificate"])) is expected


@pytest.mark.case("097")
def test_a_dns_entry_that_looks_like_an_address_is_not_an_address():
    assert not IPAddress("1.2.3.4").holds(AUTHORITY.issue(dns=["1.2.3.4"]).client_certificate())


@pytest.mark.case("098")
def test_types_are_never_mixed():
    uri = AUTHORITY.issue(uris=["a.example.com"]).client_certificate()
    assert not DNSName("a.example.com").holds(uri)


@pytest.mark.parametrize("kind", [x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name])
@pytest.mark.parametrize("value", ["a.example\0.evil", "a@example\n", "a\x1b[1m"])
def test_a_control_character_makes_all_names_unreadable(kind, value):
    san = x509.SubjectAlternativeName([kind._init_without_validation(value)])
    certificate = AUTHORITY.issue(extensions=[(san, False)]).client_certificate()
    with pytest.raises(MalformedCertificate):
        _ = certificate.dns_names
    assert not DNSName("a.example").holds(certificate)


def test_a_certificate_without_the_extension_has_no_names():
    assert alternative.read(AUTHORITY.issue().x509) == alternative.AlternativeNames()


def test_names_of_a_merely_presented_certificate_satisfy_no_rule():
    issued = AUTHORITY.issue(dns=["a.example"])
    assert DNSName("a.example").holds(issued.client_certificate())
    assert not DNSName("a.example").holds(issued.client_certificate(Verification.PRESENTED))
