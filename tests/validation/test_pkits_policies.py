"""NIST PKITS 4.8 to 4.12, certificate policies: the expected result of each setting, in OpenSSL and here.

OpenSSL processes policies, so it has the expected result. This library does not process them. It accepts nothing that
is invalid without a required policy, which is its setting.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.validation.openssl_verify import verify
from tests.validation.test_pkits import AUTHORITIES, LISTS, NOW, PKITS, ROOT, lists_of_the_path
from tests.validation.verdicts import reasons


class Setting(NamedTuple):
    """A test of PKITS: the client, whether it is valid, and the input of the validation (RFC 5280 6.1.1).

    `policies`: the numbers of the policies in user-initial-policy-set; empty for any policy. `explicit`:
    initial-explicit-policy. `inhibit_mapping`: initial-policy-mapping-inhibit. `inhibit_any`:
    initial-any-policy-inhibit.
    """

    client: str
    is_valid: bool
    policies: tuple[int, ...] = ()
    explicit: bool = False
    inhibit_mapping: bool = False
    inhibit_any: bool = False

    @property
    def is_default(self) -> bool:
        return self == Setting(self.client, self.is_valid)


def settings() -> Iterator[Setting]:
    yield from _of_section_8()
    for client, valid, invalid in (
        ("ValidPolicyMappingTest1EE", 1, 2),
        ("ValidPolicyMappingTest3EE", 2, 1),
        ("ValidPolicyMappingTest5EE", 1, 6),
        ("ValidPolicyMappingTest6EE", 1, 6),
    ):
        yield Setting(client, True, (valid,))
        yield Setting(client, False, (invalid,))
    for policy in (1, 2):
        yield Setting("ValidPolicyMappingTest12EE", True, (policy,))
    yield Setting("ValidPolicyMappingTest1EE", False, inhibit_mapping=True)
    yield Setting("InvalidPolicyMappingTest2EE", False, inhibit_mapping=True)
    yield Setting("inhibitAnyPolicyTest3EE", True)
    yield Setting("inhibitAnyPolicyTest3EE", False, inhibit_any=True)
    names = [each.stem for each in sorted(PKITS.glob("certs/*EE.crt"))]
    for name in names:
        if re.match("(Valid|Invalid).*(olicyMapping|nhibitAnyPolicy|equireExplicitPolicy)", name):
            yield Setting(name, name.startswith("Valid"))


def _of_section_8() -> Iterator[Setting]:
    for policies, is_valid in (((), True), ((1,), True), ((2,), False), ((1, 2), True)):
        yield Setting("ValidCertificatePathTest1EE", is_valid, policies, explicit=True)
    yield Setting("AllCertificatesNoPoliciesTest2EE", True)
    yield Setting("AllCertificatesNoPoliciesTest2EE", False, explicit=True)
    yield Setting("DifferentPoliciesTest3EE", True)
    yield Setting("DifferentPoliciesTest3EE", False, explicit=True)
    yield Setting("DifferentPoliciesTest3EE", False, (1, 2), explicit=True)
    for number in (4, 5, 7, 8, 9, 12):
        yield Setting(f"DifferentPoliciesTest{number}EE", False)
    for policies, is_valid in (((), True), ((1,), True), ((2,), False)):
        yield Setting("OverlappingPoliciesTest6EE", is_valid, policies)
    for policies in ((), (1,), (2,)):
        yield Setting("AllCertificatesSamePoliciesTest10EE", True, policies)
    for policies in ((), (1,)):
        yield Setting("AllCertificatesanyPolicyTest11EE", True, policies)
    for policy in (1, 2, 3):
        yield Setting("AllCertificatesSamePoliciesTest13EE", True, (policy,))
    yield Setting("AnyPolicyTest14EE", True, (1,))
    yield Setting("AnyPolicyTest14EE", False, (2,))
    for number in (15, 16, 17, 19):
        yield Setting(f"UserNoticeQualifierTest{number}EE", True)
    for policy in (1, 2):
        yield Setting("UserNoticeQualifierTest18EE", True, (policy,))
    yield Setting("CPSPointerQualifierTest20EE", True)


SETTINGS = list(dict.fromkeys(settings()))
TRUST_ANCHOR = x509.load_der_x509_certificate((PKITS / "certs" / ROOT).read_bytes())


def read(setting):
    return x509.load_der_x509_certificate((PKITS / "certs" / f"{setting.client}.crt").read_bytes())


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The problems that OpenSSL finds in each setting. It runs once for all clients with the same input."""
    found = {}
    for _, group in groupby(sorted(SETTINGS, key=options), key=options):
        same = list(group)
        leaves = [read(each) for each in same]
        paths = {path for leaf in leaves for path in lists_of_the_path(leaf)}
        lists = [LISTS[path].public_bytes(Encoding.DER) for path in sorted(paths)]
        directory = tmp_path_factory.mktemp("openssl")
        results = verify(directory, [TRUST_ANCHOR], AUTHORITIES, lists, leaves, *options(same[0]), now=NOW)
        found.update(zip(same, results, strict=True))
    return found


def options(setting):
    policies = [f"2.16.840.1.101.3.2.1.48.{number}" for number in setting.policies] or ["anyPolicy"]
    found = ["-policy_check", "-crl_check_all", *(each for policy in policies for each in ("-policy", policy))]
    found += ["-explicit_policy"] * setting.explicit + ["-inhibit_map"] * setting.inhibit_mapping
    return found + ["-inhibit_any"] * setting.inhibit_any


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_openssl_has_the_expected_result(setting, theirs):
    assert (not theirs[setting]) == setting.is_valid, theirs[setting]


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.is_default], ids=lambda each: each.client)
def test_no_client_that_is_invalid_is_accepted_here(setting):
    leaf = read(setting)
    store = TrustStore(
        [TRUST_ANCHOR], intermediates=AUTHORITIES, revocation=RevocationLists(lists_of_the_path(leaf)), max_depth=8
    )
    found = reasons(store, ClientCertificate.from_der(leaf.public_bytes(Encoding.DER)), NOW)
    assert found or setting.is_valid


def test_the_suite_is_whole():
    assert len(SETTINGS) == 89
