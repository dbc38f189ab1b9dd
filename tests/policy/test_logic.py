"""Kleene's logic over rules."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.policy import DNSName, Presented, Rule
from tests.policy.rules import MATCHING, OTHERS, STRONGER, certificate, needs_no_chain


@dataclass(frozen=True)
class Fixed(Rule):
    """Answers as it is told, and says beforehand which answers a presented certificate can get."""

    answer: bool | None

    @property
    def may_accept_presented(self) -> bool:
        return self.answer is not None

    @property
    def may_reject_presented(self) -> bool:
        return self.answer is not None

    def evaluate(self, certificate: ClientCertificate) -> bool | None:
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
    assert (one & other).evaluate(certificate()) is AND[left, right]
    assert (one | other).evaluate(certificate()) is OR[left, right]
    assert (~one).evaluate(certificate()) is (None if left is None else not left)
    assert (one & other).holds(certificate()) is (AND[left, right] is True)


leaves_of_identity = st.sampled_from([each for each in MATCHING + OTHERS if not needs_no_chain(each)])
leaves = st.sampled_from(
    [
        *MATCHING,
        *OTHERS,
        Presented(DNSName("billing.internal")),
        Presented(lambda _: False),
        Presented(lambda _: 1),
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
    assert rule.evaluate(certificate(Verification.PRESENTED)) is None


@given(rule=trees(leaves))
def test_what_may_not_accept_presented_never_does(rule: Rule) -> None:
    answer = rule.evaluate(certificate(Verification.PRESENTED))
    assert rule.may_accept_presented or answer is not True
    assert rule.may_reject_presented or answer is not False


@given(rule=trees(st.sampled_from(MATCHING + OTHERS)), verification=st.sampled_from(STRONGER))
def test_of_a_verified_certificate_everything_is_known(rule: Rule, verification: Verification) -> None:
    answer = rule.evaluate(certificate(verification))
    assert answer in (True, False)
    assert (~rule).evaluate(certificate(verification)) is (not answer)
