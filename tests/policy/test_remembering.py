"""Many rules, and answers that are remembered."""

import functools
import operator

import pytest

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.policy import DNSName, Presented, Rule, Subject
from mtls_middleware.policy.rule import Remembering
from mtls_middleware.testing import IssuedCertificate


def test_ten_thousand_alternatives_are_one_row(mtls_client: IssuedCertificate) -> None:
    names = [DNSName(f"n{number}.internal") for number in range(10_000)]
    rule = functools.reduce(operator.or_, [*names, Subject(mtls_client.client_certificate().subject)])
    certificate = mtls_client.client_certificate()
    assert rule.holds(certificate)
    assert (~rule).holds(certificate) is False
    assert not functools.reduce(operator.and_, names).holds(certificate)
    assert len(repr(rule)) < 1000
    assert repr(rule).endswith("and 9993 more)")


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
