"""Reads the subject alternative names of a certificate and compares their entries (RFC 5280 4.2.1.6 and section 7).

A common name is never used as a host name. Wildcards are not expanded. An entry of one type never matches a name of
another type.
"""

import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from cryptography import x509

from mtls_middleware.der import read_value, read_values
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.messages import short_list
from mtls_middleware.names.invisible import INVISIBLE
from mtls_middleware.parser_errors import UNREADABLE, reason

USER_PRINCIPAL_NAME = "1.3.6.1.4.1.311.20.2.3"  # the OID of the otherName
_UTF8_STRING = 12
# Maximum number of unreadable entries that a log record shows.
_MAX_SHOWN = 5
_LOWER_ASCII = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True)
class AlternativeNames:
    """The subject alternative names of a certificate, by type, in the order of the certificate.

    Each entry of `other_names` is a pair: the dotted OID of an otherName, and the DER of its value. These entries
    include the user principal names. Entries of other types are left out. The `has_...` methods use sets, so that
    checking many rules is fast even for a certificate with many entries.
    """

    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    emails: tuple[str, ...] = ()
    other_names: tuple[tuple[str, bytes], ...] = ()
    user_principal_names: tuple[str, ...] = ()

    def has_dns(self, name: str) -> bool:
        """Return whether a DNS entry equals this name, ignoring case (RFC 5280 7.2). `*` matches only `*`."""
        return name.translate(_LOWER_ASCII) in self._dns

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
        return frozenset(name.translate(_LOWER_ASCII) for name in self.dns)

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
        raise MalformedCertificate(
            f"the extensions of the certificate cannot be read: {reason(error)}{_suspects(certificate)}"
        ) from error
    found: dict[type, list[Any]] = {kind: [] for kind in _READERS}
    principals = []
    for number, name in enumerate(names, 1):
        read_entry = _READERS.get(type(name))
        if read_entry is None:
            continue
        try:
            found[type(name)].append(read_entry(name))
            if isinstance(name, x509.OtherName) and name.type_id.dotted_string == USER_PRINCIPAL_NAME:
                principals.append(_principal_name(name.value))
        except MalformedCertificate as error:
            raise MalformedCertificate(f"subjectAltName entry {number}: {error.evidence[0]}") from error
    dns, uris, addresses, emails, others = map(tuple, found.values())
    return AlternativeNames(dns, uris, addresses, emails, others, tuple(principals))


def _mailbox(address: str) -> tuple[str, str] | None:
    """Return the local part and the lower-case host of a mailbox or user principal name.

    Returns `None` if the string has no local part. Only ASCII letters are lowered: U+212A (KELVIN SIGN) is not "k".
    """
    local, at, host = address.rpartition("@")
    return (local, host.translate(_LOWER_ASCII)) if at and local else None


def canonical_mailbox(address: str) -> str | None:
    """Return the form of a mailbox or user principal name in which equal names are equal strings; `None` without `@`.

    Example: `canonical_mailbox("alice@CORP.example")` is `"alice@corp.example"`
    """
    mailbox = _mailbox(address)
    return None if mailbox is None else "@".join(mailbox)


def canonical_dns_name(name: str) -> str | None:
    """Return a DNS name in the form in which equal names are equal strings; `None` for a wildcard such as `*.example`.

    Only ASCII letters have another case: U+212A (KELVIN SIGN) is not "k".

    Example: `canonical_dns_name("Billing.internal")` is `"billing.internal"`
    """
    return None if "*" in name or not name else name.translate(_LOWER_ASCII)


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


def _ascii_string(name: x509.DNSName | x509.UniformResourceIdentifier | x509.RFC822Name) -> str:
    value = name.value
    if not (value.isascii() and value.isprintable()):
        raise MalformedCertificate("a subject alternative name has a control or non-ASCII character")
    return value


def _single_address(name: x509.IPAddress) -> IPv4Address | IPv6Address:
    if not isinstance(name.value, (IPv4Address, IPv6Address)):
        raise MalformedCertificate("an iPAddress entry is a network; expected a single address")
    return name.value


def _other_name(name: x509.OtherName) -> tuple[str, bytes]:
    return name.type_id.dotted_string, name.value


# A mapping of entry type to the function that reads an entry, in the order of the fields of `AlternativeNames`.
_READERS: Mapping[type, Callable[[Any], Any]] = {
    x509.DNSName: _ascii_string,
    x509.UniformResourceIdentifier: _ascii_string,
    x509.IPAddress: _single_address,
    x509.RFC822Name: _ascii_string,
    x509.OtherName: _other_name,
}

# A mapping of tag number to the type of the entry (RFC 5280 4.2.1.6).
_TYPES = (
    *("otherName", "rfc822Name", "dNSName", "x400Address", "directoryName", "ediPartyName"),
    *("uniformResourceIdentifier", "iPAddress", "registeredID"),
)
_SUBJECT_ALTERNATIVE_NAME = b"\x55\x1d\x11"  # the content of the OID 2.5.29.17
_EXTENSIONS = 0xA3


def _suspects(certificate: x509.Certificate) -> str:
    """Return the entries of subjectAltName that `cryptography` cannot read, for the log.

    The result is empty if they are unknown.
    """
    try:
        found = [
            f"{number} ({_TYPES[tag & 0x1F]})"
            for number, (tag, content) in enumerate(_entries(certificate.tbs_certificate_bytes), 1)
            if _is_suspect(tag & 0x1F, content)
        ]
    except (ValueError, IndexError):
        return ""
    return f"; subjectAltName entry {short_list(found, _MAX_SHOWN)}" if found else ""


def _is_suspect(kind: int, content: bytes) -> bool:
    name = _TYPES[kind]
    if name in ("x400Address", "ediPartyName"):
        return True
    if name == "iPAddress":
        return len(content) not in (4, 8, 16, 32)
    return name in ("rfc822Name", "dNSName", "uniformResourceIdentifier") and not content.isascii()


def _entries(tbs: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each entry of subjectAltName. Raises `ValueError`."""
    for tag, members in read_values(read_value(tbs)[1]):
        for _, extension in read_values(read_value(members)[1]) if tag == _EXTENSIONS else ():
            parts = [content for _, content in read_values(extension)]
            if parts[0] == _SUBJECT_ALTERNATIVE_NAME:
                yield from read_values(read_value(parts[-1])[1])
