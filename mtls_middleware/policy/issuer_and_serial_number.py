"""`IssuerAndSerialNumber`: a rule for the issuer and the serial number, which identify one certificate."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.identifier import NO_VALUE, Identifier, IdentifierValue
from mtls_middleware.names import distinguished
from mtls_middleware.policy.name_rule import NameRule

_EXAMPLE = 'IssuerAndSerialNumber("CN=Acme Client CA,O=Acme", 4711)'


@dataclass(frozen=True)
class IssuerAndSerialNumber(Identifier, NameRule):
    """Matches the certificate with this issuer DN and this serial number (RFC 5652 10.2.4).

    The issuer is compared attribute by attribute (RFC 5280 7.1). A CA uses each serial number once (RFC 5280 4.1.2.2).
    The rule compares the name of the CA, not its key: if two trusted CAs have the same name, combine it with
    `IssuedBy`.

    Without arguments, `IssuerAndSerialNumber()` is for `CertificateUser(by=...)`. Its value is the decimal serial
    number, a space, and the issuer in lower case, for example `"4711 CN=acme client ca,O=acme"`.

    Example: `IssuerAndSerialNumber("CN=Acme Client CA,O=Acme", 4711)`
    """

    issuer: str = NO_VALUE
    serial_number: int | None = None
    _parsed: distinguished.DistinguishedName = field(init=False, repr=False, compare=False)
    carries_issuer = True

    def __post_init__(self) -> None:
        serial = self.serial_number
        if self.lacks_value and serial is None:
            return
        if self.lacks_value or not isinstance(serial, int) or isinstance(serial, bool):
            raise ConfigurationError(
                f"IssuerAndSerialNumber({self.issuer!r}, {serial!r}): expected an issuer and a number, for example "
                f"{_EXAMPLE}"
            )
        try:
            object.__setattr__(self, "_parsed", distinguished.parse_expected(self.issuer))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"IssuerAndSerialNumber({self.issuer!r}, {serial!r}): {error}") from error

    def matches(self, certificate: ClientCertificate) -> bool:
        same_issuer = distinguished.matches(self._parsed, certificate.issuer_name)
        return certificate.serial_number == self.serial_number and same_issuer

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        issuer = certificate.issuer_name.canonical_form
        canonical = None if issuer is None else f"{certificate.serial_number} {issuer}"
        return (IdentifierValue(canonical, f"{certificate.serial_number} {certificate.issuer}"),)

    def canonical_form(self, value: str) -> str | None:
        serial, _, issuer = value.partition(" ")
        try:
            name = distinguished.parse_expected(issuer).canonical_form
            return None if name is None or str(int(serial)) != serial else f"{serial} {name}"
        except (ValueError, TypeError):
            return None
