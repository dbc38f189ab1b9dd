"""docs/rules.md is true: its code runs, and its tables name every rule and every property."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from mtls_middleware import ClientCertificate, Verification, policy
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.policy import Rule, as_rule
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.validation import TrustStore
from tests.exports import exported

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "rules.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NO_RULES = {"ANYONE", "Presented", "Rule", "as_rule"}
RULES = "|".join(sorted(set(policy.__all__) - NO_RULES))
CALLS = re.findall(rf"^\|.*?`((?:{RULES})\(.*?\))` \|", PAGE, re.MULTILINE)
STAFF = CertificateAuthority("CN=Staff CA,O=Acme")


@pytest.fixture(autouse=True)
def _authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("staff-ca.pem", "partner-ca.pem"):
        (tmp_path / name).write_text(STAFF.pem)
    monkeypatch.chdir(tmp_path)


def validated(issued: IssuedCertificate, *authorities: CertificateAuthority) -> ClientCertificate:
    store = TrustStore([each.certificate for each in authorities])
    return BlockingDriver().run(store.validate(issued.client_certificate(Verification.PRESENTED), time.time()))


def test_the_first_example_allows_what_it_says() -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS[0], names)
    allow: Rule = names["allow"]
    alice, other = {"user_principal_names": ["alice@CORP.example"]}, CertificateAuthority()
    hardware = {"policies": ["2.16.840.1.101.3.2.1.3.13"]}
    assert allow.holds(validated(STAFF.issue(**alice), STAFF, other))
    assert not allow.holds(validated(other.issue(**alice), STAFF, other))
    assert not allow.holds(STAFF.issue(**alice).client_certificate())  # no trust store has validated a path
    assert allow.holds(other.issue("CN=x,OU=infra", **hardware).client_certificate())
    assert not allow.holds(other.issue("CN=x,OU=infra").client_certificate())
    assert allow.holds(other.issue(dns=["billing.internal"]).client_certificate())


def test_the_example_for_a_card_matches_its_fasc_n() -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS[1], names)
    oid, der = names["FASC_N"]
    for value, result in ((der, True), (der[:-1] + b"\0", False)):
        name = x509.OtherName(x509.ObjectIdentifier(oid), value)
        card = STAFF.issue(extensions=[(x509.SubjectAlternativeName([name]), False)]).client_certificate()
        assert as_rule(names["is_this_card"]).holds(card) is result
    assert len(BLOCKS) == 2


def test_the_tables_name_every_rule() -> None:
    assert {each.partition("(")[0] for each in CALLS} == set(policy.__all__) - NO_RULES


@pytest.mark.parametrize("call", CALLS)
def test_every_rule_of_the_tables_can_be_made(call: str) -> None:
    thumbprint = STAFF.issue().thumbprint
    assert isinstance(eval(call.replace("A4DtL2Jm...", thumbprint), exported(policy)), Rule)


def test_every_property_of_the_table_exists() -> None:
    names = re.findall(r"\| `(\w+)(?:\(\"\w+\"\))?`[^|]*\| [^|]*\|$", PAGE, re.MULTILINE)
    assert len(names) == 6
    assert all(hasattr(ClientCertificate, name) for name in names)
