"""`JWTAccessTokens`: validates JWT access tokens (RFC 9068, RFC 8725).

Verified tokens are cached. The validity period of a cached token is checked on every request.
"""

import hashlib
import ssl
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.jwks import FetchedKeys, KeySet, StaticKeys
from mtls_middleware.resource_server.claims import (
    TimedToken,
    check_expiry,
    has_audience,
    is_other_token_type,
    reject_token,
    timed_token,
)
from mtls_middleware.resource_server.discovery import DiscoveredKeys, Discovery
from mtls_middleware.resource_server.jws import Keys, read_unverified, verify_jwt
from mtls_middleware.resource_server.profiles import Profile, rules
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable

# Claims that only ID tokens and logout tokens have. They identify such a token if its `typ` does not (RFC 8725 3.12).
_CLAIMS_OF_OTHER_TOKENS = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
# Maximum bytes of all cached tokens, and maximum characters in one cached token. A larger token is verified on each
# request.
_CACHE_SIZE, _MAX_CACHED = 16 * 1024 * 1024, 4_096
# Bytes that the claims of a cached token of usual size need in memory.
_OBJECTS = 3_000


class _CachedToken(NamedTuple):
    timed: TimedToken
    keys: KeySet  # the key set that verified the token; if the issuer's key set changes, the token is verified again


class JWTAccessTokens:
    """Validates signed JWT access tokens of one issuer for one resource.

    Arguments:
        issuer: the expected `iss`, compared as an exact string (RFC 9068 4).
        audience: this resource's identifier, which `aud` must contain.
        jwks_uri: the https address of the issuer's keys (extra `http`).
        jwks: the issuer's keys, as a dict that contains a JWK Set.
        discovery: the kind of metadata document that contains the address of the keys (extra `http`): `"rfc8414"`
            (`/.well-known/oauth-authorization-server` before the issuer's path, RFC 8414 3) or `"openid"` (the issuer
            followed by `/.well-known/openid-configuration`, OpenID Connect Discovery 1.0 4). Give exactly one of
            `jwks_uri`, `jwks` and `discovery`.
        profile: `"rfc9068"`; `"fapi2"` (only PS256, ES256 and EdDSA; unbound tokens are rejected, whatever `binding`
            is); or `"without_explicit_typing"` for servers that write `typ: JWT`, which does not show whether a JWT is
            an access token. If you give a profile, the next four arguments can make the rules only stricter.
        algorithms: the accepted signature algorithms. They must be asymmetric (RFC 8725 3.1).
        leeway: tolerance for clocks that differ, in seconds, 0 to 60. Default: 10.
        typ: the accepted values of `typ`, without `application/`. Case is ignored (RFC 9068 4). Default: `["at+jwt"]`.
        required_claims: the claims that a token must have. Default: those of RFC 9068 2.2.
        ssl_context: verifies the servers of the keys and of the metadata document. Default: the system's CAs.
        allow_http: accept `http://` for loopback addresses, for tests.

    Raises `ConfigurationError`.

    Example: `JWTAccessTokens(issuer="https://as.example", audience="https://api.example", discovery="rfc8414")`
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        jwks_uri: str | None = None,
        jwks: Mapping[str, Any] | None = None,
        discovery: Discovery | None = None,
        profile: Profile | None = None,
        algorithms: Collection[str] | None = None,
        leeway: float | None = None,
        typ: Collection[str] | None = None,
        required_claims: Collection[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        allow_http: bool = False,
    ) -> None:
        options.string("issuer", issuer, "https://as.example")
        options.string("audience", audience, "https://api.example")
        arguments = {"jwks_uri=": jwks_uri, "jwks=": jwks, "discovery=": discovery}
        given = [name for name, value in arguments.items() if value is not None]
        if len(given) != 1:
            found, expected = " and ".join(given) or "no keys", ", ".join(arguments)
            raise ConfigurationError(
                f"{found} given; expected exactly one of {expected}, for example discovery='rfc8414'"
            )
        self._issuer, self._audience = issuer, audience
        self._rules = rules(profile, algorithms=algorithms, leeway=leeway, typ=typ, required_claims=required_claims)
        self._keys: Keys
        if jwks is not None:
            self._keys = StaticKeys(jwks)
        elif jwks_uri is not None:
            self._keys = FetchedKeys(jwks_uri, allow_http=allow_http, tls=ssl_context)
        elif discovery is not None:
            self._keys = DiscoveredKeys(issuer, discovery, allow_http=allow_http, tls=ssl_context)
        self._cache: Cache[bytes, _CachedToken] = Cache(_CACHE_SIZE, largest=_MAX_CACHED)

    is_reusable = True

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches that share the memory of a stack of layers."""
        return (self._cache,)

    @property
    def issuer(self) -> str:
        """The `iss` of the accepted tokens."""
        return self._issuer

    def is_bound_only(self, text: str) -> bool:  # noqa: ARG002 (the signature of `TrustedIssuers`)
        """Return whether an unbound token is rejected, even if the layer has `binding="when_present"`."""
        return "cnf" in self._rules.required

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """Validate the token string `text` at time `now` (seconds since the epoch). The binding is not checked here.

        Raises `Refused("invalid_token")`, or `Unavailable` if the keys cannot be fetched.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """Like `validate`, but returns the token with the time for which the result may be reused."""
        algorithms, typ, leeway = self._rules.algorithms, self._rules.typ, self._rules.leeway

        def check(unverified_typ: str, claims: dict[str, Any]) -> None:
            """Reject claims that are not accepted even with a valid signature, so that no key is fetched for them."""
            self._check_claims(unverified_typ, claims).valid_at(now, leeway)

        keys = self._keys.fresh(now)
        if keys is None:
            check(*read_unverified(text, algorithms=algorithms, typ=typ))
            keys = yield from self._keys.current(now)
        digest = hashlib.sha256(text.encode("ascii", "replace")).digest()
        entry = self._cache.get(digest)
        if entry is None or entry.keys is not keys:
            jwt = yield from verify_jwt(
                text, source=self._keys, keys=keys, algorithms=algorithms, typ=typ, now=now, check=check
            )
            entry = _CachedToken(self._check_claims(jwt.typ, jwt.claims, jwt.key_id, jwt.size), jwt.keys)
            self._cache.put(digest, entry, len(text), extra=_OBJECTS + entry.timed.cost)
        return entry.timed.valid_at(now, leeway)._replace(checks=self._keys.checks(entry.keys))

    def check_later(self, token: AccessToken, now: float) -> None:
        """Check again a token that was accepted earlier. Raises `Refused` if it has expired at `now`."""
        check_expiry(token, now, self._rules.leeway)

    def _check_claims(self, typ: str, claims: dict[str, Any], key_id: str | None = None, size: int = 0) -> TimedToken:
        if typ != "at+jwt" and (is_other_token_type(claims) or not _CLAIMS_OF_OTHER_TOKENS.isdisjoint(claims)):
            reject_token("the claims are those of another token type, for example an ID token")
        missing = sorted(self._rules.required - claims.keys())
        if missing:
            reject_token(f"missing claims: {', '.join(missing)}")
        if claims["iss"] != self._issuer:
            reject_token(
                f"the token is from another issuer; expected iss {self._issuer!a}",
                found={"iss": claims["iss"]},
                expected={"iss": self._issuer},
            )
        if not has_audience(claims, self._audience):
            reject_token(
                f"the token is for another audience; expected {self._audience!a} in aud",
                found={"aud": claims.get("aud")},
                expected={"aud": self._audience},
            )
        return timed_token(claims, size=size, key_id=key_id)
