"""JWT access tokens: RFC 9068 with the rules of RFC 8725.

Must never know: the certificate. Claims that do not change are checked once per token, time on every request.
"""

import hashlib
import ssl
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from mtls_middleware.cache import Cache
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.jwks import FetchedKeys, KeySet, StaticKeys
from mtls_middleware.resource_server.claims import (
    TimedToken,
    check_text,
    names_audience,
    of_another_kind,
    refuse,
    timed_token,
    unexpired,
)
from mtls_middleware.resource_server.discovery import DiscoveredKeys, Discovery
from mtls_middleware.resource_server.jws import Keys, unverified, verified
from mtls_middleware.resource_server.profiles import Profile, rules
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable

# What ID and logout tokens hold: where typ does not tell them from access tokens, this does (RFC 8725 3.12).
_OF_OTHER_TOKENS = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
# Characters of the cached tokens, and of the largest of them. JSON can grow a hundredfold as objects, so a larger token
# is verified each time.
_CACHED, _LARGEST = 8 * 1024 * 1024, 4096


class _Verified(NamedTuple):
    timed: TimedToken
    keys: KeySet  # the set that verified the token: with another set, the token is verified again


class JWTAccessTokens:
    """Validates signed JWT access tokens of one issuer for one resource.

    Arguments:
        issuer: the exact `iss` (RFC 9068 4), character by character.
        audience: this resource's identifier; `aud` must contain it.
        jwks_uri: https address of the issuer's keys (extra `http`), or
        jwks: the keys themselves, a JWK Set as a dict, or
        discovery: which of the issuer's own documents says where its keys are (extra `http`): `"rfc8414"`
            (`/.well-known/oauth-authorization-server` before the issuer's path, RFC 8414 3) or `"openid"` (the issuer
            and `/.well-known/openid-configuration`, OpenID Connect Discovery 1.0 4). Exactly one of the three.
        profile: `"rfc9068"`, `"fapi2"` (PS256, ES256 and EdDSA alone; unbound tokens are refused, whatever `binding`
            says), or `"without_explicit_typing"` for servers that write `typ: JWT`, which gives up the issuer's own
            word that a JWT is an access token. Beside a profile, the next four may only narrow it.
        algorithms: the signature algorithms to accept, asymmetric ones alone (RFC 8725 3.1).
        leeway: seconds that clocks may differ, 0 to 60; default 10.
        typ: accepted media types of the token, without `application/`, compared without case (RFC 9068 4); default
            `("at+jwt",)`.
        required_claims: claims that must be there; default: those of RFC 9068 2.2.
        ssl_context: how the servers of keys and document are verified, where the system's CAs do not do.
        allow_http: admit `http://` to loopback addresses, for tests.

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
        check_text("issuer", issuer, "https://as.example")
        check_text("audience", audience, "https://api.example")
        ways = {"jwks_uri=": jwks_uri, "jwks=": jwks, "discovery=": discovery}
        given = [name for name, way in ways.items() if way is not None]
        if len(given) != 1:
            found, expected = " and ".join(given) or "no keys", ", ".join(ways)
            raise ConfigurationError(f"{found} given: exactly one of {expected}, for example discovery='rfc8414'")
        self._issuer, self._audience = issuer, audience
        self._rules = rules(profile, algorithms=algorithms, leeway=leeway, typ=typ, required_claims=required_claims)
        self._keys: Keys
        if jwks is not None:
            self._keys = StaticKeys(jwks)
        elif jwks_uri is not None:
            self._keys = FetchedKeys(jwks_uri, allow_http=allow_http, tls=ssl_context)
        elif discovery is not None:
            self._keys = DiscoveredKeys(issuer, discovery, allow_http=allow_http, tls=ssl_context)
        self._verified: Cache[bytes, _Verified] = Cache(_CACHED, largest=_LARGEST)

    is_reusable = True

    @property
    def issuer(self) -> str:
        """The one `iss` whose tokens are accepted."""
        return self._issuer

    def is_bound_only(self, text: str) -> bool:  # noqa: ARG002 (as TrustedIssuers has it)
        """Whether this token is accepted only if it is bound to a certificate, whatever the layer says."""
        return "cnf" in self._rules.required

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """The token behind `text` at time `now` (seconds since the epoch), not yet compared with the certificate.

        Raises `Refused("invalid_token")`, or `Unavailable` if the keys cannot be fetched.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """The same, with the time for which the result holds."""
        algorithms, typ, leeway = self._rules.algorithms, self._rules.typ, self._rules.leeway

        def check(claimed_typ: str, claims: dict[str, Any]) -> None:
            """No key can make a token acceptable that its own claims rule out, so no key is fetched for it."""
            self._judged(claimed_typ, claims, None).at(now, leeway)

        keys = self._keys.fresh(now)
        if keys is None:
            check(*unverified(text, algorithms=algorithms, typ=typ))
            keys = yield from self._keys.current(now)
        digest = hashlib.sha256(text.encode("ascii", "replace")).digest()
        known = self._verified.get(digest)
        if known is None or known.keys is not keys:
            signed = yield from verified(
                text, source=self._keys, keys=keys, algorithms=algorithms, typ=typ, now=now, check=check
            )
            known = _Verified(self._judged(signed.typ, signed.claims, signed.key_id), signed.keys)
            self._verified.put(digest, known, len(text))
        return known.timed.at(now, leeway)._replace(checks=self._keys.checks(known.keys))

    def check_later(self, token: AccessToken, now: float) -> None:
        """Raises `Refused` if a token that was accepted earlier has expired at `now`."""
        unexpired(token, now, self._rules.leeway)

    def _judged(self, typ: str, claims: dict[str, Any], key_id: str | None) -> TimedToken:
        if typ != "at+jwt" and (of_another_kind(claims) or not _OF_OTHER_TOKENS.isdisjoint(claims)):
            refuse("the claims of another kind of token")
        missing = sorted(self._rules.required - claims.keys())
        if missing:
            refuse(f"without {', '.join(missing)}")
        if claims["iss"] != self._issuer:
            refuse("another issuer")
        if not names_audience(claims, self._audience):
            refuse("another audience")
        return timed_token(claims, key_id=key_id)
