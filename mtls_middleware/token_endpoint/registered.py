"""The certificates that a self-signed client has registered: the `x5c` members of its JWK Set (RFC 8705 2.2.2).

Must never know: chains. Nobody signs these but their owner, and being equal is all that counts (RFC 8705 2.2).
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
from mtls_middleware.jwks import SkippedKeys, members_of
from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.sources.encoding import base64_der

logger: logging.Logger = logging.getLogger("mtls_middleware.token_endpoint")

# What must be equal: the certificate (RFC 8705), or its public key alone (drafts up to 12).
Match = Literal["certificate", "public_key"]


@dataclass(frozen=True, slots=True)
class RegisteredCertificates:
    """SHA-256 digests of the certificates, and of their SubjectPublicKeyInfo."""

    certificates: frozenset[bytes]
    public_keys: frozenset[bytes]

    def hold(self, certificate: ClientCertificate, match: Match) -> bool:
        """Whether the presented certificate is a registered one, or has the key of one."""
        if match == "public_key":
            try:
                return _key_digest(certificate) in self.public_keys
            except MalformedCertificate:
                return False
        return hashlib.sha256(certificate.der).digest() in self.certificates

    @classmethod
    def parse(cls, document: object) -> "RegisteredCertificates":
        """Read a JWK Set; entries without a usable `x5c` are left out, with a log line. Raises `ValueError`."""
        found = []
        left_out = SkippedKeys(logger, "key %d of a client's JWK Set is left out: %s")
        for number, member in enumerate(members_of(document)):
            try:
                found.append(_certificate(member))
            except (*UNREADABLE, jwt.PyJWTError, MalformedCertificate) as error:
                left_out.add(number, str(error) if type(error) is _Unusable else "not readable")
        left_out.end()
        return cls(
            frozenset(hashlib.sha256(each.der).digest() for each in found),
            frozenset(_key_digest(each) for each in found),
        )

    @classmethod
    def parse_text(cls, text: str | bytes) -> "RegisteredCertificates":
        """`parse` for JSON text. Raises `ValueError`."""
        return cls.parse(json_document(text))


class _Unusable(ValueError):  # noqa: N818 (an outcome, handled at once)
    """Why an entry is left out, in words of ours."""


def _certificate(member: object) -> ClientCertificate:
    """The certificate of one JWK: `x5c[0]` in standard base64, of the very key that the members describe."""
    if not isinstance(member, Mapping):
        raise _Unusable("not an object")
    x5c = member.get("x5c")
    if not isinstance(x5c, list) or not x5c or not isinstance(x5c[0], str):
        raise _Unusable("without x5c, and the certificate is what is compared (RFC 8705 2.2.2)")
    certificate = ClientCertificate.from_der(base64_der(x5c[0]))
    shape = {name: member[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in member}
    described = jwt.PyJWK(shape, algorithm=_ANY_ALGORITHM.get(str(member.get("kty")))).key
    if _spki(described) != _public_key(certificate):
        raise _Unusable("its members describe another key than x5c (RFC 7517 4.7)")
    return certificate


# PyJWK wants an algorithm where it cannot guess one; which does not matter for reading a key.
_ANY_ALGORITHM = {"RSA": "RS256"}


def _key_digest(certificate: ClientCertificate) -> bytes:
    return hashlib.sha256(_public_key(certificate)).digest()


def _public_key(certificate: ClientCertificate) -> bytes:
    """SubjectPublicKeyInfo. Raises `MalformedCertificate` for a key of a kind that nobody here knows."""
    try:
        return _spki(certificate.x509.public_key())
    except UNREADABLE as error:
        raise MalformedCertificate("the public key of the certificate cannot be read") from error


def _spki(key: object) -> bytes:
    public_bytes = getattr(key, "public_bytes", None)
    if public_bytes is None:
        raise _Unusable("not a public key")
    spki: bytes = public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki
