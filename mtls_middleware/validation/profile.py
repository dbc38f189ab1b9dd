"""What a client's certificate must be, and a CA's, each looked at alone (RFC 5280 4.1, 4.2).

Must never know: paths and trust. Every rule yields a reason in words, so that the operator sees all of them at once.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

E = TypeVar("E", bound=x509.ExtensionType)
Extensions = Mapping[x509.ObjectIdentifier, x509.Extension[Any]]

# What is processed, here, in `constraints.py`, or by the engine. Any other extension that is marked critical asks for
# something that nobody would do, so the certificate is refused (4.2): certificatePolicies among them.
_PROCESSED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
    }
)
_NOT_POSITIVE = "a serial number that is not positive"  # 4.1.2.2
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# NIST SP 800-131A: 112 bits of strength. SP 800-56B 6.2: an odd exponent above 2^16.
_RSA_BITS, _RSA_EXPONENT = 2048, 65_537
# The preferred name syntax (4.2.1.6, RFC 1034 3.5, RFC 1123 2.1), with the wildcard that no rule of ours expands.
_DNS_NAME = re.compile(
    r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def extensions(certificate: x509.Certificate) -> Extensions:
    """All of them. `cryptography` finds one by going through all, each time; who asks for several asks this once.

    Raises `ValueError` and what `cryptography` raises for what cannot be read.
    """
    return {each.oid: each for each in certificate.extensions}


def extension(certificate: x509.Certificate, kind: type[E]) -> x509.Extension[E] | None:
    """The extension, or `None`. Raises as `extensions` does."""
    return extensions(certificate).get(kind.oid)


def unfit_client(
    certificate: x509.Certificate, found: Extensions, purpose: x509.ObjectIdentifier, *, require_purpose: bool
) -> Iterator[str]:
    """Why this is no certificate of a client; nothing where it is. `purpose`: what its extended key usage must name."""
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
        yield "extendedKeyUsage without clientAuth"  # anyExtendedKeyUsage says nothing about clients
    if x509.AuthorityKeyIdentifier.oid not in found:
        yield "no authorityKeyIdentifier"  # 4.2.1.1
    if certificate.serial_number <= 0:
        yield _NOT_POSITIVE
    yield from _unfit_names(certificate, found)
    yield from _unfit(found)
    yield from _weak(certificate, also=(ed25519.Ed25519PublicKey, ed448.Ed448PublicKey))


def unfit_authority(certificate: x509.Certificate, purpose: x509.ObjectIdentifier, *, is_anchor: bool) -> Iterator[str]:
    """Why this CA's certificate is unfit, beside what the engine demands of it.

    `is_anchor`: whether it is trusted for itself, so that nothing has to lead to who issued it.
    """
    found = extensions(certificate)
    basic = found.get(x509.BasicConstraints.oid)
    if basic is None or not basic.value.ca:
        yield "an issuer that is no CA"
    usage = found.get(x509.KeyUsage.oid)
    if usage is not None and not usage.value.key_cert_sign:
        yield "an issuer whose keyUsage lacks keyCertSign"
    purposes = found.get(x509.ExtendedKeyUsage.oid)
    if purposes is not None and not {purpose, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes.value):
        yield "an issuer whose extendedKeyUsage lacks clientAuth"
    if x509.SubjectKeyIdentifier.oid not in found:
        yield "an issuer without subjectKeyIdentifier"  # 4.2.1.2
    if not is_anchor and certificate.serial_number <= 0:  # there are old roots whose number is 0
        yield _NOT_POSITIVE
    if not is_anchor and x509.AuthorityKeyIdentifier.oid not in found:
        yield "an issuer without authorityKeyIdentifier"  # 4.2.1.1
    for policies in (x509.PolicyConstraints, x509.InhibitAnyPolicy):
        if policies.oid in found:  # marked critical or not: it must be, and nobody processes it
            yield f"{policies.__name__}, which is not processed"
    yield from _unfit(found)
    yield from _weak(certificate)


def _unfit(found: Extensions) -> Iterator[str]:
    for each in found.values():
        if each.critical and each.oid not in _PROCESSED:
            yield f"a critical extension that is not processed: {each.oid.dotted_string}"


def _unfit_names(certificate: x509.Certificate, found: Extensions) -> Iterator[str]:
    names = found.get(x509.SubjectAlternativeName.oid)
    if (names is None or not names.critical) and not certificate.subject.rdns:
        yield "no subject, and no critical subjectAltName"
    if names is not None and not all(
        _DNS_NAME.fullmatch(each.value) for each in names.value if type(each) is x509.DNSName
    ):
        yield "a dNSName that is none"


def _weak(certificate: x509.Certificate, also: tuple[type, ...] = ()) -> Iterator[str]:
    """What is weak about the key. The engine checks the keys of issuers only, and no exponent."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):  # first: most are, and to see that something is not takes longer
        if not isinstance(key.curve, _CURVES):
            yield f"a key on the curve {key.curve.name}"
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_BITS:
            yield f"an RSA key of {key.key_size} bits, expected {_RSA_BITS}"
        if key.public_numbers().e < _RSA_EXPONENT:
            yield f"an RSA key whose exponent is below {_RSA_EXPONENT}"
    elif not isinstance(key, also):
        yield f"a key of a kind that is not accepted: {type(key).__name__}"
