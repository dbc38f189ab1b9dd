"""Reads the subject alternative names of a certificate and compares their entries (RFC 5280 4.2.1.6 and section 7).

A common name is never used as a host name. Wildcards are not expanded. An entry of one type never matches a name of
another type.
"""

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.parser_errors import UNREADABLE


@dataclass(frozen=True)
class AlternativeNames:
    """The subject alternative names of a certificate, by type, in the order of the certificate.

    Entries of other types are left out. The `has_...` methods use sets, so that checking many rules is fast even for a
    certificate with many entries.
    """

    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    emails: tuple[str, ...] = ()

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


def read(certificate: x509.Certificate) -> AlternativeNames:
    """Read the subject alternative names of a certificate. Raises `MalformedCertificate` if an entry is invalid.

    A NUL, a control character or a character outside ASCII in an entry makes the whole extension invalid. Libraries
    disagree about such an entry: some truncate the string at the character, and others compare the whole string (RFC
    8705 7.5).
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return AlternativeNames()
    except UNREADABLE as error:
        raise MalformedCertificate("the extensions of the certificate cannot be read") from error
    return AlternativeNames(
        dns=_ascii_strings(names.get_values_for_type(x509.DNSName)),
        uris=_ascii_strings(names.get_values_for_type(x509.UniformResourceIdentifier)),
        ip_addresses=tuple(_single_address(each) for each in names.get_values_for_type(x509.IPAddress)),
        emails=_ascii_strings(names.get_values_for_type(x509.RFC822Name)),
    )


def _mailbox(address: str) -> tuple[str, str] | None:
    """Return the local part and the lower-case host of a mailbox; `None` if there is no local part."""
    local, at, host = address.rpartition("@")
    return (local, host.lower()) if at and local else None


def _ascii_strings(values: list[str]) -> tuple[str, ...]:
    for value in values:
        if not (value.isascii() and value.isprintable()):
            raise MalformedCertificate("a subject alternative name has a control or non-ASCII character")
    return tuple(values)


def _single_address(value: object) -> IPv4Address | IPv6Address:
    if not isinstance(value, (IPv4Address, IPv6Address)):
        raise MalformedCertificate("an iPAddress entry is a network; expected a single address")
    return value
