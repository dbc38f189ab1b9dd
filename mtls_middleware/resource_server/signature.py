"""A JWT whose signature holds: its parts, its header, its key (RFC 7515, RFC 8725), by PyJWT.

Must never know: what the claims mean. Access tokens and signed answers of an introspection server come through here.
"""

import base64
import re
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from mtls_middleware.effects import Flow
from mtls_middleware.errors import Refused
from mtls_middleware.jwks import KeySet
from mtls_middleware.resource_server.claims import json_object, media_type, refuse

# Three parts of unpadded base64url: no JSON serialisation, no JWE, no "=" that a lax decoder would take (A59).
_JWS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

_jws = jwt.PyJWS()


class Keys(Protocol):
    """What `jwks.py` offers: keys given once, or behind an address."""

    def fresh(self, now: float) -> KeySet | None: ...
    def current(self, now: float) -> Flow[KeySet]: ...
    def refreshed(self, now: float, key_id: str | None) -> Flow[KeySet]: ...


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature covers; its key's id, and the set that it is from."""

    typ: str
    claims: dict[str, Any]
    key_id: str | None
    keys: KeySet


def verified(
    text: str, *, source: Keys, keys: KeySet, algorithms: frozenset[str], typ: frozenset[str], now: float
) -> Flow[Signed]:
    """The claims of the JWT `text`. Raises `Refused("invalid_token")`, or `Unavailable`.

    Arguments:
        source, keys: where the issuer's keys are, and those of them that are known by now.
        algorithms, typ: what its header may say; `typ` in the form of `media_type`.
    """
    header = _header(text, algorithms, typ)
    key_id, algorithm = header.get("kid"), header["alg"]
    key = keys.choose(key_id, algorithm)
    if key is None:
        keys = yield from source.refreshed(now, key_id)
        key = keys.choose(key_id, algorithm)
    if key is None:
        refuse("no key of the issuer for this kid and alg, or more than one")
    try:
        payload = _jws.decode_complete(text, key.key, algorithms=[algorithm])["payload"]
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise Refused("invalid_token", f"the signature does not verify ({type(error).__name__})") from None
    return Signed(media_type(header["typ"]), _json_object(payload), key.key_id, keys)


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


def _header(text: str, algorithms: frozenset[str], accepted: frozenset[str]) -> dict[str, Any]:
    match = _JWS.fullmatch(text)
    if match is None:
        refuse("not three parts of base64url")
    header = _json_object(_base64url(match[1]))
    _base64url(match[3])  # not covered by itself: with pad bits set, one token would have sixteen spellings (A59)
    if "crit" in header or "b64" in header:  # A55: we understand no extension, so none may be critical
        refuse("a crit or b64 header")
    typ, algorithm = header.get("typ"), header.get("alg")
    if not isinstance(typ, str) or media_type(typ) not in accepted:
        refuse("its typ is not that of an access token")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        refuse("its alg is not among algorithms")
    if not isinstance(header.get("kid"), (str, type(None))):
        refuse("kid is not a text")
    return header


def _base64url(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        refuse("broken base64url")
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode("ascii"):
        refuse("base64url with pad bits set")
    return data


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        return json_object(data)
    except ValueError as error:
        refuse(str(error))
