"""Rules of somebody else's, and rules of ours that somebody has changed: none of them may turn into a yes."""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware import ClientCertificate, Verification, policy
from mtls_middleware.policy import DNSName, Rule, Thumbprint
from mtls_middleware.testing import IssuedCertificate

ASKED: list[Any] = []


class Answers(Rule):
    """What it was told to answer, be it an answer or not."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def judge(self, certificate: ClientCertificate) -> Any:
        answer = self._make()
        ASKED.append(answer)
        return answer


async def _looked_up() -> bool:
    return False


def _generated() -> Iterator[bool]:
    yield False


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while ASKED:
        if asyncio.iscoroutine(answer := ASKED.pop()):
            answer.close()


NO_ANSWERS: dict[str, Callable[[], Any]] = {
    "coroutine": _looked_up,
    "generator": _generated,
    "match": lambda: re.match("", ""),
    "one": lambda: 1,
    "zero": lambda: 0,
    "text": lambda: "no",
    "nothing": lambda: "",
    "none": lambda: None,
}


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_a_rule_that_gives_no_boolean_admits_no_client_in_any_expression(
    case: str, mtls_client: IssuedCertificate
) -> None:
    certificate = mtls_client.client_certificate(Verification.BY_PROXY)
    asked, yes, no = Answers(NO_ANSWERS[case]), Thumbprint(certificate.thumbprint), DNSName("other.internal")
    assert yes.holds(certificate)
    assert (~no).holds(certificate)
    for rule in (
        asked, ~asked, ~~asked, asked & yes, yes & asked, asked & asked & yes, asked | no, no | asked, ~(asked | no),
        ~(no | asked), ~(asked & yes), ~(yes & asked), ~(~asked | no), (asked | no) & yes, ~(asked | asked) & yes,
    ):  # fmt: skip
        assert not rule.holds(certificate), rule
    assert (asked | yes).holds(certificate)
    assert not (asked & no).holds(certificate)


NAMED: list[tuple[type[Any], tuple[Any, ...]]] = [
    (policy.Subject, ("CN=client,O=Tests",)),
    (policy.Issuer, ("CN=ca",)),
    (policy.DNSName, ("billing.internal",)),
    (policy.URI, ("urn:acme",)),
    (policy.IPAddress, ("192.0.2.7",)),
    (policy.Email, ("ops@acme.example",)),
    (policy.UserPrincipalName, ("alice@corp.example",)),
    (policy.SubjectAttribute, ("OU", "infra")),
    (policy.CertificatePolicy, ("1.2.3",)),
    (policy.ExtendedKeyUsage, ("clientAuth",)),
    (policy.SpiffeID, ("spiffe://acme.internal/billing",)),
    (policy.SpiffeTrustDomain, ("acme.internal",)),
    (policy.Thumbprint, ("A" * 43,)),
    (policy.Presented, (DNSName("billing.internal"),)),
]


@pytest.mark.parametrize(("ours", "arguments"), NAMED, ids=[each.__name__ for each, _ in NAMED])
def test_a_subclass_of_a_builtin_rule_is_called_on_every_request(
    ours: Any, arguments: Any, mtls_client: IssuedCertificate
) -> None:
    """What it asks for more, such as a list of those who left, may change from one request to the next."""
    employed = [True, True, False]

    class Employed(ours):
        def judge(self, certificate: ClientCertificate) -> bool:
            return employed.pop(0)

    class Inherited(Employed):
        pass

    certificate = mtls_client.client_certificate()
    assert ours(*arguments).depends_only_on_certificate
    for made in (Employed, Inherited):
        rule = made(*arguments)
        for joined in (rule, rule & ~~rule, Thumbprint(certificate.thumbprint) & rule):
            employed[:] = [True, True, False, False]
            assert not joined.depends_only_on_certificate
            assert joined.holds(certificate)
            employed[:] = [False, False]
            assert not joined.holds(certificate)
