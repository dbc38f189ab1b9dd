"""`IssuedBy`: a rule for the certification authority in the validated path of a certificate."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.rule import Identity
from mtls_middleware.validation.trust_files import read_certificates

# Number of CA certificates whose key digest is cached. A deployment has a few CAs.
_CACHED = 256


@dataclass(frozen=True)
class IssuedBy(Identity):
    """Matches a certificate whose validated path goes through this CA (RFC 5280 6.1).

    The CA is recognised by its public key, so a CA with the same name and a different key does not match, and a renewed
    CA certificate with the same key does. Only a trust store validates a path: the layer needs `trust_store=`.

    Arguments:
        authority: a PEM file with exactly one CA certificate, which is read once, or a `cryptography` certificate.

    Raises `ConfigurationError`. Example: `IssuedBy("partner-ca.pem") & DNSName("billing.partner.example")`
    """

    authority: str | PathLike[str] | x509.Certificate
    needs_path = True
    depends_only_on_certificate = True
    _key: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", _key_digest(_load(self.authority)))

    def matches(self, certificate: ClientCertificate) -> bool:
        if not certificate.path:
            raise MalformedCertificate("no trust store has validated a path")
        return any(_key_digest_of(der) == self._key for der in certificate.path[1:])

    def __repr__(self) -> str:
        shown = self.authority if isinstance(self.authority, x509.Certificate) else str(self.authority)
        return f"IssuedBy({shown!r})"


def _load(authority: object) -> x509.Certificate:
    if isinstance(authority, x509.Certificate):
        return authority
    if not isinstance(authority, (str, PathLike)) or not str(authority):
        raise ConfigurationError(f"IssuedBy({authority!r}): expected a PEM file, for example 'partner-ca.pem'")
    try:
        found = read_certificates(Path(authority).read_bytes(), str(authority))
    except OSError as error:
        raise ConfigurationError(f"IssuedBy({str(authority)!r}): cannot be read ({type(error).__name__})") from error
    except UNREADABLE as error:
        raise ConfigurationError(
            f"IssuedBy({str(authority)!r}): expected PEM with a CA certificate: {error}"
        ) from error
    if len(found) != 1:
        raise ConfigurationError(
            f"IssuedBy({str(authority)!r}): found {len(found)} certificates; expected exactly one CA certificate: "
            "combine several rules with |"
        )
    return found[0]


def _key_digest(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE as error:
        raise ConfigurationError("IssuedBy: the public key of the CA certificate cannot be read") from error
    return hashlib.sha256(key).digest()


@lru_cache(maxsize=_CACHED)
def _key_digest_of(der: bytes) -> bytes:
    return _key_digest(x509.load_der_x509_certificate(der))
