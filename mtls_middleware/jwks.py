"""JSON Web Key Sets: parse, choose the one key, and a key source that refreshes as a flow.

Must never know: tokens' claims. Keys come from configuration alone; nothing in a token names an address.
"""

import copy
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mtls_middleware.effects.flow import Flow
from mtls_middleware.effects.remote_document import RemoteDocument, UnusableDocument, check_address
from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.json_values import json_document
from mtls_middleware.reusable import Check

logger: logging.Logger = logging.getLogger("mtls_middleware.jwks")

# Which algorithms a key of each shape may verify: one key, one family (RFC 8725 3.1), all of them asymmetric.
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC = {"secp256r1": frozenset({"ES256"}), "secp384r1": frozenset({"ES384"}), "secp521r1": frozenset({"ES512"})}
_EDDSA = frozenset({"EdDSA"})
ALGORITHMS: frozenset[str] = _RSA.union(_EDDSA, *_EC.values())

_SMALLEST_RSA = 2048  # bits: RFC 7518 3.3
# Entries of a JWK Set. Issuers publish fewer than 20, and reading one takes up to a tenth of a millisecond.
_MOST_KEYS = 200
# Log lines about the entries of one document.
_MOST_LINES = 5

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key and the algorithms that it may verify."""

    key_id: str | None
    algorithms: frozenset[str]
    key: PublicKey


class KeySet:
    """The usable keys of a JWK Set (RFC 7517 5), found by key id."""

    def __init__(self, keys: tuple[VerificationKey, ...]) -> None:
        self.keys = keys
        self._by_id: dict[str | None, list[VerificationKey]] = {}
        for key in keys:
            self._by_id.setdefault(key.key_id, []).append(key)

    def __eq__(self, other: object) -> bool:
        return self.keys == other.keys if isinstance(other, KeySet) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(key.key_id for key in self.keys))

    def choose(self, key_id: str | None, algorithm: str) -> VerificationKey | None:
        """The key for a token's header, `None` where no key or more than one would do: never a guess."""
        candidates = self.keys if key_id is None else self._by_id.get(key_id, ())
        if len(candidates) != 1 or algorithm not in candidates[0].algorithms:
            return None
        return candidates[0]

    @classmethod
    def parse(cls, document: object) -> "KeySet":
        """Read a JWK Set. Keys that cannot verify a token are left out with a log line; raises `ValueError` otherwise.

        Left out: symmetric and private keys, other uses, RSA under 2048 bits or with exponent 1, unknown types.
        """
        found: list[VerificationKey] = []
        left_out = SkippedKeys(logger, "key %d of the JWK Set is left out: %s")
        for number, member in enumerate(members_of(document)):
            try:
                found.append(_key(member))
            except (ValueError, TypeError, jwt.PyJWTError) as error:
                left_out.add(number, str(error) if type(error) is _Unusable else "not a readable JWK")
        left_out.end()
        return cls(tuple(found))


def members_of(document: object) -> list[Any]:
    """The entries of a JWK Set, at most 200. Raises `ValueError`."""
    members = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(members, list):
        raise UnusableDocument('not a JWK Set: expected {"keys": [...]}')
    if len(members) > _MOST_KEYS:
        raise UnusableDocument(f"a JWK Set of {len(members)} keys: expected at most {_MOST_KEYS}")
    return members


class SkippedKeys:
    """Logs entries that are left out, at most five of one document: who writes it must not choose the number of lines.

    Example: `SkippedKeys(logger, "key %d of the JWK Set is left out: %s")`
    """

    def __init__(self, log: logging.Logger, line: str) -> None:
        self._log, self._line, self._count = log, line, 0

    def add(self, number: int, reason: str) -> None:
        """Entry `number` is left out."""
        self._count += 1
        if self._count <= _MOST_LINES:
            self._log.warning(self._line, number, reason)

    def end(self) -> None:
        """The document is complete."""
        if self._count > _MOST_LINES:
            self._log.warning("%d more of its keys are left out", self._count - _MOST_LINES)


class _Unusable(ValueError):  # noqa: N818 (an outcome, handled at once)
    """Why a JWK is left out, in words of ours."""


def _key(member: object) -> VerificationKey:
    if not isinstance(member, dict):
        raise _Unusable("not an object")
    if member.get("kty") not in ("RSA", "EC", "OKP"):
        raise _Unusable("not an RSA, EC or OKP key")
    if "d" in member:
        raise _Unusable("a private key: publish its public part only")
    operations = member.get("key_ops", ["verify"])
    if member.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise _Unusable("not for signatures")
    key_id, declared = member.get("kid"), member.get("alg")
    if key_id is not None and not isinstance(key_id, str):
        raise _Unusable("kid is not a text")
    shape = {name: member.get(name) for name in ("kty", "crv", "n", "e", "x", "y") if name in member}
    key = jwt.PyJWK(shape).key
    algorithms = _algorithms(key)
    if declared is not None:
        algorithms &= {declared}
    if not algorithms:
        raise _Unusable("its alg does not go with its type")
    return VerificationKey(key_id, algorithms, key)


def _algorithms(key: object) -> frozenset[str]:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _SMALLEST_RSA or key.public_numbers().e < 3:
            raise _Unusable("an RSA key under 2048 bits, or with exponent 1")
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _EC.get(key.curve.name, frozenset())
    return _EDDSA if isinstance(key, ed25519.Ed25519PublicKey) else frozenset()


def parse_text(text: str | bytes) -> KeySet:
    """A JWK Set from JSON text. Raises `ValueError`."""
    return KeySet.parse(json_document(text))


class StaticKeys:
    """Keys given once. Raises `ConfigurationError` where none of them can verify a token."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        try:
            self._keys = KeySet.parse(document)
        except ValueError as error:
            raise ConfigurationError(f"jwks={type(document).__name__}: {error}") from error
        if not self._keys.keys:
            raise ConfigurationError("jwks= holds no public key that can verify a token (see the log for each)")

    def fresh(self, now: float) -> KeySet:  # noqa: ARG002 (as FetchedKeys has it)
        return self._keys

    def current(self, now: float) -> Flow[KeySet]:  # noqa: ARG002 (as FetchedKeys has it)
        yield from ()
        return self._keys

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:  # noqa: ARG002 (as FetchedKeys has it)
        yield from ()
        return self._keys

    def checks(self, keys: KeySet) -> tuple[Check, ...]:  # noqa: ARG002 (as FetchedKeys has it)
        return ()


class FetchedKeys:
    """Keys behind a `jwks_uri`, refreshed where a key id is unknown: that may be a rotation."""

    def __init__(self, uri: str, *, allow_http: bool, tls: ssl.SSLContext | None) -> None:
        require_extra("httpx2", "http", "jwks_uri")
        check_address("jwks_uri", uri, allow_http=allow_http)
        self.uri = uri
        self._allow_http = allow_http
        self._keys = RemoteDocument(uri, _usable, tls=tls)

    def at(self, uri: str) -> "FetchedKeys":
        """These keys, from `uri` now: the ones that are known serve until its keys are there, for an hour at most.

        Raises `ConfigurationError`.
        """
        if uri == self.uri:
            return self
        check_address("jwks_uri", uri, allow_http=self._allow_http)
        moved = copy.copy(self)
        moved.uri, moved._keys = uri, self._keys.moved(uri)
        return moved

    def fresh(self, now: float) -> KeySet | None:
        """The keys, where nobody need look for others."""
        return self._keys.fresh(now)

    def current(self, now: float) -> Flow[KeySet]:
        return self._keys.current(now)

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:
        return self._keys.current(now) if key_id is None else self._keys.refreshed(now)

    def checks(self, keys: KeySet) -> tuple[Check, ...]:
        return (lambda now: self._keys.fresh(now) is keys,)


def _usable(text: bytes) -> KeySet:
    keys = parse_text(text)
    if not keys.keys:
        raise UnusableDocument("no key in it that can verify a token")
    return keys
