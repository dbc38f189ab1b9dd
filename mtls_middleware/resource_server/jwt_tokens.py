"""`JWTAccessTokens`: validates JWT access tokens (RFC 9068, RFC 8725).

Verified tokens are cached. The validity period of a cached token is checked on every request.
"""

import hashlib
import ssl
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.jwks import FetchedKeys, KeySet, StaticKeys
from mtls_middleware.resource_server.claim_names import ClaimValue, claim_names
from mtls_middleware.resource_server.claims import (
    TimedToken,
    check_expiry,
    is_other_token_type,
    reject_token,
    timed_token,
)
from mtls_middleware.resource_server.discovery import DiscoveredKeys, Discovery
from mtls_middleware.resource_server.jws import Keys, read_unverified, verify_jwt
from mtls_middleware.resource_server.profiles import Profile, rules
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable

# Claims that only ID tokens and logout tokens have. If the `typ` of a token does not show its kind, these claims do
# (RFC 8725 3.12).
_CLAIMS_OF_OTHER_TOKENS = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
# Maximum bytes of all cached tokens, and maximum characters in one cached token. A larger token is verified on each
# request.
_CACHE_SIZE, _MAX_CACHED = 16 * 1024 * 1024, 4_096
# The memory that the claims of a cached token of usual size need, in bytes.
_OBJECTS = 3_000


class _CachedToken(NamedTuple):
    timed: TimedToken
    keys: KeySet  # the key set that verified the token; if the issuer's key set changes, the token is verified again


class JWTAccessTokens:
    """Validates signed JWT access tokens of one issuer for one resource.

    Arguments:
        issuer: the expected `iss`, compared as an exact string (RFC 9068 4).
        audience: this resource's identifier, or several of them. `aud` must contain at least one.
        jwks_uri: the https address of the issuer's keys (extra `http`).
        jwks: the issuer's keys, as a dict that contains a JWK Set.
        discovery: the kind of metadata document that contains the address of the keys (extra `http`): `"rfc8414"`
            (`/.well-known/oauth-authorization-server` before the issuer's path, RFC 8414 3) or `"openid"` (the issuer
            followed by `/.well-known/openid-configuration`, OpenID Connect Discovery 1.0 4). Give exactly one of
            `jwks_uri`, `jwks` and `discovery`.
        profile: `"rfc9068"`; `"fapi2"` (only PS256, ES256 and EdDSA; unbound tokens are rejected, whatever `binding`
            is); or `"without_explicit_typing"` for servers that write `typ: JWT`, which does not show whether a JWT is
            an access token. If you give a profile, the next nine arguments can make the rules only stricter.
        algorithms: the accepted signature algorithms. They must be asymmetric (RFC 8725 3.1).
        leeway: tolerance for clocks that differ, in seconds, 0 to 60. Default: 10.
        typ: the accepted values of `typ`, without `application/`. Case is ignored (RFC 9068 4). Default: `["at+jwt"]`.
            `None` as one of the values accepts a token without `typ`. Then `claims` must distinguish access tokens.
        required_claims: the claims that a token must have. Default: those of RFC 9068 2.2.
        claims: the accepted values of further claims, for example `{"token_use": "access"}` or `{"cid": ["a", "b"]}`. A
            claim with a different value, or without a value, is rejected.
        audience_claim: the claim that contains the audience, for example `"client_id"` for Amazon Cognito.
        scope_claims: the claims that contain scopes, for example `("scope", "scp", "roles")`. Their values may be
            strings or lists, and are joined. Default: only `scope`, which must be a string.
        client_id_claims: the claims that contain the client's id, for example `("client_id", "azp")`. If two of them
            differ, the token is rejected. Default: only `client_id`.
        allow_nonce: accept tokens with the claim `nonce`, which Keycloak wrote before version 25. By default, it shows
            that a token without `typ: at+jwt` is an ID token.
        ssl_context: verifies the servers of the keys and of the metadata document. Default: the system's CAs.
        proxy: the URL of an HTTP proxy for all requests to the issuer, for example `"http://egress.internal:3128"`. The
            variables `HTTPS_PROXY` and `HTTP_PROXY` of the environment are ignored.
        allow_http: accept `http://` for loopback addresses, for tests.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `JWTAccessTokens(issuer="https://as.example", audience="https://api.example", discovery="rfc8414")`
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str | Collection[str],
        jwks_uri: str | None = None,
        jwks: Mapping[str, Any] | None = None,
        discovery: Discovery | None = None,
        profile: Profile | None = None,
        algorithms: Collection[str] | None = None,
        leeway: float | None = None,
        typ: Collection[str | None] | None = None,
        required_claims: Collection[str] | None = None,
        claims: Mapping[str, ClaimValue | Collection[ClaimValue]] | None = None,
        audience_claim: str = "aud",
        scope_claims: Collection[str] | None = None,
        client_id_claims: Collection[str] | None = None,
        allow_nonce: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        allow_http: bool = False,
    ) -> None:
        options.string("issuer", issuer, "https://as.example")
        arguments = {"jwks_uri=": jwks_uri, "jwks=": jwks, "discovery=": discovery}
        given = [name for name, value in arguments.items() if value is not None]
        if len(given) != 1:
            found, expected = " and ".join(given) or "no keys", ", ".join(arguments)
            raise ConfigurationError(
                f"{found} given; expected exactly one of {expected}, for example discovery='rfc8414'"
            )
        options.proxy_url("proxy", proxy)
        options.boolean("allow_http", allow_http)
        self._issuer = issuer
        if audience is None:
            raise ConfigurationError("audience=None: expected this resource's identifier (RFC 8725 3.9)")
        self._names = claim_names(
            audience=audience,
            audience_claim=audience_claim,
            scope_claims=scope_claims,
            client_id_claims=client_id_claims,
            claims=claims,
            profile=profile,
        )
        self._rules = rules(
            profile,
            algorithms=algorithms,
            leeway=leeway,
            typ=typ,
            required_claims=required_claims,
            names=self._names,
        )
        self._needs_client = required_claims is None or "client_id" in self._rules.required
        if options.boolean("allow_nonce", allow_nonce) and profile is not None:
            raise ConfigurationError(f"allow_nonce=True with profile={profile!r}: the profile rejects such tokens")
        self._other_claims = _CLAIMS_OF_OTHER_TOKENS - ({"nonce"} if allow_nonce else set())
        self._keys: Keys
        if jwks is not None:
            self._keys = StaticKeys(jwks)
        elif jwks_uri is not None:
            self._keys = FetchedKeys(jwks_uri, allow_http=allow_http, tls=ssl_context, proxy=proxy)
        elif discovery is not None:
            self._keys = DiscoveredKeys(issuer, discovery, allow_http=allow_http, tls=ssl_context, proxy=proxy)
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
        check = partial(self._check_unverified, now)
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
        return entry.timed.valid_at(now, leeway, self._keys.checks(entry.keys))

    def check_later(self, token: AccessToken, now: float) -> None:
        """Check again a token that was accepted earlier. Raises `Refused` if it has expired at `now`."""
        check_expiry(token, now, self._rules.leeway)

    def _check_unverified(self, now: float, typ: str, claims: dict[str, Any]) -> None:
        """Reject claims that are not accepted even with a valid signature, so that no key is fetched for them."""
        self._check_claims(typ, claims).valid_at(now, self._rules.leeway)

    def _check_claims(self, typ: str, claims: dict[str, Any], key_id: str | None = None, size: int = 0) -> TimedToken:
        if typ != "at+jwt" and (is_other_token_type(claims) or not self._other_claims.isdisjoint(claims)):
            reject_token("the claims are those of another token type, for example an ID token")
        if not self._rules.required <= claims.keys():
            reject_token(f"missing claims: {', '.join(sorted(self._rules.required - claims.keys()))}")
        if claims["iss"] != self._issuer:
            reject_token(
                f"the token is from another issuer; expected iss {self._issuer!a}",
                found={"iss": claims["iss"]},
                expected={"iss": self._issuer},
            )
        self._names.check(claims)
        client_id = self._names.client_id_of(claims)
        if client_id is None and self._needs_client:
            reject_token(f"missing claims: {' or '.join(self._names.client_id)}")
        scopes = self._names.scopes_of(claims)
        return timed_token(claims, client_id=client_id, scopes=scopes, size=size, key_id=key_id)
