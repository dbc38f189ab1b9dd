"""Defines rules for the contents of a certificate: subject, issuer, alternative names, thumbprint.

The package `names` compares the names. This module performs no I/O and reads no clock.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from mtls_middleware.base64_values import sha256_digest
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.identifier import NO_VALUE, Identifier, IdentifierValue
from mtls_middleware.names import alternative, distinguished
from mtls_middleware.names.attribute_types import known_oid
from mtls_middleware.policy.name_rule import NameRule, case_advice
from mtls_middleware.rule import Result, Rule

# Matches two attributes that old OpenSSL releases print without a separator between them.
_JOINED = re.compile(r"/[A-Za-z]+=")


@dataclass(frozen=True)
class Subject(Identifier, NameRule):
    """Matches a certificate whose subject DN equals `name`, compared attribute by attribute (RFC 5280 7.1).

    Example: `Subject("CN=billing,O=Acme")`
    """

    name: str = NO_VALUE
    _parsed: distinguished.DistinguishedName = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.lacks_value:
            return
        object.__setattr__(self, "_parsed", _dn("Subject", self.name))

    def matches(self, certificate: ClientCertificate) -> bool:
        return distinguished.matches(self._parsed, certificate.subject_name)

    def _difference(self, certificate: ClientCertificate) -> str | None:
        return _order_advice(self, self._parsed, certificate.subject_name)

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        return (IdentifierValue(certificate.subject_name.canonical_form, certificate.subject),)

    def canonical_form(self, value: str) -> str | None:
        return _canonical(value, lambda: distinguished.parse_expected(value).canonical_form)


@dataclass(frozen=True)
class SubjectAttribute(Identifier, NameRule):
    """Matches a certificate whose subject contains this attribute with this value, in any RDN.

    `attribute` is a name such as `"OU"`, `"serialNumber"` or `"organizationIdentifier"`, or a dotted OID. The values
    are compared as in `Subject`: case and repeated spaces are ignored (RFC 4518). If no value matches, and a value is
    not a string or cannot be compared, the result is unknown.

    Example: `SubjectAttribute("OU", "infra")`
    """

    attribute: str
    value: str = NO_VALUE
    _oid: str = field(init=False, repr=False, compare=False)
    _expected: distinguished.Attribute = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "_oid", known_oid(self.attribute))
            if self.lacks_value:
                return
            object.__setattr__(self, "_expected", distinguished.expected_attribute(self._oid, self.value))
        except ValueError as error:
            raise ConfigurationError(f"SubjectAttribute({self.attribute!r}, {self.value!r}): {error}") from error

    def matches(self, certificate: ClientCertificate) -> bool:
        found = certificate.subject_name.comparable_by_type.get(self._oid, frozenset())
        if self._expected.comparable in found:
            return True
        if None in found:
            raise MalformedCertificate("an attribute of the subject cannot be compared")
        return False

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        for each in certificate.subject_name.by_type.get(self._oid, ()):
            yield IdentifierValue(_attribute_text(each), each.text or "")

    def canonical_form(self, value: str) -> str | None:
        return _canonical(value, lambda: _attribute_text(distinguished.expected_attribute(self._oid, value)))


@dataclass(frozen=True)
class Issuer(NameRule):
    """Matches a certificate whose issuer DN equals `name`, compared attribute by attribute (RFC 5280 7.1).

    Example: `Issuer("CN=Acme Client CA,O=Acme")`
    """

    name: str
    _parsed: distinguished.DistinguishedName = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", _dn("Issuer", self.name))

    def matches(self, certificate: ClientCertificate) -> bool:
        return distinguished.matches(self._parsed, certificate.issuer_name)

    def _difference(self, certificate: ClientCertificate) -> str | None:
        return _order_advice(self, self._parsed, certificate.issuer_name)


@dataclass(frozen=True)
class DNSName(Identifier, NameRule):
    """Matches a certificate that has the dNSName `name`. Case is ignored. Wildcards and the CN never match.

    Example: `DNSName("billing.internal")`
    """

    name: str = NO_VALUE

    def __post_init__(self) -> None:
        if self.lacks_value:
            return
        if not _is_printable_ascii(self.name) or {"*", " "} & set(self.name) or self.name.endswith("."):
            raise ConfigurationError(
                f"DNSName({self.name!r}): expected a name without wildcard and without a dot at its end, for example "
                "DNSName('billing.internal')"
            )

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_dns(self.name)

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        return [IdentifierValue(self.canonical_form(each), each) for each in certificate.dns_names]

    def canonical_form(self, value: str) -> str | None:
        return alternative.canonical_dns_name(value)


@dataclass(frozen=True)
class URI(Identifier, NameRule):
    """Matches a certificate that has this URI, compared as an exact string. Example: `URI("urn:acme:billing")`"""

    uri: str = NO_VALUE

    def __post_init__(self) -> None:
        if self.lacks_value:
            return
        if not _is_printable_ascii(self.uri) or ":" not in self.uri:
            raise ConfigurationError(f"URI({self.uri!r}): expected an absolute URI, for example 'urn:acme:billing'")

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_uri(self.uri)

    def _difference(self, certificate: ClientCertificate) -> str | None:
        return case_advice(self, self.uri, certificate.uris)

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        return [IdentifierValue(self.canonical_form(each), each) for each in certificate.uris]

    def canonical_form(self, value: str) -> str | None:
        return value or None


@dataclass(frozen=True)
class IPAddress(NameRule):
    """Matches a certificate that has this IP address, compared as a number (RFC 5952 8).

    Example: `IPAddress("192.0.2.7")`
    """

    address: str | IPv4Address | IPv6Address

    def __post_init__(self) -> None:
        try:
            parsed = ip_address(self.address)
        except ValueError as error:
            raise ConfigurationError(
                f"IPAddress({self.address!r}): expected an IP address, for example IPAddress('192.0.2.7')"
            ) from error
        if "%" in str(parsed):
            raise ConfigurationError(
                f"IPAddress({self.address!r}): expected an address without a zone, because certificates contain none"
            )
        object.__setattr__(self, "address", parsed)

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_address(self.address)


@dataclass(frozen=True)
class Email(Identifier, NameRule):
    """Matches a certificate that has this rfc822Name. Case is ignored only in the domain.

    Example: `Email("ops@acme.example")`
    """

    address: str = NO_VALUE

    def __post_init__(self) -> None:
        if self.lacks_value:
            return
        if not _is_printable_ascii(self.address) or not all(self.address.rpartition("@")[::2]):
            raise ConfigurationError(
                f"Email({self.address!r}): expected an address, for example Email('ops@acme.example')"
            )

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_mailbox(self.address)

    def _difference(self, certificate: ClientCertificate) -> str | None:
        return case_advice(self, self.address, certificate.email_addresses)

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        return [IdentifierValue(self.canonical_form(each), each) for each in certificate.email_addresses]

    def canonical_form(self, value: str) -> str | None:
        return alternative.canonical_mailbox(value)


@dataclass(frozen=True)
class UserPrincipalName(Identifier, NameRule):
    """Matches a certificate that has this user principal name (otherName 1.3.6.1.4.1.311.20.2.3).

    Active Directory, CAC and PIV cards identify their users by this name.

    The part after the last `@` is the domain: the case of ASCII letters is ignored. The part before it is compared
    exactly. Characters outside ASCII are compared exactly in both parts, without Unicode normalization.

    Any trusted CA can issue any name, so combine this rule with `IssuedBy` if the trust store has several CAs.

    Example: `UserPrincipalName("alice@corp.example")`
    """

    name: str = NO_VALUE

    def __post_init__(self) -> None:
        if self.lacks_value:
            return
        name = self.name
        if not isinstance(name, str) or not all(name.rpartition("@")[::2]) or not alternative.is_principal_name(name):
            raise ConfigurationError(
                f"UserPrincipalName({name!r}): expected a name with a domain and without invisible characters, for "
                "example UserPrincipalName('alice@corp.example')"
            )

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_user_principal_name(self.name)

    def _difference(self, certificate: ClientCertificate) -> str | None:
        return case_advice(self, self.name, certificate.user_principal_names)

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        return [IdentifierValue(self.canonical_form(each), each) for each in certificate.user_principal_names]

    def canonical_form(self, value: str) -> str | None:
        return alternative.canonical_mailbox(value) if alternative.is_principal_name(value) else None


@dataclass(frozen=True)
class Thumbprint(Identifier, Rule):
    """Matches the certificate with this `x5t#S256` thumbprint (RFC 8705 3.1), even if its chain is not verified.

    The argument has the form of `ClientCertificate.thumbprint`. Example:
    `Thumbprint("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0")`
    """

    thumbprint: str = NO_VALUE
    may_accept_presented = True
    may_reject_presented = True
    depends_only_on_certificate = True
    carries_issuer = True

    def __post_init__(self) -> None:
        if self.lacks_value:
            return
        if sha256_digest(self.thumbprint) is None:
            raise ConfigurationError(
                f"Thumbprint({self.thumbprint!r}): expected a SHA-256 digest of 43 characters in base64url, not in hex"
            )

    def judge(self, certificate: ClientCertificate) -> Result:
        return certificate.thumbprint == self.thumbprint

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        return (IdentifierValue(certificate.thumbprint, certificate.thumbprint),)

    def canonical_form(self, value: str) -> str | None:
        return value or None


def _attribute_text(attribute: distinguished.Attribute) -> str | None:
    """Return the value of an attribute as rules compare it; `None` for an empty value or a non-string."""
    return attribute.comparable or None if isinstance(attribute.comparable, str) else None


def _canonical(value: object, compare: Callable[[], str | None]) -> str | None:
    try:
        return compare() if isinstance(value, str) else None
    except ValueError:
        return None


def _order_advice(
    rule: Rule, expected: distinguished.DistinguishedName, found: distinguished.DistinguishedName
) -> str | None:
    """Return what to change if the names differ only in the order of their attributes, or `None`."""
    right = "write them in the order that `mtls-middleware inspect` shows, the most specific first (RFC 4514)"
    if distinguished.is_reversed(expected, found):
        return (
            f"{rule!r} has the attributes of the certificate in another order, exactly reversed, as OpenSSL prints "
            f"them by default: {right}"
        )
    if distinguished.has_same_attributes(expected, found):
        return f"{rule!r} has the attributes of the certificate in another order: {right}"
    if any(_JOINED.search(each.text or "") for rdn in expected.rdns for each in rdn):
        return (
            f"{rule!r} has a value with '/TYPE=', as old OpenSSL releases print a second attribute ('CN=x/emailAddress="
            "a@b.example'): write each attribute by itself, as `mtls-middleware inspect` shows them"
        )
    return None


def _dn(rule: str, text: str) -> distinguished.DistinguishedName:
    try:
        return distinguished.parse_expected(text)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{rule}({text!r}): {error}") from error


def _is_printable_ascii(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable()
