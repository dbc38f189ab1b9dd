"""Checks a client certificate or a CA certificate by itself, without its path (RFC 5280 4.1, 4.2).

Each failed check yields a reason, so that the operator sees all reasons at once.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from mtls_middleware import parser_errors

E = TypeVar("E", bound=x509.ExtensionType)
Extensions = Mapping[x509.ObjectIdentifier, x509.Extension[Any]]

# Extensions that this module, `constraints.py` or `cryptography` processes. A certificate with another critical
# extension, such as certificatePolicies, is rejected (RFC 5280 4.2).
_PROCESSED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
    }
)
# The hash algorithms that signatures of certificates, revocation lists and OCSP responses may have.
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
UNSUPPORTED_SIGNATURE = "an unsupported signature; expected RSA or ECDSA with SHA-256, SHA-384 or SHA-512"
CRITICAL = b"\x01\x01\xff"  # the DER of `critical TRUE`, which every critical extension contains
_ANY_POLICY = bytes.fromhex("0604551d2000")  # the DER of the OID anyPolicy
_NOT_POSITIVE = "a serial number that is not positive"  # RFC 5280 4.1.2.2
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# Minimum key size in bits, for 112 bits of strength (NIST SP 800-131A), and minimum exponent (SP 800-56B 6.2).
_RSA_BITS, _RSA_EXPONENT = 2048, 65_537
# Matches the preferred name syntax (RFC 5280 4.2.1.6, RFC 1034 3.5, RFC 1123 2.1) and an optional wildcard. No rule
# expands a wildcard.
_DNS_NAME = re.compile(
    r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def extensions(certificate: x509.Certificate) -> Extensions:
    """Return all extensions of a certificate by OID.

    Use this function to read several extensions, because each look-up in `cryptography` iterates over all extensions.
    Raises the exceptions of `parser_errors.UNREADABLE` for unreadable extensions.
    """
    return {each.oid: each for each in certificate.extensions}


def extension(certificate: x509.Certificate, kind: type[E]) -> x509.Extension[E] | None:
    """Return the certificate's extension of type `kind`, or `None`. Raises the same exceptions as `extensions`."""
    return extensions(certificate).get(kind.oid)


class CertificateContents:
    """A certificate, and the parts that several checks read. Each part is parsed once, when it is first read."""

    def __init__(self, certificate: x509.Certificate) -> None:
        self.certificate = certificate

    @cached_property
    def extensions(self) -> Extensions:
        """All extensions by OID. Raises the exceptions of `parser_errors.UNREADABLE`."""
        return extensions(self.certificate)

    @cached_property
    def subject(self) -> x509.Name:
        """The subject. Raises the same exceptions."""
        return self.certificate.subject


def client_defects(
    contents: CertificateContents, purpose: x509.ObjectIdentifier, *, require_purpose: bool
) -> Iterator[str]:
    """Yield the reasons why a certificate is not an acceptable client certificate.

    `purpose`: the value that extendedKeyUsage must contain, if the certificate has this extension. `require_purpose`:
    whether the certificate must have extendedKeyUsage.
    """
    certificate, found = contents.certificate, contents.extensions
    basic = found.get(x509.BasicConstraints.oid)
    if basic is not None and basic.value.ca:
        yield "a CA certificate cannot be a client certificate"
    usage = found.get(x509.KeyUsage.oid)
    if usage is not None and not (usage.value.digital_signature or usage.value.key_agreement):
        yield "keyUsage without digitalSignature"
    if usage is not None and (usage.value.key_cert_sign or usage.value.crl_sign):
        yield "keyUsage of a CA"
    purposes = found.get(x509.ExtendedKeyUsage.oid)
    if purposes is None and require_purpose:
        yield "no extendedKeyUsage"
    if purposes is not None and purpose not in purposes.value:
        yield f"extendedKeyUsage without {_name_of(purpose)}"  # anyExtendedKeyUsage is not sufficient
    if x509.AuthorityKeyIdentifier.oid not in found:
        yield "no authorityKeyIdentifier"  # RFC 5280 4.2.1.1
    if certificate.serial_number <= 0:
        yield _NOT_POSITIVE
    yield from _name_defects(contents)
    yield from _policy_defects(found)
    yield from _unprocessed(found)
    yield from key_defects(certificate, also=(ed25519.Ed25519PublicKey, ed448.Ed448PublicKey))


def authority_defects(
    certificate: x509.Certificate, purpose: x509.ObjectIdentifier, *, is_anchor: bool
) -> Iterator[str]:
    """Yield the reasons why a CA certificate is not acceptable. `cryptography` makes the other checks.

    `purpose`: the value that extendedKeyUsage must contain, if the CA certificate has this extension. `is_anchor`:
    whether the CA certificate is a trusted root, whose own issuer is not checked.
    """
    found = extensions(certificate)
    basic = found.get(x509.BasicConstraints.oid)
    if basic is None or not basic.value.ca:
        yield "an issuer that is not a CA"
    usage = found.get(x509.KeyUsage.oid)
    if usage is not None and not usage.value.key_cert_sign:
        yield "an issuer whose keyUsage lacks keyCertSign"
    purposes = found.get(x509.ExtendedKeyUsage.oid)
    if purposes is not None and not {purpose, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes.value):
        yield f"an issuer whose extendedKeyUsage lacks {_name_of(purpose)}"
    if x509.SubjectKeyIdentifier.oid not in found:
        yield "an issuer without subjectKeyIdentifier"  # RFC 5280 4.2.1.2
    # Roots are exempt, because some old roots have the serial number 0.
    if not is_anchor and certificate.serial_number <= 0:
        yield _NOT_POSITIVE
    if not is_anchor and x509.AuthorityKeyIdentifier.oid not in found:
        yield "an issuer without authorityKeyIdentifier"  # RFC 5280 4.2.1.1
    yield from _policy_defects(found)
    yield from _unprocessed(found)
    yield from key_defects(certificate)


def _name_of(purpose: x509.ObjectIdentifier) -> str:
    return "serverAuth" if purpose == ExtendedKeyUsageOID.SERVER_AUTH else "clientAuth"


def _unprocessed(found: Extensions) -> Iterator[str]:
    for each in found.values():
        if each.critical and each.oid not in _PROCESSED:
            yield f"a critical extension that is not supported: {each.oid.dotted_string}"


def _policy_defects(found: Extensions) -> Iterator[str]:
    """Yield the reasons why a certificate cannot be in a path whose policies are not processed (RFC 5280 6.1).

    A policy is required only if requireExplicitPolicy is in a certificate of the path, which may be the leaf (6.1.5 b).
    Without it, neither inhibitPolicyMapping nor inhibitAnyPolicy can make a path invalid (6.1.5 g). `_unprocessed`
    rejects them if they are critical.
    """
    constraints = found.get(x509.PolicyConstraints.oid)
    if constraints is not None and constraints.value.require_explicit_policy is not None:
        yield "policyConstraints with requireExplicitPolicy, which is not supported"
    mappings = found.get(ExtensionOID.POLICY_MAPPINGS)
    if mappings is not None and _ANY_POLICY in mappings.value.public_bytes():
        yield "policyMappings of anyPolicy"  # RFC 5280 6.1.4 a


def _name_defects(contents: CertificateContents) -> Iterator[str]:
    names = contents.extensions.get(x509.SubjectAlternativeName.oid)
    if (names is None or not names.critical) and not contents.subject.rdns:
        yield "no subject, and no critical subjectAltName"
    if names is not None and not all(
        _DNS_NAME.fullmatch(each.value) for each in names.value if type(each) is x509.DNSName
    ):
        yield "an invalid dNSName"


def key_defects(certificate: x509.Certificate, also: tuple[type, ...] = ()) -> Iterator[str]:
    """Yield the reasons why the key is weak.

    `cryptography` checks only the keys of issuers, and does not check RSA exponents.

    `also`: the key types that are accepted in addition to RSA and EC.
    """
    try:
        key = certificate.public_key()
    except parser_errors.UNREADABLE as error:
        # The key cannot be read, for example because `cryptography` does not support its curve.
        yield f"a key that cannot be read ({parser_errors.reason(error)})"
        return
    # Most keys are EC keys, and a false `isinstance` takes longer than a true one, so test for EC first.
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            yield f"a key on the curve {key.curve.name}"
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_BITS:
            yield f"an RSA key of {key.key_size} bits, expected at least {_RSA_BITS}"
        if key.public_numbers().e < _RSA_EXPONENT:
            yield f"an RSA key whose exponent is below {_RSA_EXPONENT}"
    elif not isinstance(key, also):
        yield f"a key of an unsupported type: {type(key).__name__}"
