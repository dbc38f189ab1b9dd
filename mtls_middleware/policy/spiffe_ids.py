"""Defines the rules for SPIFFE IDs."""

from collections.abc import Iterable
from dataclasses import dataclass

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.identifier import NO_VALUE, Identifier, IdentifierValue
from mtls_middleware.names import spiffe
from mtls_middleware.policy.name_rule import NameRule, case_advice


@dataclass(frozen=True)
class SpiffeID(Identifier, NameRule):
    """Matches a certificate that has this SPIFFE ID, compared as an exact string.

    Example: `SpiffeID("spiffe://acme.internal/billing")`
    """

    spiffe_id: str = NO_VALUE

    def __post_init__(self) -> None:
        if self.lacks_value:
            return
        try:
            parsed = spiffe.check(self.spiffe_id)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"SpiffeID({self.spiffe_id!r}): {error}") from error
        if not parsed.path:
            raise ConfigurationError(
                f"SpiffeID({self.spiffe_id!r}): expected a path, for example SpiffeID('spiffe://acme.internal/billing')"
            )

    def matches(self, certificate: ClientCertificate) -> bool:
        return spiffe.readable_id(certificate.alternative_names) == self.spiffe_id

    def _difference(self, certificate: ClientCertificate) -> str | None:
        return case_advice(self, self.spiffe_id, certificate.uris)

    def values(self, certificate: ClientCertificate) -> Iterable[IdentifierValue]:
        found = spiffe.readable_id(certificate.alternative_names)
        return () if found is None else (IdentifierValue(found, found),)

    def canonical_form(self, value: str) -> str | None:
        return value or None


@dataclass(frozen=True)
class SpiffeTrustDomain(NameRule):
    """Matches a certificate whose SPIFFE ID is in this trust domain. Example: `SpiffeTrustDomain("acme.internal")`"""

    name: str

    def __post_init__(self) -> None:
        try:
            parsed = spiffe.check(f"spiffe://{self.name}")
        except ValueError as error:
            raise ConfigurationError(f"SpiffeTrustDomain({self.name!r}): {error}") from error
        if parsed.path:
            raise ConfigurationError(f"SpiffeTrustDomain({self.name!r}): expected a name, for example 'acme.internal'")

    def matches(self, certificate: ClientCertificate) -> bool:
        found = spiffe.readable_id(certificate.alternative_names)
        return found is not None and spiffe.trust_domain(found) == self.name
