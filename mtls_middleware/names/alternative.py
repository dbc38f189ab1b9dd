"""Reads the subject alternative names of a certificate and compares their entries (RFC 5280 4.2.1.6 and section 7).

A common name is never used as a host name. Wildcards are not expanded. An entry of one type never matches a name of
another type.
"""

import string
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509

from mtls_middleware.der import read_value
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names.invisible import INVISIBLE
from mtls_middleware.parser_errors import UNREADABLE

_USER_PRINCIPAL_NAME = "1.3.6.1.4.1.311.20.2.3"
_UTF8_STRING = 12
_LOWER_ASCII = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True)
class AlternativeNames:
    """The subject alternative names of a certificate, by type, in the order of the certificate.

    `other_names` has each otherName as a pair: its dotted OID, and the DER of its value. User principal names are
    among them. Entries of other types are left out. The `has_...` methods use sets, so that checking many rules is fast
    even for a certificate with many entries.
    """

    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    emails: tuple[str, ...] = ()
    other_names: tuple[tuple[str, bytes], ...] = ()
    user_principal_names: tuple[str, ...] = ()

    def has_dns(self, name: str) -> bool:
        """Return whether a DNS entry equals this name, ignoring case (RFC 5280 7.2). `*` matches only `*`."""
        return name.lower() in self._dns

    def has_uri(self, uri: str) -> bool:
        """Return whether a URI entry equals this URI, character by character."""
        return uri in self._uris

    def has_address(self, address: object) -> bool:
        """Return whether an IP address entry equals this `ipaddress` object."""
        return address in self._addresses

    def has_mailbox(self, address: str) -> bool:
        """Return whether an email entry equals this mailbox. The case of the host is ignored (RFC 5280 7.5)."""
        mailbox = _mailbox(address)
        return mailbox is not None and mailbox in self._mailboxes

    def has_user_principal_name(self, name: str) -> bool:
        """Return whether a user principal name equals `name`. The case of ASCII letters in the domain is ignored."""
        principal = _mailbox(name)
        return principal is not None and principal in self._principals

    @cached_property
    def _dns(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.dns)

    @cached_property
    def _uris(self) -> frozenset[str]:
        return frozenset(self.uris)

    @cached_property
    def _addresses(self) -> frozenset[IPv4Address | IPv6Address]:
        return frozenset(self.ip_addresses)

    @cached_property
    def _mailboxes(self) -> frozenset[tuple[str, str] | None]:
        return frozenset(map(_mailbox, self.emails))

    @cached_property
    def _principals(self) -> frozenset[tuple[str, str] | None]:
        return frozenset(map(_mailbox, self.user_principal_names))


def read(certificate: x509.Certificate) -> AlternativeNames:
    """Read the subject alternative names of a certificate. Raises `MalformedCertificate` if an entry is invalid.

    A NUL, a control character or a character outside ASCII in an entry makes the whole extension invalid. Libraries
    disagree about such an entry: some truncate the string at the character, and others compare the whole string (RFC
    8705 7.5). A user principal name may have characters outside ASCII. It is invalid if it is not a UTF8String, is
    empty, or has a control character or another invisible character.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return AlternativeNames()
    except UNREADABLE as error:
        raise MalformedCertificate("the extensions of the certificate cannot be read") from error
    others = tuple((each.type_id.dotted_string, each.value) for each in names.get_values_for_type(x509.OtherName))
    return AlternativeNames(
        dns=_ascii_strings(names.get_values_for_type(x509.DNSName)),
        uris=_ascii_strings(names.get_values_for_type(x509.UniformResourceIdentifier)),
        ip_addresses=tuple(_single_address(each) for each in names.get_values_for_type(x509.IPAddress)),
        emails=_ascii_strings(names.get_values_for_type(x509.RFC822Name)),
        other_names=others,
        user_principal_names=tuple(_principal_name(value) for oid, value in others if oid == _USER_PRINCIPAL_NAME),
    )


def _mailbox(address: str) -> tuple[str, str] | None:
    """Return the local part and the lower-case host of a mailbox or user principal name.

    Returns `None` if there is no local part. Only ASCII letters have another case: U+212A (KELVIN SIGN) is not "k".
    """
    local, at, host = address.rpartition("@")
    return (local, host.translate(_LOWER_ASCII)) if at and local else None


def compared_mailbox(address: str) -> str | None:
    """Return a mailbox or user principal name in the form in which equal ones are equal strings; `None` without `@`.

    Example: `compared_mailbox("alice@CORP.example")` is `"alice@corp.example"`
    """
    mailbox = _mailbox(address)
    return None if mailbox is None else "@".join(mailbox)


def compared_dns_name(name: str) -> str | None:
    """Return a DNS name in the form in which equal names are equal strings; `None` for a wildcard, which is no name.

    Example: `compared_dns_name("Billing.internal")` is `"billing.internal"`
    """
    return None if "*" in name or not name else name.lower()


def _principal_name(der: bytes) -> str:
    try:
        tag, content, end = read_value(der)
        name = content.decode("utf-8")
    except ValueError as error:
        raise MalformedCertificate("a user principal name cannot be decoded") from error
    if tag != _UTF8_STRING or end != len(der):
        raise MalformedCertificate("a user principal name is not one UTF8String")
    if not is_principal_name(name):
        raise MalformedCertificate("a user principal name is empty or has an invisible character")
    return name


def is_principal_name(text: str) -> bool:
    """Return whether `text` can be a user principal name: UTF-8 can encode it, and all its characters are visible.

    Example: `is_principal_name("alice@corp.example")`
    """
    return bool(text) and not INVISIBLE.search(text) and text == text.encode("utf-8", "replace").decode("utf-8")


def _ascii_strings(values: list[str]) -> tuple[str, ...]:
    for value in values:
        if not (value.isascii() and value.isprintable()):
            raise MalformedCertificate("a subject alternative name has a control or non-ASCII character")
    return tuple(values)


def _single_address(value: object) -> IPv4Address | IPv6Address:
    if not isinstance(value, (IPv4Address, IPv6Address)):
        raise MalformedCertificate("an iPAddress entry is a network; expected a single address")
    return value
