"""Each cause of a failed validation has its own words in the log, and the position of the certificate in the path.

Reports: pyca/cryptography#12654, pyca/cryptography#12109.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.validation import TrustStore
from tests.validation.unusual_certificates import usage
from tests.validation.verdicts import reasons

NOW = float(int(time.time()))
DAY = 86_400
SHA256 = hashes.SHA256()
UTF8, PRINTABLE = x509.name._ASN1Type.UTF8String, x509.name._ASN1Type.PrintableString


def name(text: str, kind: x509.name._ASN1Type = UTF8) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _type=kind)])


class Party(NamedTuple):
    """A certificate, its key, and the CA that issued it."""

    x509: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.x509.public_bytes(Encoding.DER)


def issue(
    subject: x509.Name | str,
    by: Party | None = None,
    *,
    ca: bool = False,
    issuer: x509.Name | None = None,
    period: tuple[float, float] = (-DAY, DAY),
    path_length: int | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
) -> Party:
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = key if by is None else by.key
    subject = name(subject) if isinstance(subject, str) else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or (subject if by is None else by.x509.subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(NOW + period[0], UTC))
        .not_valid_after(datetime.fromtimestamp(NOW + period[1], UTC))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return Party(builder.sign(signer, SHA256), key)


ROOT = issue("Root", ca=True)
MIDDLE = issue("Middle", ROOT, ca=True)
SAN = x509.SubjectAlternativeName([x509.DNSName("evil.example"), x509.IPAddress(IPv4Network("10.0.0.1/32")[0])])


class Case(NamedTuple):
    """What a client presents, and the words that the log has."""

    leaf: Party
    chain: Sequence[Party] = ()
    roots: Sequence[Party] = (ROOT,)
    words: Sequence[str] = ()
    absent: str = "no such words"


def foreign() -> Case:
    return Case(issue("x", issue("Foreign", ca=True)), words=["unknown issuer", "Root", "key identifier"])


def foreign_root_presented() -> Case:
    other = issue("Foreign", ca=True)
    return Case(issue("x", other), [other], words=["CA 1 above", "unknown issuer: the certificate is self-signed"])


def self_signed() -> Case:
    return Case(issue("x"), words=["unknown issuer: the certificate is self-signed, and not a root"])


def missing_intermediate() -> Case:
    return Case(issue("x", MIDDLE), words=["missing intermediate", "key identifier"])


def missing_intermediate_known_from_its_identifier() -> Case:
    identifier = x509.AuthorityKeyIdentifier(b"1", [x509.DirectoryName(ROOT.x509.subject)], MIDDLE.x509.serial_number)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name("x"))
        .issuer_name(MIDDLE.x509.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(NOW - DAY, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW + DAY, UTC))
        .add_extension(identifier, critical=False)
        .sign(MIDDLE.key, SHA256)
    )
    return Case(Party(leaf, key), words=["missing intermediate: the CA with the key identifier 31"], absent="unknown")


def second_intermediate_missing() -> Case:
    low = issue("Low", MIDDLE, ca=True)
    return Case(issue("x", low), [low], words=["CA 1 above", "missing intermediate"])


def spelt_with_another_type() -> Case:
    return Case(issue("x", ROOT, issuer=name("Root", PRINTABLE)), words=["issuer spelt differently"])


def spelt_in_another_case() -> Case:
    return Case(issue("x", ROOT, issuer=name("ROOT")), words=["issuer spelt differently"])


def spelt_with_more_blanks() -> Case:
    middle = issue("Middle CA", ROOT, ca=True)
    return Case(issue("x", middle, issuer=name("Middle  CA")), [middle], words=["issuer spelt differently"])


def spelt_differently_above() -> Case:
    middle = issue("Middle", ROOT, ca=True, issuer=name("root"))
    return Case(issue("x", middle), [middle], words=["CA 1 above", "issuer spelt differently"])


def renewed_key() -> Case:
    return Case(issue("x", issue("Root", ca=True)), words=["unknown issuer", "another key", "signature does not match"])


def expired() -> Case:
    return Case(issue("x", ROOT, period=(-2 * DAY, -DAY)), words=["expired: it ended 86400 s ago"])


def not_yet_valid() -> Case:
    return Case(issue("x", ROOT, period=(DAY, 2 * DAY)), words=["not yet valid: it begins in 86400 s"])


def expired_intermediate() -> Case:
    middle = issue("Middle", ROOT, ca=True, period=(-2 * DAY, -DAY))
    return Case(issue("x", middle), [middle], words=["CA 1 above the client's certificate: expired"])


def expired_root() -> Case:
    root = issue("Old", ca=True, period=(-2 * DAY, -DAY))
    return Case(issue("x", root), roots=[root], words=["CA 1 above the client's certificate: expired"])


RSA_ROOT = issue("RSA", ca=True, key=rsa.generate_private_key(65537, 2048))


def with_sha_1(party: Party) -> Party:
    """Sign again with SHA-1, which `cryptography` does not do: only the last octet of the algorithm's OID differs."""
    sha_256, sha_1 = (x509.ObjectIdentifier(f"1.2.840.113549.1.1.{arc}") for arc in (11, 5))
    assert party.x509.signature_algorithm_oid == sha_256
    before, after = (bytes.fromhex("2a864886f70d0101") + bytes([arc]) for arc in (11, 5))
    data = party.x509.tbs_certificate_bytes.replace(before, after)
    signature = RSA_ROOT.key.sign(data, padding.PKCS1v15(), hashes.SHA1())
    der = party.der.replace(before, after).replace(party.x509.signature, signature)
    changed = x509.load_der_x509_certificate(der)
    assert changed.signature_algorithm_oid == sha_1
    return Party(changed, party.key)


def sha_1() -> Case:
    return Case(with_sha_1(issue("x", RSA_ROOT)), roots=[RSA_ROOT], words=["weak signature", "sha1"])


def sha_1_above() -> Case:
    middle = with_sha_1(issue("Middle", RSA_ROOT, ca=True))
    return Case(issue("x", middle), [middle], [RSA_ROOT], ["CA 1 above the client's certificate: weak signature"])


def key_usage() -> Case:
    return Case(issue("x", ROOT, extensions=[(usage("key_encipherment"), True)]), words=["keyUsage without"])


def key_usage_above() -> Case:
    middle = issue("Middle", ROOT, ca=True, extensions=[(usage("digital_signature"), True)])
    return Case(issue("x", middle), [middle], words=["keyUsage lacks keyCertSign"])


def for_servers() -> Case:
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return Case(issue("x", ROOT, extensions=[(purpose, False)]), words=["extendedKeyUsage without clientAuth"])


def leaf_as_issuer() -> Case:
    middle = issue("Middle", ROOT)
    return Case(issue("x", middle), [middle], words=["CA 1 above", "not a CA"])


def path_length() -> Case:
    root = issue("Short", ca=True, path_length=0)
    middle = issue("Middle", root, ca=True)
    return Case(issue("x", middle), [middle], [root], ["CA 2 above", "path length: 1 CAs are below it"])


def constrained(*permitted: x509.GeneralName, san: x509.SubjectAlternativeName = SAN) -> Case:
    root = issue("Constrained", ca=True, extensions=[(x509.NameConstraints(list(permitted), None), False)])
    return Case(issue("x", root, extensions=[(san, False)]), roots=[root], words=["name constraint"])


def dns_constraint() -> Case:
    return constrained(x509.DNSName("acme.example"))


def address_constraint() -> Case:
    return constrained(x509.IPAddress(IPv4Network("192.0.2.0/24")))


def directory_constraint() -> Case:
    case = constrained(x509.DirectoryName(name("only")))
    return case._replace(words=["a name that is not in the permitted directory names"])


CASES: tuple[Callable[[], Case], ...] = (
    foreign,
    foreign_root_presented,
    self_signed,
    missing_intermediate,
    missing_intermediate_known_from_its_identifier,
    second_intermediate_missing,
    spelt_with_another_type,
    spelt_in_another_case,
    spelt_with_more_blanks,
    spelt_differently_above,
    renewed_key,
    expired,
    not_yet_valid,
    expired_intermediate,
    expired_root,
    sha_1,
    sha_1_above,
    key_usage,
    key_usage_above,
    for_servers,
    leaf_as_issuer,
    path_length,
    dns_constraint,
    address_constraint,
    directory_constraint,
)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_the_log_names_the_cause(make):
    case = make()
    certificate = ClientCertificate.from_der(case.leaf.der, chain=tuple(each.der for each in case.chain))
    found = reasons(TrustStore([each.x509 for each in case.roots]), certificate, NOW)
    assert found
    assert any(all(word in reason for word in case.words) for reason in found), found
    assert case.absent not in " ".join(found)


def test_a_good_path_beside_a_bad_one_is_found():
    """The cause is for the log only: an expired CA with the same name and key changes nothing."""
    old = issue("Middle", ROOT, ca=True, period=(-2 * DAY, -DAY), key=MIDDLE.key)
    certificate = ClientCertificate.from_der(issue("x", MIDDLE).der, chain=(old.der, MIDDLE.der))
    assert reasons(TrustStore([ROOT.x509]), certificate, NOW) == ()
