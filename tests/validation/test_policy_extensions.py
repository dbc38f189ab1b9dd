"""Extensions about policies, qualified certificates and purposes: what each of them causes, here and in OpenSSL."""

import re
import subprocess
import textwrap
import time
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.validation import TrustStore
from tests.chains.changes import qualified, unknown
from tests.chains.drafts import NOW, Draft
from tests.validation.openssl_verify import verify
from tests.validation.verdicts import reasons

OID = x509.ObjectIdentifier
MAPPINGS = OID("2.5.29.33")
POLICY, OTHER, ANY = OID("1.3.6.1.4.1.99999.7.1"), OID("1.3.6.1.4.1.99999.7.2"), OID("2.5.29.32.0")
CLIENT, ANY_PURPOSE = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
POLICIES = x509.CertificatePolicies([x509.PolicyInformation(POLICY, None)])
NOTICE = x509.CertificatePolicies([x509.PolicyInformation(POLICY, [x509.UserNotice(None, "a notice")])])
EXPLICIT, INHIBIT_MAPPING = x509.PolicyConstraints(0, None), x509.PolicyConstraints(None, 0)
NO_ANY = x509.InhibitAnyPolicy(0)
DIRECTORY = x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Acme"))], None)
ELSEWHERE = x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Evil"))], None)


def mapping(*policies):
    """A PolicyMappings extension with one pair."""
    encoded = [x509.CertificatePolicies([x509.PolicyInformation(each, None)]).public_bytes()[4:] for each in policies]
    content = b"".join(encoded)
    pair = bytes([0x30, len(content)]) + content
    return x509.UnrecognizedExtension(MAPPINGS, bytes([0x30, len(pair)]) + pair)


QUALIFIED, UNKNOWN = qualified(Random(0)), unknown(Random(0))
GOOD, NOT_PROCESSED, UNHANDLED = "", "critical extension", "unhandled critical extension"
NO_POLICY, INVALID = "no explicit policy", "invalid or inconsistent certificate policy extension"
UNSUITABLE, VIOLATION = "unsuitable certificate purpose", "permitted subtree violation"
CONSTRAINTS = "policyConstraints with requireExplicitPolicy, which is not supported"


def good_unless_critical(*extensions):
    """Rows for extensions that OpenSSL accepts, and that a trust store rejects only if they are critical."""
    for each in extensions:
        yield each, False, GOOD, GOOD, GOOD
        yield each, True, NOT_PROCESSED, GOOD, GOOD


# What the leaf has; whether this is critical; the reason here; the message of OpenSSL, without and with -policy_check.
OF_A_LEAF = [
    *good_unless_critical(POLICIES, NOTICE, INHIBIT_MAPPING, NO_ANY, mapping(POLICY, OTHER)),
    (QUALIFIED, False, GOOD, GOOD, GOOD),
    (QUALIFIED, True, NOT_PROCESSED, UNHANDLED, UNHANDLED),
    (EXPLICIT, False, CONSTRAINTS, GOOD, NO_POLICY),
    (EXPLICIT, True, CONSTRAINTS, GOOD, NO_POLICY),
    (mapping(ANY, OTHER), False, "policyMappings of anyPolicy", GOOD, INVALID),
    (x509.ExtendedKeyUsage([ANY_PURPOSE]), False, "extendedKeyUsage without clientAuth", UNSUITABLE, UNSUITABLE),
    (x509.ExtendedKeyUsage([ANY_PURPOSE, CLIENT]), False, GOOD, GOOD, GOOD),
    (x509.ExtendedKeyUsage([CLIENT]), True, GOOD, GOOD, GOOD),
    (UNKNOWN, False, GOOD, GOOD, GOOD),
    (UNKNOWN, True, NOT_PROCESSED, UNHANDLED, UNHANDLED),
]
# The same for what the CA has.
OF_A_CA = [
    *good_unless_critical(POLICIES, INHIBIT_MAPPING, NO_ANY, mapping(POLICY, OTHER)),
    (mapping(ANY, OTHER), False, "policyMappings of anyPolicy", GOOD, INVALID),
    (mapping(POLICY, ANY), False, "policyMappings of anyPolicy", GOOD, INVALID),
    (EXPLICIT, False, CONSTRAINTS, GOOD, NO_POLICY),
    (EXPLICIT, True, NOT_PROCESSED, GOOD, NO_POLICY),
    (x509.ExtendedKeyUsage([ANY_PURPOSE]), False, GOOD, UNSUITABLE, UNSUITABLE),
    (DIRECTORY, False, GOOD, GOOD, GOOD),
    (DIRECTORY, True, "unsupported directoryName", GOOD, GOOD),
    (ELSEWHERE, False, "not in the permitted directory names", VIOLATION, VIOLATION),
    (ELSEWHERE, True, "unsupported directoryName", VIOLATION, VIOLATION),
    (UNKNOWN, True, NOT_PROCESSED, UNHANDLED, UNHANDLED),
]  # fmt: skip


@pytest.mark.parametrize("row", OF_A_LEAF, ids=lambda row: f"{row[0].oid._name} {row[1]}")
def test_extensions_of_a_leaf(row, tmp_path):
    compare(row, None, tmp_path)


@pytest.mark.parametrize("place", ["intermediate", "root"])
@pytest.mark.parametrize("row", OF_A_CA, ids=lambda row: f"{row[0].oid._name} {row[1]}")
def test_extensions_of_a_ca(row, place, tmp_path):
    compare(row, place, tmp_path)


def compare(row, place, directory):
    extension, critical, ours, unchecked, checked = row
    root = Draft("CN=Root,O=Acme", 0, 1)
    between = Draft("CN=CA,O=Acme", 1, 2, root)
    leaf = Draft("CN=client,O=Acme", 2, 3, between, ca=False, usage=("digital_signature",))
    target = {None: leaf, "intermediate": between, "root": root}[place]
    target.more.append((extension, critical))
    if extension.oid == MAPPINGS:  # OpenSSL ignores them in a certificate without policies
        target.more.append((POLICIES, False))
    top, above, client = root.build(), between.build(), leaf.build()
    certificate = ClientCertificate.from_der(client.public_bytes(Encoding.DER))
    try:
        found = reasons(TrustStore([top], intermediates=[above]), certificate, NOW)
    except ConfigurationError as error:  # a root that can never validate
        assert place == "root"
        found = (str(error),)
    problems = [
        verify(directory, [top], [above], [], [client], *options, now=NOW)[0] for options in ((), ("-policy_check",))
    ]
    # OpenSSL processes no policies of a root.
    assert [each[0][1] if each else GOOD for each in problems] == [unchecked, unchecked if place == "root" else checked]
    assert ours in " ".join(found)
    assert bool(found) == bool(ours)


def test_a_certificate_of_your_own_for_the_key_of_a_ca_replaces_that_of_the_ca(tmp_path):
    partner = Draft("CN=Partner Root,O=Partner", 3, 1, ends=9_000)
    issuing = Draft("CN=Partner CA,O=Partner", 4, 2, partner, ends=9_000, more=[(EXPLICIT, True), (NO_ANY, True)])
    leaf = Draft("CN=client,O=Partner", 5, 3, issuing, ca=False, usage=("digital_signature",), ends=9_000)
    presented = ClientCertificate.from_der(
        leaf.build().public_bytes(Encoding.DER), chain=(issuing.build().public_bytes(Encoding.DER),)
    )
    assert NOT_PROCESSED in " ".join(reasons(TrustStore([partner.build()]), presented, time.time()))
    with pytest.raises(ConfigurationError, match=NOT_PROCESSED):
        TrustStore([issuing.build()])
    own = x509.load_pem_x509_certificate(own_certificate(issuing.build(), tmp_path))
    assert own.public_key() == issuing.build().public_key()
    assert reasons(TrustStore([tmp_path / "own-root.pem"], intermediates=[own]), presented, time.time()) == ()


def own_certificate(issuing, directory):
    """Run the commands of docs/validation.md, and return the PEM of the certificate that they make."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "validation.md").read_text("utf-8")
    (commands,) = [each for each in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "-force_pubkey" in each]
    (directory / "partner-ca.pem").write_bytes(issuing.public_bytes(Encoding.PEM))
    subprocess.run(
        ["sh", "-euc", textwrap.dedent("  " + commands.lstrip())], cwd=directory, check=True, capture_output=True
    )
    return (directory / "partner-ca-own.pem").read_bytes()
