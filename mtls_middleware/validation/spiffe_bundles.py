"""`SpiffeTrust`: X.509-SVIDs, each against the bundle of its own trust domain (X509-SVID 5, SPIFFE bundle format 4).

Must never know: workload APIs and endpoints; bundles are files that something else keeps fresh. One domain's roots
never vouch for another's IDs, federated or not.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Self

from cryptography import x509

from mtls_middleware.base64_values import base64_octets
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.json_values import json_document
from mtls_middleware.jwks import members_of
from mtls_middleware.names import spiffe
from mtls_middleware.reusable import Reusable
from mtls_middleware.validation.chain import UNREADABLE, refused
from mtls_middleware.validation.profile import extension
from mtls_middleware.validation.revocation_lists import RevocationLists
from mtls_middleware.validation.store import Given, TrustStore, read_pem


class _Bundle(TrustStore):
    """The roots of one trust domain, from PEM or a SPIFFE bundle (JWK set)."""

    _suffixes = (".pem", ".crt", ".json")

    @staticmethod
    def _read(octets: bytes) -> list[x509.Certificate]:
        return read_jwks(octets) if octets.lstrip().startswith(b"{") else read_pem(octets)


class SpiffeTrust:
    """Trust domains and their bundles, as a trust store: `protect(app, ..., trust_store=SpiffeTrust({...}))`.

    Arguments:
        bundles: trust domain to its roots: `cryptography` certificates, PEM files, SPIFFE bundle files (JSON), or
            directories of these. A federated domain is one more entry. Files that change are read again.
        revocation: see `TrustStore`. SVIDs live so shortly that most have none.
        max_depth, leeway: see `TrustStore`.

    Raises `ConfigurationError`.

    Example: `SpiffeTrust({"acme.internal": ["/run/spire/bundle.json"], "partner.example": ["partner.pem"]})`
    """

    def __init__(
        self,
        bundles: Mapping[str, Collection[Given]],
        *,
        revocation: RevocationLists | None = None,
        max_depth: int = 5,
        leeway: float | None = None,
    ) -> None:
        if not isinstance(bundles, Mapping) or not bundles:
            raise ConfigurationError(f"bundles={bundles!r}: for example {{'acme.internal': ['bundle.json']}}")
        for domain in bundles:
            if not isinstance(domain, str) or not _is_trust_domain(domain):
                raise ConfigurationError(f"bundles: {domain!r} is no trust domain, for example 'acme.internal'")
        self._stores = {
            domain: _Bundle(roots, revocation=revocation, max_depth=max_depth, leeway=leeway)
            for domain, roots in bundles.items()
        }

    def with_clock_skew(self, clock_skew: float) -> Self:
        """See `TrustStore`. Example: `trust.with_clock_skew(60)`"""
        found = copy.copy(self)
        found._stores = {domain: store.with_clock_skew(clock_skew) for domain, store in self._stores.items()}
        return found

    is_reusable = True

    def validate(self, certificate: ClientCertificate, now: float) -> Flow[ClientCertificate]:
        """The certificate as `BY_TRUST_STORE`, if it is an X.509-SVID of a known domain. Raises as `TrustStore`."""
        return (yield from self.decide(certificate, now)).value

    def decide(self, certificate: ClientCertificate, now: float) -> Flow[Reusable[ClientCertificate]]:
        """The same, with the time for which the result holds."""
        try:
            found = certificate.spiffe_id
            if found is None:
                raise refused(certificate, "not exactly one URI that is a SPIFFE ID with a path")
            usage = extension(certificate.x509, x509.KeyUsage)
        except MalformedCertificate as error:
            raise refused(certificate, *error.evidence) from None
        except UNREADABLE as error:
            raise refused(certificate, f"its extensions cannot be read ({type(error).__name__})") from None
        if usage is None or not usage.critical or not usage.value.digital_signature:
            raise refused(certificate, "keyUsage is not critical, or lacks digitalSignature (X509-SVID 4.3)")
        domain = spiffe.trust_domain(found)
        if domain not in self._stores:
            raise refused(certificate, f"no bundle for the trust domain {domain}")
        return (yield from self._stores[domain].decide(certificate, now))


def _is_trust_domain(text: str) -> bool:
    try:
        return spiffe.check(f"spiffe://{text}") == spiffe.SpiffeId(text, "")
    except ValueError:
        return False


def read_jwks(octets: bytes) -> list[x509.Certificate]:
    """The roots of a SPIFFE bundle (X509-SVID 6.1). Raises `ValueError`.

    Keys for other uses, and keys without `x5c`, are ignored. Any other fault makes the whole bundle unusable, because a
    part of the roots is not the bundle.
    """
    entries = members_of(json_document(octets))
    if not all(isinstance(each, dict) for each in entries):
        raise ValueError("not a SPIFFE bundle: expected a JSON object for each key")
    found = []
    for entry in entries:
        if entry.get("use") != "x509-svid" or "x5c" not in entry:
            continue
        chain = entry["x5c"]
        if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
            raise ValueError("x5c of an x509-svid key is not exactly one certificate")
        try:
            der = base64_octets(chain[0])
        except ValueError as error:
            raise ValueError("x5c is not base64") from error
        try:
            found.append(x509.load_der_x509_certificate(der))
        except UNREADABLE as error:
            raise ValueError(f"the certificate in x5c cannot be read ({type(error).__name__})") from error
    if not found:
        raise ValueError("the bundle has no x509-svid key with a certificate")
    return found
