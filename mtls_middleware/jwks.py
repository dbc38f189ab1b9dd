"""JSON Web Key Sets: parse, choose the one key, and a key source that refreshes as a flow.

Must never know: tokens' claims. Keys come from configuration alone; nothing in a token names an address (rule 5).
"""

import ipaddress
import json
import logging
import math
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mtls_middleware.effects import Fetch, FetchFailed, Flow, Response, ask
from mtls_middleware.errors import ConfigurationError, Unavailable, require_extra

logger = logging.getLogger("mtls_middleware.jwks")

# Which algorithms a key of each shape may verify: one key, one family (RFC 8725 3.1), all of them asymmetric.
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC = {"secp256r1": frozenset({"ES256"}), "secp384r1": frozenset({"ES384"}), "secp521r1": frozenset({"ES512"})}
_EDDSA = frozenset({"EdDSA"})
ALGORITHMS = _RSA | _EDDSA | frozenset().union(*_EC.values())

_SMALLEST_RSA = 2048  # bits: RFC 7518 3.3

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

    def choose(self, key_id: str | None, algorithm: str) -> VerificationKey | None:
        """The key for a token's header, `None` where no key or more than one would do: never a guess (case 113)."""
        candidates = self.keys if key_id is None else self._by_id.get(key_id, ())
        if len(candidates) != 1 or algorithm not in candidates[0].algorithms:
            return None
        return candidates[0]

    @classmethod
    def parse(cls, document: object) -> "KeySet":
        """Read a JWK Set. Keys that cannot verify a token are left out with a log line; raises `ValueError` otherwise.

        Left out: symmetric and private keys, other uses, RSA under 2048 bits or with exponent 1, unknown types (A64).
        """
        members = document.get("keys") if isinstance(document, Mapping) else None
        if not isinstance(members, list):
            raise ValueError('not a JWK Set: expected {"keys": [...]}')
        found: list[VerificationKey] = []
        for number, member in enumerate(members):
            try:
                found.append(_key(member))
            except (ValueError, TypeError, jwt.PyJWTError) as error:
                reason = str(error) if type(error) is _Unusable else "not a readable JWK"
                logger.warning("key %d of the JWK Set is left out: %s", number, reason)
        return cls(tuple(found))


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
    try:
        return KeySet.parse(json.loads(text))
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error


class StaticKeys:
    """Keys given once. Raises `ConfigurationError` where none of them can verify a token."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        try:
            self._keys = KeySet.parse(document)
        except ValueError as error:
            raise ConfigurationError(f"jwks={type(document).__name__}: {error}") from error
        if not self._keys.keys:
            raise ConfigurationError("jwks= holds no public key that can verify a token (see the log for each)")

    def current(self, now: float) -> Flow[KeySet]:  # noqa: ARG002 (as FetchedKeys has it)
        yield from ()
        return self._keys

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:  # noqa: ARG002 (as FetchedKeys has it)
        yield from ()
        return self._keys


# A rotation is seen after ten minutes at the latest without any token asking for it.
_LIFETIME = 600.0
# Keys outlive an outage of their server by an hour, then 503: nobody could revoke a key meanwhile.
_MAX_STALE = 3600.0
# Between two attempts: what a flood of unknown key ids, or a dead server, may cost (A63, case 127).
COOL_DOWN = 30.0
_TIMEOUT, _LIMIT = 5.0, 262_144


class FetchedKeys:
    """Keys behind a `jwks_uri`: fetched on demand, remembered, refreshed when old or when a key id is unknown.

    The last good set is kept through an outage. At most one attempt per cool-down, whatever tokens arrive; those who
    cannot do without its outcome wait for it together. Times are compared by distance: a clock that is set back renews.
    """

    def __init__(self, uri: str, *, allow_http: bool, tls: ssl.SSLContext | None) -> None:
        require_extra("httpx2", "http", "jwks_uri")
        check_address("jwks_uri", uri, allow_http=allow_http)
        self._uri = uri
        self._tls = tls or ssl.create_default_context()
        self._lock = threading.Lock()  # around what follows; never held while anybody waits
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._attempt: Fetch | None = None  # whose outcome nobody has taken in yet
        self._attempted_at = float("-inf")

    def current(self, now: float) -> Flow[KeySet]:
        """The keys, fetched where there are none or they are old. Raises `Unavailable`."""
        if self._keys is None or abs(now - self._fetched_at) >= _LIFETIME:
            # While one asker renews old keys the others go on with them; without keys they all wait.
            yield from self._renew(now, join=self._held(now) is None)
        keys = self._held(now)
        if keys is None:
            wait = max(1, math.ceil(COOL_DOWN - abs(now - self._attempted_at)))
            raise Unavailable(f"no keys from {self._uri}", retry_after=wait)
        return keys

    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]:
        """The keys after one more look, where the cool-down allows it: an unknown `key_id` may be a rotation."""
        keys = yield from self.current(now)
        if key_id is not None:
            yield from self._renew(now, join=True)
        return self._keys or keys

    def _held(self, now: float) -> KeySet | None:
        return self._keys if abs(now - self._fetched_at) < _LIFETIME + _MAX_STALE else None

    def _renew(self, now: float, *, join: bool) -> Flow[None]:
        """One attempt where the cool-down allows it; else, to `join`, the one that is under way."""
        with self._lock:
            due = abs(now - self._attempted_at) >= COOL_DOWN
            if due:
                self._attempt, self._attempted_at = Fetch(self._uri, self._tls, _TIMEOUT, _LIMIT), now
            attempt = self._attempt if due or join else None
        if attempt is None:
            return
        found: Response | FetchFailed
        try:
            found = yield from ask(attempt)
        except FetchFailed as failure:
            found = failure
        with self._lock:
            if self._attempt is attempt:  # else another asker has taken it in
                self._attempt = None
                self._take_in(found)

    def _take_in(self, found: Response | FetchFailed) -> None:
        try:
            keys = _usable(found)
        except (FetchFailed, ValueError) as failure:
            reason = failure if isinstance(failure, FetchFailed) else "not a JWK Set"
            logger.error("no fresh keys from %s: %s", self._uri, reason)
            return
        self._fetched_at = self._attempted_at
        if self._keys is None or keys.keys != self._keys.keys:  # the same set stays the same object: see signed.py
            self._keys = keys


def _usable(found: Response | FetchFailed) -> KeySet:
    """The keys of an answer. Raises `FetchFailed`, or `ValueError` where it is no JWK Set."""
    if isinstance(found, FetchFailed):
        raise found
    if found.status != 200:
        raise FetchFailed(f"status {found.status}")
    keys = parse_text(found.body)
    if not keys.keys:
        raise FetchFailed("no usable key")
    return keys


def check_address(what: str, uri: str, *, allow_http: bool) -> None:
    """An address that we fetch from: https; http only where allowed, and then to a loopback address only."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{what}={uri!r} is no address, for example 'https://as.example/jwks'") from error
    if not host or parts.username is not None or parts.fragment:
        raise ConfigurationError(f"{what}={uri!r} is no plain address, for example 'https://as.example/jwks'")
    if parts.scheme == "https" or (parts.scheme == "http" and allow_http and _is_loopback(host)):
        return
    raise ConfigurationError(f"{what}={uri!r} must be https (allow_http=True admits http to loopback, for tests)")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
