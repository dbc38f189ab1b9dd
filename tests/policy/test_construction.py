"""What is no rule is refused where it is written, and rules are values."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.policy import (
    URI,
    DNSName,
    Email,
    IPAddress,
    Issuer,
    Presented,
    Rule,
    SpiffeID,
    SpiffeTrustDomain,
    Subject,
    Thumbprint,
    as_rule,
)
from tests.policy.rules import certificate

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
    assert len({DNSName("a") | DNSName("b"), DNSName("a") | DNSName("b")}) == 1


def test_nesting_of_rules_is_limited_at_construction() -> None:
    rule: Rule = DNSName("a")
    while rule.depth < 100:
        rule = ~rule if isinstance(rule, type(DNSName("a") & DNSName("b"))) else rule & DNSName("b")
    with pytest.raises(ConfigurationError, match="nested more than 100 levels deep"):
        _ = ~rule & DNSName("b")
    rule.judge(certificate())
    assert len(repr(rule)) < 10_000
