"""What is no rule is refused where it is written, and rules are values."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.policy import (
    URI,
    CertificatePolicy,
    DNSName,
    Email,
    ExtendedKeyUsage,
    IPAddress,
    Issuer,
    Presented,
    Rule,
    SpiffeID,
    SpiffeTrustDomain,
    Subject,
    SubjectAttribute,
    Thumbprint,
    UserPrincipalName,
    as_rule,
)
from tests.policy.rules import certificate

UPNS: list[Any] = [
    "",
    "alice",
    "@corp.example",
    "alice@",
    "a\0@corp.example",
    "a\u202e@c",
    "a\u200d@c",
    None,
    7,
    b"a@c",
]
UPNS += ["\ud800@c"]  # a lone surrogate, which no certificate can contain
BLANK = ["", " ", "\u00ad", "a\0", "a\nb", "a\u202eb", "\ud800", "\ue000", "\U0001fae0"]
NOT_OIDS: list[Any] = [
    "",
    "1",
    "1.",
    ".1.2",
    "1..2",
    "1.02",
    "1.2 ",
    "1.2\n",
    "\u0661.2",
    "oid:1.2",
    None,
    1.2,
    ["1.2"],
]
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Subject(""), "Subject("),
    (lambda: Subject("billing"), "Subject("),
    (lambda: Subject("CN=billing,O"), "Subject("),
    (lambda: Subject("/C=DE/CN=billing"), "Subject("),
    (lambda: Subject(None), "Subject("),
    (lambda: Issuer("CN=a,,O=b"), "Issuer("),
    (lambda: DNSName(""), "DNSName("),
    (lambda: DNSName("*.internal"), "DNSName("),
    (lambda: DNSName("billing.internal."), "DNSName("),
    (lambda: DNSName("bücher.example"), "DNSName("),
    (lambda: DNSName("a\x00b"), "DNSName("),
    (lambda: DNSName(["a"]), "DNSName("),
    (lambda: URI("billing"), "URI("),
    (lambda: URI("urn:b\x07"), "URI("),
    (lambda: IPAddress("192.0.2.0/24"), "IPAddress("),
    (lambda: IPAddress("192.0.2.07"), "IPAddress("),
    (lambda: IPAddress("billing.internal"), "IPAddress("),
    (lambda: Email("acme.example"), "Email("),
    (lambda: Email("@acme.example"), "Email("),
    (lambda: Email("ops@"), "Email("),
    *((lambda name=name: UserPrincipalName(name), "UserPrincipalName(") for name in UPNS),
    (lambda: SubjectAttribute("XX", "a"), "SubjectAttribute('XX', 'a'): 'XX' is not a known attribute type"),
    (lambda: SubjectAttribute("", "a"), "is not a known attribute type"),
    (lambda: SubjectAttribute("2.5.04.11", "a"), "is not a known attribute type"),
    (lambda: SubjectAttribute(None, "a"), "is not a known attribute type"),
    (lambda: SubjectAttribute("OU", None), "NoneType is not a string"),
    (lambda: SubjectAttribute("OU", ["infra"]), "list is not a string"),
    *((lambda value=value: SubjectAttribute("OU", value), "the value is blank") for value in BLANK),
    (lambda: SubjectAttribute("OU", "a" * 8_193), "8193 octets; expected at most 8192"),
    *((lambda oid=oid: CertificatePolicy(oid), "CertificatePolicy(") for oid in (*NOT_OIDS, "clientAuth")),
    *((lambda oid=oid: ExtendedKeyUsage(oid), "ExtendedKeyUsage(") for oid in (*NOT_OIDS, "ClientAuth", "client")),
    (lambda: SpiffeID("spiffe://acme.internal"), "SpiffeID("),
    (lambda: SpiffeID("spiffe://Acme.internal/x"), "SpiffeID("),
    (lambda: SpiffeID("https://acme.internal/x"), "SpiffeID("),
    (lambda: SpiffeID("spiffe://acme.internal/x/"), "SpiffeID("),
    (lambda: SpiffeTrustDomain("spiffe://acme.internal"), "SpiffeTrustDomain("),
    (lambda: SpiffeTrustDomain("acme.internal/x"), "SpiffeTrustDomain("),
    (lambda: SpiffeTrustDomain(""), "SpiffeTrustDomain("),
    (lambda: Thumbprint("a" * 64), "base64url"),
    (lambda: Thumbprint("A" * 43 + "="), "base64url"),
    (lambda: Thumbprint("A" * 42 + "+"), "base64url"),
    (lambda: Thumbprint("A" * 42 + "\n"), "base64url"),
    (lambda: Thumbprint(b"A" * 43), "base64url"),
    (lambda: as_rule("CN=billing"), "is not a rule"),
    (lambda: as_rule(Subject), "is not a rule"),
    (lambda: as_rule(None), "is not a rule"),
    (lambda: DNSName("a") & True, "is not a rule"),
    (lambda: Presented(DNSName("a") | DNSName("b")), "expected one rule about names"),
    (lambda: Presented(~DNSName("a")), "expected one rule about names"),
    (lambda: DNSName("a") and DNSName("b"), "combine rules with &"),
    (lambda: DNSName("a") or DNSName("b"), "combine rules with &"),
    (lambda: not DNSName("a"), "combine rules with &"),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_an_invalid_rule_raises_configuration_error(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        make()


def test_rules_are_values() -> None:
    assert Subject("CN=a") == Subject("CN=a") != Subject("CN=b")
    assert repr(DNSName("a") & ~URI("urn:b")) == "All(DNSName(name='a'), Not(rule=URI(uri='urn:b')))"
    assert ExtendedKeyUsage("clientAuth") == ExtendedKeyUsage("1.3.6.1.5.5.7.3.2") != ExtendedKeyUsage("serverAuth")
    assert repr(ExtendedKeyUsage("clientAuth")) == "ExtendedKeyUsage(usage='clientAuth')"
    assert repr(SubjectAttribute("OU", "infra")) == "SubjectAttribute(attribute='OU', value='infra')"
    assert len({DNSName("a") | DNSName("b"), DNSName("a") | DNSName("b")}) == 1


def test_nesting_of_rules_is_limited_at_construction() -> None:
    rule: Rule = DNSName("a")
    while rule.depth < 100:
        rule = ~rule if isinstance(rule, type(DNSName("a") & DNSName("b"))) else rule & DNSName("b")
    with pytest.raises(ConfigurationError, match="nested more than 100 levels deep"):
        _ = ~rule & DNSName("b")
    rule.judge(certificate())
    assert len(repr(rule)) < 10_000
