"""A JWT whose signature holds: its parts, its header, its key (RFC 7515, RFC 8725), by the algorithms of PyJWT.

Must never know: what the claims mean. Access tokens and signed answers of an introspection server come through here.
"""

import binascii
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import jwt

from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import Refused
from mtls_middleware.json_values import json_object
from mtls_middleware.jwks import ALGORITHMS, KeySet, VerificationKey
from mtls_middleware.resource_server.claims import media_type, refuse
from mtls_middleware.reusable import Check

# Three parts of unpadded base64url: no JSON serialisation, no JWE, no "=" that a lax decoder would take.
_JWS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

# Its algorithms alone: its decoder would take the token apart a second time, which costs a third of a verification.
_ALGORITHMS = {name: jwt.get_algorithm_by_name(name) for name in ALGORITHMS}

_FROM_URL = bytes.maketrans(b"-_+/", b"+/!!")  # what only the other alphabet has is no base64url

# An issuer writes the same header into all its tokens: it is read once. 64 issuers and keys; 2 MB at most.
_HEADERS = 64


class Keys(Protocol):
    """What `jwks.py` offers: keys given once, or behind an address."""

    def fresh(self, now: float) -> KeySet | None: ...
    def current(self, now: float) -> Flow[KeySet]: ...
    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]: ...
    def checks(self, keys: KeySet) -> tuple[Check, ...]:
        """How to look up whether these are still the issuer's keys."""


class Signed(NamedTuple):
    """What a good signature covers; its key's id, and the set that it is from."""

    typ: str
    claims: dict[str, Any]
    key_id: str | None
    keys: KeySet


def verified(
    text: str,
    *,
    source: Keys,
    keys: KeySet,
    algorithms: frozenset[str],
    typ: frozenset[str],
    now: float,
    check: Callable[[str, dict[str, Any]], object] | None = None,
) -> Flow[Signed]:
    """The claims of the JWT `text`. Raises `Refused("invalid_token")`, or `Unavailable`.

    Arguments:
        source, keys: where the issuer's keys are, and those of them that are known by now.
        algorithms, typ: what its header may say; `typ` in the form of `media_type`.
        check: raises `Refused` for a media type and claims that no key can make acceptable. It is called before keys
            are fetched for an unknown key id, so that such a token causes no fetch.
    """
    opened = _opened(text, algorithms, typ)
    key = keys.choose(opened.header.key_id, opened.header.algorithm)
    if key is None:
        if check is not None:
            check(opened.header.typ, _json_object(_base64url(opened.payload)))
        keys = yield from source.refreshed(now, opened.header.key_id)
        key = keys.choose(opened.header.key_id, opened.header.algorithm)
    if key is None:
        refuse("no key of the issuer for this kid and alg, or more than one")
    return _checked(opened, key, keys)


def unverified(text: str, *, algorithms: frozenset[str], typ: frozenset[str]) -> tuple[str, dict[str, Any]]:
    """Media type and claims of a JWT without a look at its signature: to reject it, never to accept it.

    Raises `Refused`.
    """
    opened = _opened(text, algorithms, typ)
    return opened.header.typ, _json_object(_base64url(opened.payload))


class _Opened(NamedTuple):
    header: "_Header"
    payload: str
    signature: bytes
    signed: bytes


def _opened(text: str, algorithms: frozenset[str], typ: frozenset[str]) -> _Opened:
    match = _JWS.fullmatch(text)
    if match is None:
        refuse("not three parts of base64url")
    header = _header(match[1], algorithms, typ)
    signature = _base64url(match[3])  # not covered by itself: pad bits would be sixteen spellings of one token
    return _Opened(header, match[2], signature, text[: match.end(2)].encode("ascii"))


def _checked(opened: _Opened, key: VerificationKey, keys: KeySet) -> Signed:
    header, payload, signature, signed = opened
    try:
        good = _ALGORITHMS[header.algorithm].verify(signed, key.key, signature)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Refused("invalid_token", f"the signature does not verify ({type(error).__name__})") from None
    if good is not True:
        refuse("the signature does not verify")
    return Signed(header.typ, _json_object(_base64url(payload)), key.key_id, keys)


def unverified_issuer(text: str) -> tuple[bool, object]:
    """Whether `text` is a JWT, or tries to be one, and the `iss` that it claims: for choosing who is to judge it.

    Opaque tokens may have dots; what makes a JWT is a first part that is a JSON object.
    """
    first, dot, _ = text.partition(".")
    if not dot:
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


class _Header(NamedTuple):
    typ: str
    algorithm: str
    key_id: str | None


@lru_cache(maxsize=_HEADERS)
def _header(encoded: str, algorithms: frozenset[str], accepted: frozenset[str]) -> _Header:
    header = _json_object(_base64url(encoded))
    if "crit" in header or "b64" in header:  # we understand no extension, so none may be critical
        refuse("a crit or b64 header")
    typ, algorithm, key_id = header.get("typ"), header.get("alg"), header.get("kid")
    if not isinstance(typ, str) or media_type(typ) not in accepted:
        refuse("its typ is not that of an access token")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        refuse("its alg is not among algorithms")
    if not isinstance(key_id, (str, type(None))):
        refuse("kid is not a text")
    return _Header(media_type(typ), algorithm, key_id)


def _base64url(text: str) -> bytes:
    plain = text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4)
    try:
        data = binascii.a2b_base64(plain, strict_mode=True)
    except ValueError:
        refuse("broken base64url")
    if binascii.b2a_base64(data, newline=False) != plain:
        refuse("base64url with pad bits set")
    return data


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        return json_object(data)
    except ValueError as error:
        refuse(str(error))
