"""Parses JWTs and verifies their signatures (RFC 7515, RFC 8725) with the algorithms of PyJWT.

The caller must check the claims. This module is used for access tokens and for signed introspection responses.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import jwt

from mtls_middleware.base64_values import base64url_octets
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import Refused
from mtls_middleware.json_values import json_object, memory_of
from mtls_middleware.jwks import ALGORITHMS, KeySet, VerificationKey
from mtls_middleware.resource_server.claims import media_type, reject_token
from mtls_middleware.reusable import Check

# Matches three parts of unpadded base64url. The JSON serialization (RFC 7515 7.2) and JWEs do not match.
_JWS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")

# Only the algorithms of PyJWT are used. PyJWT's decoder is not used, because it would parse the token a second time.
# PyJWT 2 does not know the names of RFC 9864.
_ALGORITHMS = {name: jwt.get_algorithm_by_name("EdDSA" if name == "Ed25519" else name) for name in ALGORITHMS}

# Maximum number of parsed headers that are cached. All tokens signed with one key of an issuer have the same header. 64
# headers need at most 2 MB.
_CACHED_HEADERS = 64


class Keys(Protocol):
    """The protocol of an issuer's keys. `StaticKeys`, `FetchedKeys` and `DiscoveredKeys` implement it."""

    def fresh(self, now: float) -> KeySet | None: ...
    def current(self, now: float) -> Flow[KeySet]: ...
    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]: ...
    def checks(self, keys: KeySet) -> tuple[Check, ...]:
        """Return functions that check whether `keys` are still the issuer's current keys."""


class VerifiedJWT(NamedTuple):
    """A JWT whose signature is valid.

    Attributes:
        typ: the header parameter `typ`, in the form of `media_type`; empty if it is absent.
        claims: all claims.
        key_id, keys: the `kid` of the key that verified the signature, and the key set that contains the key.
        size: bytes that the claims need in memory.
    """

    typ: str
    claims: dict[str, Any]
    key_id: str | None
    keys: KeySet
    size: int


def verify_jwt(
    text: str,
    *,
    source: Keys,
    keys: KeySet,
    algorithms: frozenset[str],
    typ: frozenset[str | None],
    now: float,
    check: Callable[[str, dict[str, Any]], object] | None = None,
) -> Flow[VerifiedJWT]:
    """Verify the signature of the JWT `text`. Raises `Refused("invalid_token")`, or `Unavailable`.

    Arguments:
        source: fetches the issuer's keys if `keys` has no key for this JWT.
        keys: the issuer's keys that have already been fetched.
        algorithms, typ: the accepted values of these header parameters; `typ` in the form of `media_type`, or `None`
            for a JWT without `typ`.
        check: a function that raises `Refused` for a `typ` and claims that are not accepted even with a valid
            signature. It is called before keys are fetched for an unknown key id, so that such a token causes no fetch.
    """
    jws = _parse(text, algorithms, typ)
    key = keys.choose(jws.header.key_id, jws.header.algorithm)
    if key is None:
        if check is not None:
            check(jws.header.typ, _json_object(_base64url(jws.payload)))
        keys = yield from source.refreshed(now, jws.header.key_id)
        key = keys.choose(jws.header.key_id, jws.header.algorithm)
    if key is None:
        reject_token(
            "the issuer has no key for this kid and alg, or more than one",
            found={"kid": jws.header.key_id, "alg": jws.header.algorithm},
            expected={"kid": keys.key_ids},
        )
    return _verify_signature(jws, key, keys)


def read_unverified(text: str, *, algorithms: frozenset[str], typ: frozenset[str | None]) -> tuple[str, dict[str, Any]]:
    """Return the `typ` and the claims of a JWT without verifying its signature. Use them only to reject the JWT.

    Raises `Refused` if the JWT is malformed, or if its header is not accepted.
    """
    jws = _parse(text, algorithms, typ)
    return jws.header.typ, _json_object(_base64url(jws.payload))


class _JWSParts(NamedTuple):
    header: "_Header"
    payload: str
    signature: bytes
    signing_input: bytes


def _parse(text: str, algorithms: frozenset[str], typ: frozenset[str | None]) -> _JWSParts:
    match = _JWS.fullmatch(text)
    if match is None:
        reject_encrypted(text)
        reject_token("the token does not consist of three parts in base64url")
    header = _header(match[1], algorithms, typ)
    # Pad bits must be zero. If they were ignored, several strings would be accepted as the same token.
    signature = _base64url(match[3])
    return _JWSParts(header, match[2], signature, text[: match.end(2)].encode("ascii"))


def _verify_signature(jws: _JWSParts, key: VerificationKey, keys: KeySet) -> VerifiedJWT:
    try:
        is_valid = _ALGORITHMS[jws.header.algorithm].verify(jws.signing_input, key.key, jws.signature)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Refused("invalid_token", f"the signature is not valid ({type(error).__name__})") from None
    if is_valid is not True:
        reject_token("the signature is not valid")
    payload = _base64url(jws.payload)
    return VerifiedJWT(jws.header.typ, _json_object(payload), key.key_id, keys, memory_of(payload))


def unverified_issuer(text: str) -> tuple[bool, object]:
    """Return whether `text` has the form of a JWT, and the unverified `iss`. Use the result only to choose a validator.

    A token has the form of a JWT if its first part is a JSON object in base64url, because opaque tokens may also
    contain dots.
    """
    first, dot, _ = text.partition(".")
    if not dot or not _BASE64URL.fullmatch(first):
        return False, None
    try:
        json_object(_base64url(first))
    except (ValueError, Refused):
        return False, None
    match = _JWS.fullmatch(text)
    try:
        return True, json_object(_base64url(match[2])).get("iss") if match else None
    except (ValueError, Refused):
        return True, None


def reject_encrypted(text: str) -> None:
    """Raises `Refused("invalid_token")` if `text` has the five parts of an encrypted JWT (RFC 7516 3.1)."""
    if text.count(".") == 4 and _BASE64URL.fullmatch(text.partition(".")[0]):
        raise Refused(
            "invalid_token",
            "the token is encrypted, which is not supported",
            advice="let the authorization server issue signed tokens without encryption for this resource",
        )


class _Header(NamedTuple):
    typ: str
    algorithm: str
    key_id: str | None


@lru_cache(maxsize=_CACHED_HEADERS)
def _header(encoded: str, algorithms: frozenset[str], accepted: frozenset[str | None]) -> _Header:
    header = _json_object(_base64url(encoded))
    if "crit" in header or "b64" in header:  # critical extensions are not supported (RFC 7515 4.1.11)
        reject_token("the JWT has a crit or b64 header parameter")
    typ, algorithm, key_id = header.get("typ"), header.get("alg"), header.get("kid")
    # A parameter with the value `null` is present, so it is invalid.
    is_accepted = media_type(typ) in accepted if isinstance(typ, str) else "typ" not in header and None in accepted
    if not is_accepted:
        expected = tuple(sorted("no typ" if each is None else each for each in accepted))
        reject_token(
            f"the JWT's typ is not accepted; expected {' or '.join(expected)}",
            found={"typ": typ},
            expected={"typ": expected},
        )
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        reject_token(
            f"the JWT's alg is not accepted; expected {' or '.join(sorted(algorithms))}",
            found={"alg": algorithm},
            expected={"alg": tuple(sorted(algorithms))},
        )
    if not isinstance(key_id, (str, type(None))):
        reject_token("kid is not a string")
    return _Header(media_type(typ or ""), algorithm, key_id)


def _base64url(text: str) -> bytes:
    """Decode unpadded base64url. Raises `Refused` unless the encoding is canonical."""
    try:
        return base64url_octets(text)
    except ValueError as error:
        reject_token(str(error))


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        return json_object(data)
    except ValueError as error:
        reject_token(str(error))
