"""Reads the certificates that a `self_signed_tls_client_auth` client registered: `x5c` in its JWK Set (RFC 8705 2.2.2).

Certificates are compared for equality only. No chain is validated (RFC 8705 2.2).
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.json_values import json_document
from mtls_middleware.jwks import UnusableKey, read_keys
from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.sources.encoding import base64_der

logger: logging.Logger = logging.getLogger("mtls_middleware.token_endpoint")

# Compare the whole certificate (RFC 8705), or its public key only (drafts of RFC 8705 up to draft 12).
Match = Literal["certificate", "public_key"]


@dataclass(frozen=True, slots=True)
class RegisteredCertificates:
    """SHA-256 digests of the registered certificates, and of their SubjectPublicKeyInfo."""

    certificates: frozenset[bytes]
    public_keys: frozenset[bytes]

    def contains(self, certificate: ClientCertificate, match: Match) -> bool:
        """Whether the presented certificate is registered, or, if `match` is `"public_key"`, its public key."""
        if match == "public_key":
            try:
                return _key_digest(certificate) in self.public_keys
            except MalformedCertificate:
                return False
        return hashlib.sha256(certificate.der).digest() in self.certificates

    @classmethod
    def parse(cls, document: object) -> "RegisteredCertificates":
        """Read a JWK Set. Entries without a usable `x5c` are ignored and logged. Raises `ValueError`."""
        found = read_keys(document, _certificate, logger, "key %d of a client's JWK Set is ignored: %s")
        return cls(
            frozenset(hashlib.sha256(each.der).digest() for each in found),
            frozenset(_key_digest(each) for each in found),
        )

    @classmethod
    def parse_text(cls, text: str | bytes) -> "RegisteredCertificates":
        """Like `parse`, for a JSON string. Raises `ValueError`."""
        return cls.parse(json_document(text))


def _certificate(member: object) -> ClientCertificate:
    """The certificate of one JWK: `x5c[0]` in standard base64. Its key must be the key that the JWK describes."""
    if not isinstance(member, Mapping):
        raise UnusableKey("not a JSON object")
    x5c = member.get("x5c")
    if not isinstance(x5c, list) or not x5c or not isinstance(x5c[0], str):
        raise UnusableKey("no x5c with the certificate to compare (RFC 8705 2.2.2)")
    certificate = ClientCertificate.from_der(base64_der(x5c[0]))
    shape = {name: member[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in member}
    described = jwt.PyJWK(shape, algorithm=_ANY_ALGORITHM.get(str(member.get("kty")))).key
    if _spki(described) != _public_key(certificate):
        raise UnusableKey("its members describe a different key than x5c (RFC 7517 4.7)")
    return certificate


# PyJWK requires an algorithm for some key types. The choice does not affect how it reads the key.
_ANY_ALGORITHM = {"RSA": "RS256"}


def _key_digest(certificate: ClientCertificate) -> bytes:
    return hashlib.sha256(_public_key(certificate)).digest()


def _public_key(certificate: ClientCertificate) -> bytes:
    """SubjectPublicKeyInfo in DER. Raises `MalformedCertificate` for a key of an unsupported type."""
    try:
        return _spki(certificate.x509.public_key())
    except UNREADABLE as error:
        raise MalformedCertificate("the public key of the certificate cannot be read") from error


def _spki(key: object) -> bytes:
    public_bytes = getattr(key, "public_bytes", None)
    if public_bytes is None:
        raise UnusableKey("not a public key")
    spki: bytes = public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki
