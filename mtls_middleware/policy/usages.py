"""Defines rules for the certificate policies and the extended key usages of a certificate.

A certificate lists its own policies and usages. No rule processes the policies along the certification path (RFC 5280
6.1), so any trusted CA can assert any policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.names.attribute_types import is_oid
from mtls_middleware.policy.name_rule import NameRule

# The names of RFC 5280 4.2.1.12, and the usages of smart cards (Microsoft, RFC 4556 3.2.2).
_USAGES: Mapping[str, str] = {
    "anyExtendedKeyUsage": "2.5.29.37.0",
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
    "pkinitClientAuth": "1.3.6.1.5.2.3.4",
}


@dataclass(frozen=True)
class CertificatePolicy(NameRule):
    """Matches a certificate that lists this policy (RFC 5280 4.2.1.4), for example the policy for hardware keys.

    anyPolicy in the certificate matches no other policy. The rule reads only the certificate itself, so any trusted CA
    can assert the policy: combine this rule with `IssuedBy` if the trust store has several CAs.

    Example: `CertificatePolicy("2.16.840.1.101.3.2.1.3.13")`
    """

    oid: str

    def __post_init__(self) -> None:
        if not isinstance(self.oid, str) or not is_oid(self.oid):
            raise ConfigurationError(
                f"CertificatePolicy({self.oid!r}): expected a dotted OID, for example "
                "CertificatePolicy('2.16.840.1.101.3.2.1.3.13')"
            )

    def matches(self, certificate: ClientCertificate) -> bool:
        return self.oid in certificate.policy_set


@dataclass(frozen=True)
class ExtendedKeyUsage(NameRule):
    """Matches a certificate that lists this extended key usage (RFC 5280 4.2.1.12).

    `usage` is a dotted OID, or one of these names: `anyExtendedKeyUsage`, `serverAuth`, `clientAuth`, `codeSigning`,
    `emailProtection`, `timeStamping`, `OCSPSigning`, `smartcardLogon`, `pkinitClientAuth`. anyExtendedKeyUsage in the
    certificate matches no other usage. A certificate without the extension matches no usage.

    Example: `ExtendedKeyUsage("clientAuth")`, `ExtendedKeyUsage("1.3.6.1.5.5.7.3.2")`
    """

    usage: str = field(compare=False)
    _oid: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        usage = self.usage
        oid = _USAGES.get(usage, usage if is_oid(usage) else None) if isinstance(usage, str) else None
        if oid is None:
            raise ConfigurationError(
                f"ExtendedKeyUsage({usage!r}): expected a dotted OID, for example '1.3.6.1.5.5.7.3.2', or one of "
                f"{', '.join(_USAGES)}"
            )
        object.__setattr__(self, "_oid", oid)

    def matches(self, certificate: ClientCertificate) -> bool:
        return self._oid in certificate.extended_key_usage_set
