"""Many rules joined by one operator."""

import functools
import operator

from mtls_middleware.policy import DNSName, Subject
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
