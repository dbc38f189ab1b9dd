"""What each rule means, and that names need somebody who vouches for them."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from mtls_middleware import Verification
from mtls_middleware.policy import DNSName, Email, Presented, Rule, SpiffeTrustDomain, Subject, Thumbprint
from mtls_middleware.testing import CertificateAuthority
from tests.policy.rules import ISSUED, MATCHING, OTHERS, STRONGER, certificate, needs_no_chain


@pytest.mark.parametrize("verification", STRONGER)
@pytest.mark.parametrize("rule", MATCHING)
def test_rule_holds_for_what_it_names(rule: Rule, verification: Verification) -> None:
    assert rule.holds(certificate(verification))
    assert not (~rule).holds(certificate(verification))


@pytest.mark.parametrize("verification", STRONGER)
@pytest.mark.parametrize("rule", OTHERS)
def test_rule_holds_for_nothing_else(rule: Rule, verification: Verification) -> None:
    assert not rule.holds(certificate(verification))
    assert (~rule).holds(certificate(verification))


@pytest.mark.parametrize("rule", MATCHING + OTHERS)
@pytest.mark.case("025", "029")
def test_names_of_a_presented_certificate_cannot_be_known(rule: Rule) -> None:
    presented = certificate(Verification.PRESENTED)
    if needs_no_chain(rule):
        assert rule.holds(presented) is not (~rule).holds(presented)
        assert rule.may_accept_presented
        assert (~rule).may_accept_presented
    else:
        assert rule.evaluate(presented) is None
        assert not rule.holds(presented)
        assert not (~rule).holds(presented)
        assert not (~~rule).holds(presented)
        assert not rule.may_accept_presented
        assert not (~rule).may_accept_presented


# Certificates whose names cannot be read


def test_names_that_cannot_be_read_satisfy_nothing() -> None:
    """An x400Address in the SAN, which `cryptography` has no type for; an `rfc822Name` with a control character."""
    now = datetime.now(UTC)
    for names in (bytes.fromhex("3002a300"), bytes.fromhex("3005810361000a".replace("61000a", "61010a"))):
        extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names)
        issued = CertificateAuthority().issue(
            "CN=x", extensions=[(extension, False)], not_after=now + timedelta(days=1)
        )
        unreadable = issued.client_certificate()
        for rule in (DNSName("x"), ~DNSName("x"), SpiffeTrustDomain("x"), ~SpiffeTrustDomain("x"), Email("a@x")):
            assert not rule.holds(unreadable)
            assert not (rule | ~rule).holds(unreadable)
        assert Subject("CN=x").holds(unreadable)


def test_presented_shows_one_rule_what_the_client_wrote() -> None:
    presented = certificate(Verification.PRESENTED)
    assert Presented(DNSName("billing.internal")).holds(presented)
    assert not Presented(DNSName("other.internal")).holds(presented)
    assert (Presented(DNSName("billing.internal")) & Thumbprint(ISSUED.thumbprint)).holds(presented)
    assert not (Presented(DNSName("billing.internal")) & Subject("CN=billing,O=Acme")).holds(presented)
