"""Builds and signs a test certificate from its names, validity, key and extensions."""

import ipaddress
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypedDict

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.der import header
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.names.alternative import USER_PRINCIPAL_NAME
from mtls_middleware.testing.issued_certificate import IssuedCertificate, PrivateKey

KeyKind = Literal["ec", "rsa", "ed25519"]
Purpose = Literal["client", "server"]
Extension = tuple[x509.ExtensionType, bool]

_PURPOSES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
_UTF8_STRING = 12
# Certificates are valid from one day ago, because the clock of a test machine may be slow.
_DAY = timedelta(days=1)
# The default lifetime. It is longer than any test run, so a certificate expires only if the test chooses its dates. It
# is also so long that no warning about a certificate that expires soon is logged.
_LIFETIME = timedelta(days=90)


class CertificateOptions(TypedDict, total=False):
    """The keyword arguments of `CertificateAuthority.issue` and `self_signed`.

    dns, uris, ip_addresses, emails, user_principal_names: the subject alternative names, as lists of strings.
    policies: the certificate policies, as a list of dotted OIDs.
    not_before, not_after: aware datetimes; by default one day ago and 90 days from now.
    key: `"ec"` (P-256, the default), `"rsa"` (2048 bits), `"ed25519"`, or an existing private key.
    extended_key_usage: `"client"`, `"server"` or both. `()` omits the extension. Default: `("client",)`.
    ca: whether the key may sign other certificates (basicConstraints, keyUsage). Default: `False`.
    extensions: pairs `(x509.ExtensionType, critical)`. Each pair replaces the default extension of the same type.
    """

    dns: Collection[str]
    uris: Collection[str]
    ip_addresses: Collection[str]
    emails: Collection[str]
    user_principal_names: Collection[str]
    policies: Collection[str]
    not_before: datetime | None
    not_after: datetime | None
    key: KeyKind | PrivateKey | None
    extended_key_usage: Sequence[Purpose]
    ca: bool
    extensions: Collection[Extension]


def make(
    subject: str | x509.Name,
    signer: IssuedCertificate | None,
    *,
    dns: Collection[str] = (),
    uris: Collection[str] = (),
    ip_addresses: Collection[str] = (),
    emails: Collection[str] = (),
    user_principal_names: Collection[str] = (),
    policies: Collection[str] = (),
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    lifetime: timedelta = _LIFETIME,
    key: KeyKind | PrivateKey | None = None,
    extended_key_usage: Sequence[Purpose] = ("client",),
    ca: bool = False,
    extensions: Collection[Extension] = (),
) -> IssuedCertificate:
    """Make a certificate that `signer` signs, or a self-signed certificate if `signer` is `None`. The chain is empty.

    For the keyword arguments, see `CertificateOptions`. Raises `ValueError`, or its subclass `ConfigurationError`, if
    an argument cannot be part of a certificate.
    """
    names = {
        "dns": dns,
        "uris": uris,
        "ip_addresses": ip_addresses,
        "emails": emails,
        "user_principal_names": user_principal_names,
    }
    for option, given in {**names, "policies": policies, "extended_key_usage": extended_key_usage}.items():
        reject_string(option, given)
    name = _name(subject)
    own_key = _private_key(key)
    signing_key, issuer = (own_key, name) if signer is None else (signer.key, signer.x509.subject)
    not_before_date, not_after_date = _validity(not_before, not_after, lifetime)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(own_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before_date)
        .not_valid_after(not_after_date)
    )
    defaults = [
        (x509.BasicConstraints(ca=ca, path_length=None), True),
        (_key_usage(ca=ca), True),
        (x509.SubjectKeyIdentifier.from_public_key(own_key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), False),
        *_purposes(extended_key_usage),
        *_policies(policies),
        # The subject alternative name is critical if the subject is empty (RFC 5280 4.2.1.6).
        *((extension, not name.rdns) for extension in _alternative_names(**names)),
    ]
    given_kinds = {extension.oid for extension, _ in extensions}
    for extension, critical in [*(each for each in defaults if each[0].oid not in given_kinds), *extensions]:
        builder = builder.add_extension(extension, critical)
    digest = None if isinstance(signing_key, ed25519.Ed25519PrivateKey) else SHA256()
    return IssuedCertificate(builder.sign(signing_key, digest), own_key)


def reject_string(option: str, given: object) -> None:
    """Raise `ConfigurationError` if `given` is a string, because iterating over a string yields its characters."""
    if isinstance(given, (str, bytes)):
        raise ConfigurationError(f"{option}={given!r} is a string; expected a list of strings, for example [{given!r}]")


def aware(option: str, time: datetime) -> datetime:
    """Return `time` unchanged. Raises `ConfigurationError` if `time` has no time zone."""
    if time.tzinfo is None:
        raise ConfigurationError(f"{option}={time!r} has no time zone; expected a time such as datetime.now(UTC)")
    return time


def _name(subject: str | x509.Name) -> x509.Name:
    if isinstance(subject, x509.Name):
        return subject
    try:
        return x509.Name.from_rfc4514_string(subject)
    except ValueError as error:
        raise ConfigurationError(f"{subject!r} is not an RFC 4514 name such as 'CN=client,O=Tests'") from error


def _private_key(key: KeyKind | PrivateKey | None) -> PrivateKey:
    match key:
        case None | "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "rsa":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case ec.EllipticCurvePrivateKey() | rsa.RSAPrivateKey() | ed25519.Ed25519PrivateKey():
            return key
    raise ConfigurationError(
        f"key={type(key).__name__}: expected 'ec', 'rsa', 'ed25519', or a private key of one of these types"
    )


def _validity(
    not_before: datetime | None, not_after: datetime | None, lifetime: timedelta
) -> tuple[datetime, datetime]:
    """Return not_before and not_after. If a date is not given, its default is chosen so that not_before is earlier."""
    now = datetime.now(UTC)
    if not_before is None:
        not_before = min(now, aware("not_after", not_after or now)) - _DAY
    if not_after is None:
        not_after = max(now, aware("not_before", not_before)) + lifetime
    return aware("not_before", not_before), aware("not_after", not_after)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(purposes: Sequence[Purpose]) -> Iterator[Extension]:
    unknown = [each for each in purposes if each not in _PURPOSES]
    if unknown:
        raise ConfigurationError(f"extended_key_usage={unknown!r}: expected 'client', 'server' or both")
    if purposes:
        yield x509.ExtendedKeyUsage([_PURPOSES[each] for each in purposes]), False


def _policies(policies: Collection[str]) -> Iterator[Extension]:
    if policies:
        listed = [x509.PolicyInformation(x509.ObjectIdentifier(each), None) for each in policies]
        yield x509.CertificatePolicies(listed), False


def _alternative_names(
    dns: Collection[str],
    uris: Collection[str],
    ip_addresses: Collection[str],
    emails: Collection[str],
    user_principal_names: Collection[str],
) -> Iterator[x509.SubjectAlternativeName]:
    names: list[x509.GeneralName] = [
        *map(x509.DNSName, dns),
        *map(x509.UniformResourceIdentifier, uris),
        *(x509.IPAddress(ipaddress.ip_address(each)) for each in ip_addresses),
        *map(x509.RFC822Name, emails),
        *map(_principal_name, user_principal_names),
    ]
    if names:
        yield x509.SubjectAlternativeName(names)


def _principal_name(name: str) -> x509.OtherName:
    content = name.encode("utf-8")
    return x509.OtherName(x509.ObjectIdentifier(USER_PRINCIPAL_NAME), header(_UTF8_STRING, len(content)) + content)
