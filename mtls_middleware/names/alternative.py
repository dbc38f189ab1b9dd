"""Subject alternative names: read from a certificate, and compared entry by entry (RFC 5280 4.2.1.6 and section 7).

Must never know: subjects. No CN is ever a host name, no wildcard is expanded, no type answers for another.
"""

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.parser_errors import UNREADABLE


@dataclass(frozen=True)
class AlternativeNames:
    """The entries by type, in the order of the certificate. Types that we have no name for are left out.

    `has_...` are look-ups in sets: the work of a policy is not the number of its rules times the number of entries.
    """

    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    emails: tuple[str, ...] = ()

    def has_dns(self, name: str) -> bool:
        """Whether an entry is this whole name, without case (RFC 5280 7.2). `*` is a character like others."""
        return name.lower() in self._dns

    def has_uri(self, uri: str) -> bool:
        """Whether an entry is this URI, character by character."""
        return uri in self._uris

    def has_address(self, address: object) -> bool:
        """Whether an entry is this address."""
        return address in self._addresses

    def has_mailbox(self, address: str) -> bool:
        """Whether an entry is this mailbox: local part exact, host without case (RFC 5280 7.5)."""
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
    """The entries of a certificate. Raises `MalformedCertificate` where one cannot be what its type says.

    NUL, controls and characters outside ASCII make the whole extension unfit: what one library cuts off at them another
    compares (RFC 8705 7.5).
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return AlternativeNames()
    except UNREADABLE as error:
        raise MalformedCertificate("the extensions of the certificate cannot be read") from error
    return AlternativeNames(
        dns=_texts(names.get_values_for_type(x509.DNSName)),
        uris=_texts(names.get_values_for_type(x509.UniformResourceIdentifier)),
        ip_addresses=tuple(_address(each) for each in names.get_values_for_type(x509.IPAddress)),
        emails=_texts(names.get_values_for_type(x509.RFC822Name)),
    )


def _mailbox(address: str) -> tuple[str, str] | None:
    """Local part and host, so that equal mailboxes compare equal. `None` for a host without a local part."""
    local, at, host = address.rpartition("@")
    return (local, host.lower()) if at and local else None


def _texts(values: list[str]) -> tuple[str, ...]:
    for value in values:
        if not (value.isascii() and value.isprintable()):
            raise MalformedCertificate("a subject alternative name with a control character or outside ASCII")
    return tuple(values)


def _address(value: object) -> IPv4Address | IPv6Address:
    if not isinstance(value, (IPv4Address, IPv6Address)):
        raise MalformedCertificate("an iPAddress entry that is a network")
    return value
