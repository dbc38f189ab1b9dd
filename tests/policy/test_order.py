"""The order of joined rules never changes the result, whatever cannot be read or raises."""

import itertools
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.errors import Unavailable
from mtls_middleware.layers.paths import PathRules
from mtls_middleware.policy import (
    ANYONE,
    DNSName,
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
from mtls_middleware.rule import Combination, Not
from mtls_middleware.testing import CertificateAuthority
from tests.policy.rules import ISSUED, MATCHING, OTHERS, certificate

CA = CertificateAuthority()
NO_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ops\x07", _validate=False)])
UNKNOWN_NAME_FORM = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3002a300"))
CERTIFICATES = {
    "readable": ISSUED.der,
    "unreadable subject": CA.issue(NO_SUBJECT, dns=["billing.internal"]).der,
    "unreadable alternative names": CA.issue("CN=ops", extensions=[(UNKNOWN_NAME_FORM, False)]).der,
}


def loaded(case: str, verification: Verification = Verification.BY_PROXY) -> ClientCertificate:
    return ClientCertificate.from_der(CERTIFICATES[case], verification=verification)


class Unreadable(Rule):
    """A user's rule that lets the library's exception through."""

    def judge(self, certificate: ClientCertificate) -> bool | None:
        _ = loaded("unreadable subject").subject_name
        raise AssertionError("not reached")


def unavailable(_: ClientCertificate) -> bool:
    raise Unavailable("the directory is down", retry_after=5)


leaves = st.sampled_from(
    [
        *MATCHING,
        *OTHERS,
        Subject("CN=ops"),
        Presented(Subject("CN=ops")),
        Presented(DNSName("billing.internal")),
        Unreadable(),
        as_rule(lambda certificate: certificate.subject == "CN=ops"),
        as_rule(lambda _: 1 / 0 > 1),
        as_rule(lambda _: {}["x"]),
        as_rule(unavailable),
        as_rule(lambda _: None),
    ]
)


def joined(children: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
    rows = st.lists(children, min_size=2, max_size=3)
    return (
        rows.map(lambda row: row[0] & row[1] & row[-1])
        | rows.map(lambda row: row[0] | row[1] | row[-1])
        | children.map(lambda child: ~child)
    )


def permutations(rule: Rule) -> Iterator[Rule]:
    """The rule with its joined rules in every order, on every level."""
    if isinstance(rule, Combination):
        for order in itertools.permutations(rule.rules):
            for rules in itertools.product(*map(permutations, order)):
                yield type(rule)(rules)
    elif isinstance(rule, Not):
        for inner in permutations(rule.rule):
            yield ~inner
    else:
        yield rule


def result(rule: Rule, of: ClientCertificate) -> object:
    try:
        return rule.judge(of), rule.holds(of)
    except Exception as error:  # noqa: BLE001 (which one is part of the result)
        return type(error)


@given(
    rule=st.recursive(leaves, joined, max_leaves=6),
    case=st.sampled_from(sorted(CERTIFICATES)),
    verification=st.sampled_from(Verification),
)
def test_every_order_of_joined_rules_has_one_result(rule: Rule, case: str, verification: Verification) -> None:
    of = loaded(case, verification)
    some = itertools.islice(permutations(rule), 200)
    assert {result(each, of) for each in some} == {result(rule, of)}


def test_an_unreadable_subject_affects_no_other_rule() -> None:
    subject, name = Subject("CN=ops"), DNSName("billing.internal")
    of = loaded("unreadable subject")
    for rule in (subject | name, name | subject, ~subject | name, name | ~subject, Issuer("CN=x") | subject | name):
        assert rule.holds(of)
    for rule in (subject & name, name & subject, ~subject & name, subject, ~subject, ~~subject):
        assert rule.judge(of) is None
        assert not rule.holds(of)
    for rule in (subject & ~name, ~name & subject):
        assert rule.judge(of) is False
        assert (~rule).holds(of)
    assert (SubjectAttribute("CN", "ops") | name).holds(of)
    assert SubjectAttribute("CN", "ops").judge(of) is SubjectAttribute("OU", "ops").judge(of) is None


def test_unreadable_alternative_names_affect_no_other_rule() -> None:
    of = loaded("unreadable alternative names")
    for unknown in (
        DNSName("x"),
        UserPrincipalName("x@y"),
        SpiffeTrustDomain("x"),
        as_rule(lambda each: "x" in each.dns_names),
    ):
        assert unknown.judge(of) is None
        for rule in (unknown | Subject("CN=ops"), Subject("CN=ops") | unknown):
            assert rule.holds(of)


@pytest.mark.parametrize(
    "uris",
    [
        ["spiffe://td/a", "spiffe://td/b"],
        ["spiffe://td/a", "https://td/a"],
        ["spiffe://td"],
        ["SPIFFE://td/a"],
        ["spiffe://td/../a"],
    ],
)
def test_a_certificate_with_an_ambiguous_workload_matches_no_spiffe_rule(uris: list[str]) -> None:
    of = CA.issue("CN=ops", uris=uris).client_certificate()
    for rule in (SpiffeID("spiffe://td/a"), SpiffeTrustDomain("td"), SpiffeTrustDomain("other")):
        assert rule.judge(of) is None
        assert not (~rule).holds(of)
        assert (rule | Subject("CN=ops")).holds(of)
    without = CA.issue("CN=ops", uris=["https://td/a", "urn:x:1"]).client_certificate()
    assert (~SpiffeTrustDomain("td")).holds(without)


@pytest.mark.parametrize("order", list(itertools.permutations(["/", "/a", "/a/b", "/c", "/free"])))
def test_an_unknown_result_allows_no_path_in_any_order_of_the_paths(order: tuple[str, ...]) -> None:
    subject, name = Subject("CN=ops"), DNSName("billing.internal")
    named = {"/": subject | name, "/a": ~subject, "/a/b": subject & name, "/c": ~(subject & ~name), "/free": ANYONE}
    rules = PathRules({path: named[path] for path in order})
    paths = ["/", "/x", "/a", "/a/x", "/a/b", "/a/b/c", "/ab", "/c", "/free"]
    allowed = {path for path in paths if allows(rules, path)}
    assert allowed == {"/", "/x", "/ab", "/c", "/free"}


def allows(rules: PathRules, path: str) -> bool:
    rule = rules.of(path)
    return not isinstance(rule, Rule) or rule.holds(loaded("unreadable subject"))


def test_a_rule_that_raises_counts_only_if_the_others_do_not_decide() -> None:
    broken = as_rule(lambda _: 1 / 0 > 1)
    yes, no = Thumbprint(ISSUED.thumbprint), Thumbprint("A" * 43)
    for rule in (broken | yes, yes | broken, ~(broken & no), ~(no & broken)):
        assert rule.holds(certificate())
    for rule in (broken & no, no & broken):
        assert not rule.holds(certificate())
    for rule in (broken | no, no | broken, broken & yes, yes & broken, ~broken, ~(yes & broken)):
        with pytest.raises(ZeroDivisionError):
            rule.holds(certificate())


def test_a_defect_comes_before_a_refusal_in_every_order() -> None:
    broken = as_rule(lambda _: 1 / 0 > 1)
    for rule in (broken | unavailable, unavailable | broken, broken & unavailable, unavailable & broken):
        with pytest.raises(ZeroDivisionError):
            rule.holds(certificate())
