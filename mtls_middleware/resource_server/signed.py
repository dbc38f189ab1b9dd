"""JWT access tokens: RFC 9068 with the rules of RFC 8725, signatures by PyJWT.

Must never know: the certificate. Claims that do not change are checked once per token, time on every request.
"""

import base64
import hashlib
import json
import math
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import jwt

from mtls_middleware.cache import Cache
from mtls_middleware.effects import Flow
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.jwks import ALGORITHMS, FetchedKeys, KeySet, StaticKeys
from mtls_middleware.resource_server.token import AccessToken, read_only

# Three parts of unpadded base64url: no JSON serialisation, no JWE, no "=" that a lax decoder would take (A59).
_JWS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

# RFC 9068 2.2: what every JWT access token holds.
_REQUIRED = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")
# What ID and logout tokens hold: where typ does not tell them from access tokens, this does (RFC 8725 3.12, A56).
_OF_OTHER_TOKENS = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
# Clocks of servers in one deployment differ by a few seconds; FAPI 2.0 asks to accept 10 and to refuse 60 (row O10).
_LEEWAY, _MOST_LEEWAY = 10, 60
# Verified tokens remembered: about 2 kB each, so 8 MB at most.
_REMEMBERED = 4096

_jws = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class _Verified:
    token: AccessToken
    keys: KeySet  # the set that verified it: another set, another verification
    not_before: float
    expires: float


class JWTAccessTokens:
    """Validates signed JWT access tokens of one issuer for one resource.

    Arguments:
        issuer: the exact `iss` (RFC 9068 4), character by character.
        audience: this resource's identifier; `aud` must contain it.
        jwks_uri: https address of the issuer's keys (extra `http`), or
        jwks: the keys themselves, a JWK Set as a dict. Exactly one of the two.
        algorithms: the signature algorithms to accept, asymmetric ones alone (RFC 8725 3.1).
        leeway: seconds that clocks may differ, 0 to 60.
        typ: accepted media types of the token, without `application/`, compared without case (RFC 9068 4).
        required_claims: claims that must be there.
        ssl_context: how the server behind `jwks_uri` is verified, where the system's CAs do not do.
        allow_http: admit `http://` to loopback addresses, for tests.

    Raises `ConfigurationError`.

    Example: `JWTAccessTokens(issuer="https://as.example", audience="https://api.example", jwks_uri=".../jwks.json")`
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        jwks_uri: str | None = None,
        jwks: Mapping[str, Any] | None = None,
        algorithms: Collection[str] = tuple(sorted(ALGORITHMS)),
        leeway: float = _LEEWAY,
        typ: Collection[str] = ("at+jwt",),
        required_claims: Collection[str] = _REQUIRED,
        ssl_context: ssl.SSLContext | None = None,
        allow_http: bool = False,
    ) -> None:
        for name, value in (("issuer", issuer), ("audience", audience)):
            if not isinstance(value, str) or not value:
                raise ConfigurationError(f"{name}={value!r}: a text, for example 'https://api.example'")
        texts = (
            ("algorithms", algorithms, "ES256"),
            ("typ", typ, "at+jwt"),
            ("required_claims", required_claims, "acr"),
        )
        for name, given, example in texts:
            if isinstance(given, (str, bytes)) or not all(isinstance(each, str) for each in given):
                raise ConfigurationError(f"{name}={given!r}: expected a collection of texts, such as ({example!r},)")
        if not algorithms or not set(algorithms) <= ALGORITHMS:
            raise ConfigurationError(f"algorithms={tuple(algorithms)!r}: some of {', '.join(sorted(ALGORITHMS))}")
        if not isinstance(leeway, (int, float)) or not 0 <= leeway <= _MOST_LEEWAY:
            raise ConfigurationError(f"leeway={leeway!r}: seconds, from 0 to {_MOST_LEEWAY}")
        if not typ:
            raise ConfigurationError("typ is empty: no token could be accepted; the default is ('at+jwt',)")
        if (jwks_uri is None) == (jwks is None):
            raise ConfigurationError("give jwks_uri= or jwks=, one of them")
        self._issuer, self._audience, self._leeway = issuer, audience, float(leeway)
        self._algorithms = frozenset(algorithms)
        self._typ = frozenset(map(_media_type, typ))
        self._required = frozenset(required_claims) | {"iss", "exp", "aud"}
        self._keys: StaticKeys | FetchedKeys = (
            StaticKeys(jwks)
            if jwks is not None
            else FetchedKeys(jwks_uri or "", allow_http=allow_http, tls=ssl_context)
        )
        self._verified: Cache[bytes, _Verified] = Cache(_REMEMBERED)

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """The token behind `text` at time `now` (seconds since the epoch), as yet unbound.

        Raises `Refused("invalid_token")`, or `Unavailable` where the keys cannot be had.
        """
        digest = hashlib.sha256(text.encode("ascii", "replace")).digest()
        remembered = self._verified.get(digest)
        keys = yield from self._keys.current(now)
        if remembered is None or remembered.keys is not keys:
            remembered = yield from self._verify(text, keys, now)
            self._verified.put(digest, remembered)
        if now >= remembered.expires + self._leeway:
            _refuse("the token has expired")
        if now < remembered.not_before - self._leeway:
            _refuse("the token is not valid yet: nbf or iat lies ahead")
        return remembered.token

    def _verify(self, text: str, keys: KeySet, now: float) -> Flow[_Verified]:
        header = self._header(text)
        key_id, algorithm = header.get("kid"), header["alg"]
        key = keys.choose(key_id, algorithm)
        if key is None:
            keys = yield from self._keys.refreshed(now, key_id)
            key = keys.choose(key_id, algorithm)
        if key is None:
            _refuse("no key of the issuer for this kid and alg, or more than one")
        try:
            payload = _jws.decode_complete(text, key.key, algorithms=[algorithm])["payload"]
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise Refused("invalid_token", f"the signature does not verify ({type(error).__name__})") from None
        claims = _json_object(payload)
        if _media_type(header["typ"]) != "at+jwt" and not _OF_OTHER_TOKENS.isdisjoint(claims):
            _refuse("the claims of another kind of token")
        return self._claims(claims, keys)

    def _header(self, text: str) -> dict[str, Any]:
        match = _JWS.fullmatch(text)
        if match is None:
            _refuse("not three parts of base64url")
        header = _json_object(_base64url(match[1]))
        _base64url(match[3])  # not covered by itself: with pad bits set, one token would have sixteen spellings (A59)
        if "crit" in header or "b64" in header:  # A55: we understand no extension, so none may be critical
            _refuse("a crit or b64 header")
        typ, algorithm = header.get("typ"), header.get("alg")
        if not isinstance(typ, str) or _media_type(typ) not in self._typ:
            _refuse("its typ is not that of an access token")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            _refuse("its alg is not among algorithms")
        if not isinstance(header.get("kid"), (str, type(None))):
            _refuse("kid is not a text")
        return header

    def _claims(self, claims: dict[str, Any], keys: KeySet) -> _Verified:
        missing = sorted(self._required - claims.keys())
        if missing:
            _refuse(f"without {', '.join(missing)}")
        if claims["iss"] != self._issuer:
            _refuse("another issuer")
        audience = claims["aud"]
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            _refuse("another audience")
        for name in ("sub", "client_id", "jti", "scope"):
            if not isinstance(claims.get(name, ""), str):
                _refuse(f"{name} is not a text")
        expires = _time(claims, "exp")
        begins = max((_time(claims, name) for name in ("nbf", "iat") if name in claims), default=0.0)
        try:
            expires_at = datetime.fromtimestamp(expires, UTC)
        except (ValueError, OverflowError, OSError):
            _refuse("exp is no date")
        scopes = frozenset(claims.get("scope", "").split(" ")) - {""}  # RFC 6749 3.3: no other blank parts two scopes
        token = AccessToken(read_only(claims), claims.get("sub"), claims.get("client_id"), scopes, expires_at)
        return _Verified(token, keys, begins, expires)


def _refuse(reason: str) -> NoReturn:
    raise Refused("invalid_token", reason)


def _media_type(typ: str) -> str:
    """RFC 7515 4.1.9: without case, and "application/" may be left out."""
    return typ.lower().removeprefix("application/")


def _time(claims: Mapping[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519 2): a finite JSON number, no text, no boolean (case 117)."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(f"{name} is not a number")
    try:
        number = float(value)
    except OverflowError:
        _refuse(f"{name} is out of range")
    if not math.isfinite(number):
        _refuse(f"{name} is not finite")
    return number


def _base64url(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        _refuse("broken base64url")
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode("ascii"):
        _refuse("base64url with pad bits set")
    return data


def _json_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 without two members of one name, where parsers would differ (A59, row H17)."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse("not a JSON object in UTF-8, or a name twice in it")
    if not isinstance(value, dict):
        _refuse("not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
