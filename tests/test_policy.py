"""Rules: what each one means, Kleene's logic over them, and that names need somebody who vouches for them."""

import functools
import itertools
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate, ConfigurationError, Verification
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
from mtls_middleware.policy.rule import Remembering
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

STRONGER = [each for each in Verification if each is not Verification.PRESENTED]


def certificate(verification: Verification = Verification.BY_PROXY) -> ClientCertificate:
    return _ISSUED.client_certificate(verification)


_ISSUED = CertificateAuthority("CN=Acme Client CA,O=Acme").issue(
    "CN=billing,O=Acme",
    dns=["billing.internal", "*.wild.internal"],
    uris=["spiffe://acme.internal/billing"],
    ip_addresses=["192.0.2.7", "2001:db8::1"],
    emails=["Ops@Acme.example"],
)
MATCHING: list[Rule] = [
    Subject("CN=billing,O=Acme"),
    Subject("cn=Billing,o=ACME"),  # RFC 5280 7.1, RFC 4514 3: names are parsed, case is folded
    Issuer("CN=Acme Client CA,O=Acme"),
    DNSName("billing.internal"),
    DNSName("BILLING.Internal"),
    URI("spiffe://acme.internal/billing"),
    IPAddress("192.0.2.7"),
    IPAddress("2001:DB8:0::1"),
    IPAddress(ip_address("192.0.2.7")),
    Email("Ops@acme.EXAMPLE"),
    SpiffeID("spiffe://acme.internal/billing"),
    SpiffeTrustDomain("acme.internal"),
    Thumbprint(_ISSUED.thumbprint),
    as_rule(lambda certificate: certificate.subject == "CN=billing,O=Acme"),
]
OTHERS: list[Rule] = [
    Subject("CN=billing"),
    Subject("O=Acme,CN=billing"),
    Subject("CN=billing+O=Acme"),
    Issuer("CN=billing,O=Acme"),
    DNSName("internal"),
    DNSName("a.billing.internal"),
    DNSName("a.wild.internal"),  # a wildcard in the certificate is a character like others
    DNSName("billing"),  # the CN is no host name
    URI("spiffe://acme.internal/Billing"),
    URI("spiffe://acme.internal/billing/"),
    IPAddress("192.0.2.8"),
    IPAddress("::ffff:192.0.2.7"),
    Email("ops@acme.example"),
    SpiffeID("spiffe://acme.internal/billing/x"),
    SpiffeTrustDomain("internal"),
    SpiffeTrustDomain("acme.internal.evil"),
    Thumbprint("A" * 43),
    as_rule(lambda certificate: False),
]


def needs_no_chain(rule: Rule) -> bool:
    return isinstance(rule, Thumbprint)


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
        assert rule.judge(presented) is None
        assert not rule.holds(presented)
        assert not (~rule).holds(presented)
        assert not (~~rule).holds(presented)
        assert not rule.may_accept_presented
        assert not (~rule).may_accept_presented


@dataclass(frozen=True)
class Fixed(Rule):
    """Answers as it is told, and says beforehand which answers a presented certificate can get."""

    answer: bool | None

    @property
    def may_accept_presented(self) -> bool:  # type: ignore[override]
        return self.answer is not None

    @property
    def may_reject_presented(self) -> bool:  # type: ignore[override]
        return self.answer is not None

    def judge(self, certificate: ClientCertificate) -> bool | None:
        return self.answer


# Kleene's strong logic: unknown only where the unknown one would decide.
AND = {
    (True, True): True, (True, False): False, (True, None): None,
    (False, True): False, (False, False): False, (False, None): False,
    (None, True): None, (None, False): False, (None, None): None,
}  # fmt: skip
OR = {
    (True, True): True, (True, False): True, (True, None): True,
    (False, True): True, (False, False): False, (False, None): None,
    (None, True): True, (None, False): None, (None, None): None,
}  # fmt: skip


@pytest.mark.parametrize(("left", "right"), list(itertools.product([True, False, None], repeat=2)))
def test_operators_follow_kleene(left: bool | None, right: bool | None) -> None:
    one, other = Fixed(left), Fixed(right)
    assert (one & other).judge(certificate()) is AND[left, right]
    assert (one | other).judge(certificate()) is OR[left, right]
    assert (~one).judge(certificate()) is (None if left is None else not left)
    assert (one & other).holds(certificate()) is (AND[left, right] is True)


leaves_of_identity = st.sampled_from([each for each in MATCHING + OTHERS if not needs_no_chain(each)])
leaves = st.sampled_from(
    [
        *MATCHING,
        *OTHERS,
        Presented(DNSName("billing.internal")),
        Presented(lambda _: False),
        Presented(lambda _: 1),  # type: ignore[arg-type, return-value]
    ]
)


def trees(of: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
    def deeper(children: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
        pairs = st.tuples(children, children)
        return (
            pairs.map(lambda pair: pair[0] & pair[1])
            | pairs.map(lambda pair: pair[0] | pair[1])
            | children.map(lambda child: ~child)
        )

    return st.recursive(of, deeper, max_leaves=12)


@given(rule=trees(leaves_of_identity))
@pytest.mark.case("025")
def test_no_tree_of_identity_rules_accepts_a_presented_certificate(rule: Rule) -> None:
    assert not rule.may_accept_presented
    assert rule.judge(certificate(Verification.PRESENTED)) is None


@given(rule=trees(leaves))
def test_what_may_not_accept_presented_never_does(rule: Rule) -> None:
    answer = rule.judge(certificate(Verification.PRESENTED))
    assert rule.may_accept_presented or answer is not True
    assert rule.may_reject_presented or answer is not False


@given(rule=trees(st.sampled_from(MATCHING + OTHERS)), verification=st.sampled_from(STRONGER))
def test_of_a_verified_certificate_everything_is_known(rule: Rule, verification: Verification) -> None:
    answer = rule.judge(certificate(verification))
    assert answer in (True, False)
    assert (~rule).judge(certificate(verification)) is (not answer)


# Callables


class Callable_:  # noqa: N801 (a rule that is an object)
    def __call__(self, certificate: ClientCertificate) -> bool:
        return certificate.thumbprint == _ISSUED.thumbprint


def test_callables_join_from_both_sides() -> None:
    def yes(_certificate: ClientCertificate) -> bool:
        return True

    dns = DNSName("billing.internal")
    for rule in (yes & dns, dns & yes, yes | ~dns, ~dns | yes, as_rule(Callable_())):
        assert rule.holds(certificate())
        assert not rule.holds(certificate(Verification.PRESENTED))


async def coroutine(_certificate: ClientCertificate) -> bool:
    return True


@pytest.mark.parametrize("answer", [1, "yes", object(), [True], None, 0, "", ..., NotImplemented])
def test_only_true_itself_is_a_yes(answer: Any) -> None:
    rule = as_rule(lambda _: answer)
    for each in (rule, ~rule, rule & rule, rule | rule, ~(rule | ~rule), Presented(lambda _: answer)):
        assert not each.holds(certificate())


def test_coroutine_that_nobody_awaits_is_no_answer() -> None:
    """And it is closed: with warnings as errors, one that was never awaited would fail here."""
    hidden = as_rule(lambda certificate: coroutine(certificate))  # type: ignore[arg-type, return-value]  # noqa: PLW0108
    for rule in (hidden, ~hidden, Presented(hidden)):  # type: ignore[arg-type]
        assert not rule.holds(certificate())


class AsyncCallable:
    async def __call__(self, certificate: ClientCertificate) -> bool:
        return True


@pytest.mark.parametrize("rule", [coroutine, AsyncCallable()])
def test_async_callables_are_refused_at_once(rule: Any) -> None:
    for make in (as_rule, Presented, lambda each: DNSName("x") & each):
        with pytest.raises(ConfigurationError, match="is async"):
            make(rule)


def test_callable_never_sees_what_is_merely_presented() -> None:
    seen: list[ClientCertificate] = []

    def watch(each: ClientCertificate) -> bool:
        seen.append(each)
        return True

    assert not as_rule(watch).holds(certificate(Verification.PRESENTED))
    assert not seen
    assert Presented(watch).holds(certificate(Verification.PRESENTED))
    assert len(seen) == 1


def test_exception_of_a_callable_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        as_rule(lambda _: 1 / 0 > 1).holds(certificate())


def test_presented_shows_one_rule_what_the_client_wrote() -> None:
    presented = certificate(Verification.PRESENTED)
    assert Presented(DNSName("billing.internal")).holds(presented)
    assert not Presented(DNSName("other.internal")).holds(presented)
    assert (Presented(DNSName("billing.internal")) & Thumbprint(_ISSUED.thumbprint)).holds(presented)
    assert not (Presented(DNSName("billing.internal")) & Subject("CN=billing,O=Acme")).holds(presented)


# Construction

WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Subject(""), "Subject("),
    (lambda: Subject("billing"), "Subject("),
    (lambda: Subject("CN=billing,O"), "Subject("),
    (lambda: Subject("/C=DE/CN=billing"), "Subject("),
    (lambda: Subject(None), "Subject("),  # type: ignore[arg-type]
    (lambda: Issuer("CN=a,,O=b"), "Issuer("),
    (lambda: DNSName(""), "DNSName("),
    (lambda: DNSName("*.internal"), "DNSName("),
    (lambda: DNSName("billing.internal."), "DNSName("),
    (lambda: DNSName("bücher.example"), "DNSName("),
    (lambda: DNSName("a\x00b"), "DNSName("),
    (lambda: DNSName(["a"]), "DNSName("),  # type: ignore[arg-type]
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
    (lambda: Thumbprint(b"A" * 43), "base64url"),  # type: ignore[arg-type]
    (lambda: as_rule("CN=billing"), "is no rule"),  # type: ignore[arg-type]
    (lambda: as_rule(Subject), "is no rule"),  # type: ignore[arg-type]
    (lambda: as_rule(None), "is no rule"),  # type: ignore[arg-type]
    (lambda: DNSName("a") & True, "is no rule"),  # type: ignore[operator]
    (lambda: Presented(DNSName("a") | DNSName("b")), "wrap the single rule"),  # type: ignore[arg-type]
    (lambda: Presented(~DNSName("a")), "wrap the single rule"),  # type: ignore[arg-type]
    (lambda: DNSName("a") and DNSName("b"), "join rules by &"),
    (lambda: DNSName("a") or DNSName("b"), "join rules by &"),
    (lambda: not DNSName("a"), "join rules by &"),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_rule_put_together_wrongly_says_so(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        make()


def test_rules_are_values() -> None:
    assert Subject("CN=a") == Subject("CN=a") != Subject("CN=b")
    assert repr(DNSName("a") & ~URI("urn:b")) == "All(DNSName(name='a'), Not(rule=URI(uri='urn:b')))"
    assert len({DNSName("a") | DNSName("b"), DNSName("a") | DNSName("b")}) == 1


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


# Many rules, and answers that are remembered


def test_ten_thousand_alternatives_are_one_row(mtls_client: IssuedCertificate) -> None:
    names = [DNSName(f"n{number}.internal") for number in range(10_000)]
    rule = functools.reduce(operator.or_, [*names, Subject(mtls_client.client_certificate().subject)])
    certificate = mtls_client.client_certificate()
    assert rule.holds(certificate)
    assert (~rule).holds(certificate) is False
    assert not functools.reduce(operator.and_, names).holds(certificate)
    assert len(repr(rule)) < 1000
    assert repr(rule).endswith("and 9993 more)")


def test_rules_within_rules_have_a_limit_that_is_told_at_construction() -> None:
    rule: Rule = DNSName("a")
    while rule.depth < 100:
        rule = ~rule if isinstance(rule, type(DNSName("a") & DNSName("b"))) else rule & DNSName("b")
    with pytest.raises(ConfigurationError, match="more than 100 rules within each other"):
        _ = ~rule & DNSName("b")
    rule.judge(certificate())
    assert len(repr(rule)) < 10_000


def test_an_identity_rule_is_asked_once_of_each_certificate_and_verification(
    mtls_client: IssuedCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Verification] = []
    matches = Subject.matches

    def counted(self: Subject, certificate: ClientCertificate) -> bool:
        asked.append(certificate.verification)
        return matches(self, certificate)

    monkeypatch.setattr(Subject, "matches", counted)
    rule = Remembering(Subject(mtls_client.client_certificate().subject) & ~DNSName("other.internal"))
    certificate = mtls_client.client_certificate()
    presented = certificate.vouched_for(Verification.PRESENTED)
    for _ in range(3):
        assert rule(certificate)
        assert not rule(presented)
    assert rule(presented.vouched_for(Verification.BY_TRUST_STORE))
    assert asked == [Verification.BY_SERVER, Verification.BY_TRUST_STORE]


def test_a_callable_is_asked_every_time_also_among_rules(mtls_client: IssuedCertificate) -> None:
    answers = iter([True, False, True])
    certificate = mtls_client.client_certificate()
    rule = Remembering(Subject(mtls_client.client_certificate().subject) & (lambda _: next(answers)))
    assert [rule(certificate) for _ in range(3)] == [True, False, True]
    presented = iter([True, False])
    rule = Remembering(Presented(lambda _: next(presented)) | DNSName("other.internal"))
    assert [rule(certificate) for _ in range(2)] == [True, False]


def test_a_rule_of_somebody_elses_is_asked_every_time(mtls_client: IssuedCertificate) -> None:
    answers = iter([True, False])

    class Fickle(Rule):
        def judge(self, certificate: ClientCertificate) -> bool | None:
            return next(answers)

    rule = Remembering(Fickle())
    assert [rule(mtls_client.client_certificate()) for _ in range(2)] == [True, False]
