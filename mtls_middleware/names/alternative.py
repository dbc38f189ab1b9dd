"""Subject alternative names: read from a certificate, and compared entry by entry (RFC 5280 4.2.1.6 and section 7).

Must never know: subjects. No CN is ever a host name, no wildcard is expanded, no type answers for another.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509

from mtls_middleware.errors import MalformedCertificate


@dataclass(frozen=True, slots=True)
class AlternativeNames:
    """The entries by type, in the order of the certificate. Types that we have no name for are left out."""

    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    emails: tuple[str, ...] = ()


def read(certificate: x509.Certificate) -> AlternativeNames:
    """The entries of a certificate. Raises `MalformedCertificate` where one cannot be what its type says.

    NUL, controls and characters outside ASCII make the whole extension unfit: what one library cuts off at them another
    compares (RFC 8705 7.5).
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return AlternativeNames()
    except (ValueError, TypeError, x509.DuplicateExtension) as error:
        raise MalformedCertificate("the extensions of the certificate cannot be read") from error
    return AlternativeNames(
        dns=_texts(names.get_values_for_type(x509.DNSName)),
        uris=_texts(names.get_values_for_type(x509.UniformResourceIdentifier)),
        ip_addresses=tuple(_address(each) for each in names.get_values_for_type(x509.IPAddress)),
        emails=_texts(names.get_values_for_type(x509.RFC822Name)),
    )


def same_dns(one: str, other: str) -> bool:
    """Whole names, ASCII letters without case (RFC 5280 7.2). `*` is a character like others."""
    return one.lower() == other.lower()


def same_email(one: str, other: str) -> bool:
    """Local part exact, host without case (RFC 5280 7.5); a host alone is no mailbox."""
    local, at, host = one.rpartition("@")
    other_local, _, other_host = other.rpartition("@")
    return bool(at and local) and local == other_local and host.lower() == other_host.lower()


def _texts(values: list[str]) -> tuple[str, ...]:
    for value in values:
        if not (value.isascii() and value.isprintable()):
            raise MalformedCertificate("a subject alternative name with a control character or outside ASCII")
    return tuple(values)


def _address(value: object) -> IPv4Address | IPv6Address:
    if not isinstance(value, (IPv4Address, IPv6Address)):
        raise MalformedCertificate("an iPAddress entry that is a network")
    return value
