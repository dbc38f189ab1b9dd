"""Callables as rules: joined from both sides, and none of them a yes by accident."""

from typing import Any

import pytest

from mtls_middleware import ClientCertificate, ConfigurationError, Verification
from mtls_middleware.policy import DNSName, Presented, as_rule
from tests.policy.rules import ISSUED, certificate


class Callable_:  # noqa: N801 (a rule that is an object)
    def __call__(self, certificate: ClientCertificate) -> bool:
        return certificate.thumbprint == ISSUED.thumbprint


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


def test_a_coroutine_is_not_a_rule_result() -> None:
    """And it is closed: with warnings as errors, one that was never awaited would fail here."""
    hidden = as_rule(lambda certificate: coroutine(certificate))  # noqa: PLW0108 (it hides the coroutine)
    for rule in (hidden, ~hidden, Presented(hidden)):
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
