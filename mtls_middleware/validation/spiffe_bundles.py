"""`SpiffeTrust`: validates X.509-SVIDs with the bundle of their own trust domain (X509-SVID 5, SPIFFE bundle format 4).

Bundles are files that another program updates. This module does not call the SPIFFE Workload API. The roots of one
trust domain never validate an ID of another trust domain, even if the domains are federated.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from cryptography import x509

from mtls_middleware.base64_values import base64_octets
from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.json_values import json_document
from mtls_middleware.jwks import members_of
from mtls_middleware.names import spiffe
from mtls_middleware.reusable import Reusable
from mtls_middleware.validation.chain import UNREADABLE, refused
from mtls_middleware.validation.profile import extension
from mtls_middleware.validation.revocation import Revocation
from mtls_middleware.validation.store import Given, TrustStore
from mtls_middleware.validation.trust_files import read_certificates


class _Bundle(TrustStore):
    """A trust store with the roots of one trust domain, read from PEM or from a SPIFFE bundle (a JWK Set)."""

    _suffixes = (".pem", ".crt", ".json")
    # A bundle may be published by another organization. One bad root in it must not keep this process from starting.
    _checks_roots = False

    @staticmethod
    def _read(octets: bytes, file: str) -> Sequence[x509.Certificate]:
        return read_jwks(octets) if octets.lstrip().startswith(b"{") else read_certificates(octets, file)


class SpiffeTrust:
    """A trust store that validates X.509-SVIDs of one or more SPIFFE trust domains.

    Arguments:
        bundles: a mapping from the name of a trust domain to a list of its roots: `cryptography` certificates, PEM
            files, SPIFFE bundle files (JSON), or directories that contain such files. Add an entry for each federated
            domain. Changed files are read again.
        revocation: see `TrustStore`. Most SVIDs are valid for a few hours only and need no revocation lists.
        max_depth, leeway: see `TrustStore`.

    Raises `ConfigurationError` if an argument is invalid, or if a file cannot be used.

    Example: `SpiffeTrust({"acme.internal": ["/run/spire/bundle.json"], "partner.example": ["partner.pem"]})`
    """

    def __init__(
        self,
        bundles: Mapping[str, Collection[Given]],
        *,
        revocation: Revocation | Sequence[Revocation] | None = None,
        max_depth: int = 5,
        leeway: float | None = None,
    ) -> None:
        if not isinstance(bundles, Mapping) or not bundles:
            raise ConfigurationError(
                f"bundles={bundles!r}: expected a mapping, for example {{'acme.internal': ['bundle.json']}}"
            )
        for domain in bundles:
            if not isinstance(domain, str) or not _is_trust_domain(domain):
                raise ConfigurationError(
                    f"bundles: {domain!r} is not a trust domain; expected a name, for example 'acme.internal'"
                )
        self._stores = {
            domain: _Bundle(roots, revocation=revocation, max_depth=max_depth, leeway=leeway)
            for domain, roots in bundles.items()
        }

    def with_clock_skew(self, clock_skew: float) -> Self:
        """Return a copy with this tolerance in seconds: see `TrustStore`. Example: `trust.with_clock_skew(60)`"""
        found = copy.copy(self)
        found._stores = {domain: store.with_clock_skew(clock_skew) for domain, store in self._stores.items()}
        return found

    is_reusable = True

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches of all trust domains, which share the memory of a stack of layers."""
        return tuple(dict.fromkeys(cache for store in self._stores.values() for cache in store.caches))

    def validate(self, certificate: ClientCertificate, now: float) -> Flow[ClientCertificate]:
        """Return the certificate with the verification `BY_TRUST_STORE`.

        `now`: seconds since the epoch. Raises `Refused` unless the certificate is a valid X.509-SVID of a configured
        trust domain, and `Unavailable` if a revocation list cannot be fetched.
        """
        return (yield from self.decide(certificate, now)).value

    def decide(self, certificate: ClientCertificate, now: float) -> Flow[Reusable[ClientCertificate]]:
        """Like `validate`, but returns the certificate with the time for which the result may be reused."""
        try:
            found = certificate.spiffe_id
            if found is None:
                raise refused(certificate, "expected exactly one URI, which is a SPIFFE ID with a path")
            usage = extension(certificate.x509, x509.KeyUsage)
        except MalformedCertificate as error:
            raise refused(certificate, *error.evidence) from None
        except UNREADABLE as error:
            raise refused(
                certificate, f"the extensions of the certificate cannot be read ({type(error).__name__})"
            ) from None
        if usage is None or not usage.critical or not usage.value.digital_signature:
            raise refused(certificate, "keyUsage is not critical, or lacks digitalSignature (X509-SVID 4.3)")
        domain = spiffe.trust_domain(found)
        if domain not in self._stores:
            raise refused(certificate, f"no bundle is configured for the trust domain {domain}")
        return (yield from self._stores[domain].decide(certificate, now))


def _is_trust_domain(text: str) -> bool:
    try:
        return spiffe.check(f"spiffe://{text}") == spiffe.SpiffeId(text, "")
    except ValueError:
        return False


def read_jwks(octets: bytes) -> list[x509.Certificate]:
    """Return the roots of a SPIFFE bundle (X509-SVID 6.1), given as the bytes of a JSON file.

    Ignores keys for other uses and keys without `x5c`. Raises `ValueError` for any other error, so that a bundle is
    never used with only some of its roots.
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
