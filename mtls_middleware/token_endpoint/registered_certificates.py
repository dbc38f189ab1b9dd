"""Reads the certificates that a client registered in `x5c` of its JWK Set (RFC 8705 2.2.2).

These certificates are for the method `self_signed_tls_client_auth`. Certificates are compared only for equality, and no
chain is validated (RFC 8705 2.2).
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

# The part that is compared: the whole certificate (RFC 8705), or only its public key (drafts of RFC 8705 up to 12).
Match = Literal["certificate", "public_key"]


@dataclass(frozen=True, slots=True)
class RegisteredCertificates:
    """The SHA-256 digests of a client's registered certificates.

    Attributes:
        certificates: the digests of the certificates in DER.
        public_keys: the digests of their SubjectPublicKeyInfo in DER.
    """

    certificates: frozenset[bytes]
    public_keys: frozenset[bytes]

    def contains(self, certificate: ClientCertificate, match: Match) -> bool:
        """Return whether the presented certificate is registered.

        If `match` is `"public_key"`, return whether its public key is that of a registered certificate.
        """
        if match == "public_key":
            try:
                return _key_digest(certificate) in self.public_keys
            except MalformedCertificate:
                return False
        return hashlib.sha256(certificate.der).digest() in self.certificates

    @classmethod
    def parse(cls, document: object, place: str = "a registered client") -> "RegisteredCertificates":
        """Read a JWK Set. Entries without a usable `x5c` are ignored and logged. Raises `ValueError`.

        `place`: where the JWK Set is from, for the log.
        """
        found = read_keys(document, _certificate, logger, place)
        return cls(
            frozenset(hashlib.sha256(each.der).digest() for each in found),
            frozenset(_key_digest(each) for each in found),
        )

    @classmethod
    def parse_text(cls, place: str, text: str | bytes) -> "RegisteredCertificates":
        """Read a JWK Set from a JSON string, in the same way as `parse`. Raises `ValueError`."""
        return cls.parse(json_document(text), place)


def _certificate(member: object) -> ClientCertificate:
    """Return the certificate of one JWK: `x5c[0]` in standard base64.

    Raises `UnusableKey` unless the certificate has the public key that the JWK describes.
    """
    if not isinstance(member, Mapping):
        raise UnusableKey("not a JSON object")
    x5c = member.get("x5c")
    if not isinstance(x5c, list) or not x5c or not isinstance(x5c[0], str):
        raise UnusableKey("x5c is missing or contains no certificate (RFC 8705 2.2.2)")
    certificate = ClientCertificate.from_der(base64_der(x5c[0]))
    shape = {name: member[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in member}
    described = jwt.PyJWK(shape, algorithm=_ANY_ALGORITHM.get(str(member.get("kty")))).key
    if _spki(described) != _public_key(certificate):
        raise UnusableKey("its members describe another key than the certificate in x5c (RFC 7517 4.7)")
    return certificate


# PyJWK requires an algorithm for some key types. The choice of the algorithm does not affect how PyJWK reads the key.
_ANY_ALGORITHM = {"RSA": "RS256"}


def _key_digest(certificate: ClientCertificate) -> bytes:
    return hashlib.sha256(_public_key(certificate)).digest()


def _public_key(certificate: ClientCertificate) -> bytes:
    """Return the SubjectPublicKeyInfo of a certificate in DER.

    Raises `MalformedCertificate` if the key has an unsupported type.
    """
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
