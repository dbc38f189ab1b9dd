"""Parses JSON Web Key Sets, selects the key for a token, and fetches key sets from a `jwks_uri`.

All URLs come from configuration or discovery. A URL in a token is never fetched.
"""

import copy
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mtls_middleware.cache import Cache
from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.flow import Flow
from mtls_middleware.effects.remote_document import RemoteDocument, UnusableDocument
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, require_extra
from mtls_middleware.json_values import excerpt, json_document
from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.reusable import Check

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("mtls_middleware.jwks")

# The algorithms for each key type, all asymmetric. A key verifies only one family of algorithms (RFC 8725 3.1).
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC = {"secp256r1": frozenset({"ES256"}), "secp384r1": frozenset({"ES384"}), "secp521r1": frozenset({"ES512"})}
# The two names of one algorithm, from RFC 8037 and RFC 9864. Keys on Ed448 are not supported.
_EDDSA = frozenset({"EdDSA", "Ed25519"})
ALGORITHMS: frozenset[str] = _RSA.union(_EDDSA, *_EC.values())

_MIN_RSA_BITS = 2048  # the minimum size of an RSA key in bits (RFC 7518 3.3)
# Maximum number of keys in a JWK Set. Issuers publish fewer than 20 keys. To read one key takes up to 0.1 ms.
_MAX_KEYS = 200
# Maximum number of log lines about ignored keys, for each JWK Set.
_MAX_LOG_LINES = 5

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, its `kid`, and the algorithms whose signatures this key may verify."""

    key_id: str | None
    algorithms: frozenset[str]
    key: PublicKey


class KeySet:
    """The usable keys of a JWK Set (RFC 7517 5), indexed by key id."""

    def __init__(self, keys: tuple[VerificationKey, ...]) -> None:
        self.keys = keys
        self._by_id: dict[str | None, list[VerificationKey]] = {}
        for key in keys:
            self._by_id.setdefault(key.key_id, []).append(key)

    def __eq__(self, other: object) -> bool:
        return self.keys == other.keys if isinstance(other, KeySet) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(key.key_id for key in self.keys))

    @property
    def key_ids(self) -> tuple[str | None, ...]:
        """At most ten of the key ids, for the log."""
        return tuple(self._by_id)[:10]

    def choose(self, key_id: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key for the `kid` and `alg` of a token header, or `None` unless exactly one key matches.

        Several keys may have one `kid`, if they are for different algorithms (RFC 7517 4.5). A key may be listed more
        than once, for example once for each of its algorithms.
        """
        candidates = self.keys if key_id is None else self._by_id.get(key_id, ())
        matching = [each for each in candidates if algorithm in each.algorithms]
        if not matching or any(each.key != matching[0].key for each in matching):
            return None
        return matching[0]

    @classmethod
    def parse(cls, document: object, place: str = "jwks=") -> "KeySet":
        """Read a JWK Set. Keys that cannot verify a token are ignored and logged.

        Ignored keys are: symmetric keys, private keys, keys for other uses, RSA keys of less than 2048 bits or with
        exponent 1, and keys of unknown types. `place`: where the JWK Set is from, for the log. Raises `ValueError` if
        `document` is not a JWK Set.
        """
        return cls(tuple(read_keys(document, _key, logger, place)))


# The ignored keys that were already logged. A cache key is the place, the number, the key id and the reason.
_logged: Cache[tuple[str, int, str, str], bool] = Cache(10_000)


def read_keys(document: object, read: Callable[[Any], T], log: logging.Logger, place: str) -> list[T]:
    """Call `read` for each key of a JWK Set, and return the results.

    If `read` raises an exception, the key is ignored. Each ignored key is logged once in this process, with its `kid`,
    the place of the set and the reason. At most five lines are written for each set, so that a document cannot flood
    the log. Raises `ValueError` if `document` is not a JWK Set.
    """
    found: list[T] = []
    ignored: list[tuple[str, int, str, str]] = []
    for number, member in enumerate(members_of(document)):
        try:
            found.append(read(_without_null(member)))
        except (*UNREADABLE, jwt.PyJWTError, MalformedCertificate) as error:
            reason = str(error) if isinstance(error, UnusableKey) else "not a readable JWK"
            ignored.append((place, number, _key_id_of(member), reason))
    new = [each for each in ignored if _logged.get(each) is None]
    for each in new[:_MAX_LOG_LINES]:
        log.warning("JWK Set of %s: key %d with kid %s is ignored: %s", *each)
    if len(new) > _MAX_LOG_LINES:
        log.warning("JWK Set of %s: %d more keys are ignored", place, len(new) - _MAX_LOG_LINES)
    for each in new:
        _logged.put(each, True)
    return found


def _key_id_of(member: object) -> str:
    """Return the `kid` of a JWK for the log, where control characters are escaped."""
    key_id = member.get("kid") if isinstance(member, Mapping) else None
    return excerpt(key_id) if isinstance(key_id, str) else "(none)"


def _without_null(member: object) -> object:
    """Return the JWK without members that are `null`: some serializers write `null` for each optional member."""
    return {name: each for name, each in member.items() if each is not None} if isinstance(member, dict) else member


def members_of(document: object) -> list[Any]:
    """Return the unparsed keys of a JWK Set. Raises `ValueError` for more than 200 keys, or for another document."""
    members = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(members, list):
        raise UnusableDocument('not a JWK Set: expected {"keys": [...]}')
    if len(members) > _MAX_KEYS:
        raise UnusableDocument(f"a JWK Set of {len(members)} keys: expected at most {_MAX_KEYS}")
    return members


class UnusableKey(ValueError):  # noqa: N818 (not an error: the caller logs it)
    """Raised with the reason why a key is ignored. The message contains no input, so it is safe to log."""


def _key(member: object) -> VerificationKey:
    if not isinstance(member, dict):
        raise UnusableKey("not a JSON object")
    if member.get("kty") not in ("RSA", "EC", "OKP"):
        raise UnusableKey("not an RSA, EC or OKP key")
    if "d" in member:
        raise UnusableKey("a private key: publish its public part only")
    operations = member.get("key_ops", ["verify"])
    if member.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("not for signatures")
    key_id, declared = member.get("kid"), member.get("alg")
    if key_id is not None and not isinstance(key_id, str):
        raise UnusableKey("kid is not a string")
    shape = {name: member.get(name) for name in ("kty", "crv", "n", "e", "x", "y") if name in member}
    key = jwt.PyJWK(shape).key
    algorithms = algorithms_of(key)
    if declared is not None:
        algorithms = algorithms if declared in algorithms & _EDDSA else algorithms & {declared}
    if not algorithms:
        raise UnusableKey("its alg does not match its key type")
    return VerificationKey(key_id, algorithms, key)


def algorithms_of(key: object) -> frozenset[str]:
    """Return the algorithms that may be used with this public key. The set is empty for an unsupported type of key.

    Raises `UnusableKey` for an RSA key of less than 2048 bits or with exponent 1.

    Example: `algorithms_of(key)` of a key on P-256 is `frozenset({"ES256"})`
    """
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS or key.public_numbers().e < 3:
            raise UnusableKey("an RSA key under 2048 bits, or with exponent 1")
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _EC.get(key.curve.name, frozenset())
    return _EDDSA if isinstance(key, ed25519.Ed25519PublicKey) else frozenset()


def parse_text(text: str | bytes, place: str = "jwks=") -> KeySet:
    """Parse a JWK Set from a JSON string. `place`: see `KeySet.parse`. Raises `ValueError`."""
    return KeySet.parse(json_document(text), place)


class StaticKeys:
    """The keys of an issuer, given in the configuration. Raises `ConfigurationError` if no key can verify a token."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        try:
            self._keys = KeySet.parse(document)
        except ValueError as error:
            raise ConfigurationError(f"jwks= is a {type(document).__name__}: {error}") from error
        if not self._keys.keys:
            raise ConfigurationError(
                "jwks= contains no public key that can verify a token (the log has a reason for each key)"
            )

    def fresh(self, now: float) -> KeySet:  # noqa: ARG002 (the signature of `FetchedKeys`)
        return self._keys

    def current(self, now: float) -> Flow[KeySet]:  # noqa: ARG002 (the signature of `FetchedKeys`)
        yield from ()
        return self._keys

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:  # noqa: ARG002 (see `FetchedKeys`)
        yield from ()
        return self._keys

    def checks(self, keys: KeySet) -> tuple[Check, ...]:  # noqa: ARG002 (the signature of `FetchedKeys`)
        return ()


class FetchedKeys:
    """Fetches the keys of an issuer from a `jwks_uri`.

    A token with an unknown key id causes a new fetch, because the issuer may have rotated the keys.
    """

    def __init__(self, uri: str, *, allow_http: bool, tls: ssl.SSLContext | None, proxy: str | None = None) -> None:
        require_extra("httpx2", "http", "jwks_uri")
        check_address("jwks_uri", uri, allow_http=allow_http)
        self.uri = uri
        self._allow_http = allow_http
        self._keys = RemoteDocument(uri, partial(_parse_usable, uri), tls=tls, proxy=proxy)

    def with_uri(self, uri: str) -> "FetchedKeys":
        """Return a copy that fetches from `uri`. Raises `ConfigurationError`.

        The copy uses the cached keys until its first successful fetch, for at most an hour.
        """
        if uri == self.uri:
            return self
        check_address("jwks_uri", uri, allow_http=self._allow_http)
        keys = copy.copy(self)
        keys.uri, keys._keys = uri, self._keys.with_uri(uri, partial(_parse_usable, uri))
        return keys

    def fresh(self, now: float) -> KeySet | None:
        """Return the cached keys, or `None` if no keys are cached or the cached keys must be renewed."""
        return self._keys.fresh(now)

    def current(self, now: float) -> Flow[KeySet]:
        return self._keys.current(now)

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:
        return self._keys.current(now) if key_id is None else self._keys.refreshed(now)

    def checks(self, keys: KeySet) -> tuple[Check, ...]:
        return (lambda now: self._keys.fresh(now) is keys,)


def _parse_usable(uri: str, text: bytes) -> KeySet:
    keys = parse_text(text, uri)
    if not keys.keys:
        raise UnusableDocument("the JWK Set contains no key that can verify a token")
    return keys
