"""`RevocableTokens`: rejects access tokens that are revoked, or whose certificate is revoked, before they expire.

Another validator validates the token first. Every request is checked against the list of revocations, even if the token
is cached.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from mtls_middleware import binding, options
from mtls_middleware.cache import Cache, caches_of
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_server.access_tokens import AccessTokens, is_bound_only
from mtls_middleware.resource_server.claims import check_expiry, reject_token
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable, decide
from mtls_middleware.revocation.entries import token_entry
from mtls_middleware.revocation.redis_list import RedisRevocations


class RevocableTokens:
    """Validates access tokens, and rejects a token if the token or the certificate that it is bound to is revoked.

    The validator `tokens` validates the token. Every request is checked against the list `revocations`.

    Arguments:
        tokens: `JWTAccessTokens(...)`, `IntrospectedAccessTokens(...)` or `TrustedIssuers(...)`.
        revocations: `RedisRevocations(...)`.
        ids: `"required"`: rejects a token without `jti`, because such a token cannot be revoked (RFC 9068 2.2 requires
            `jti`). `"when_present"`: accepts a token without `jti`. Use this if you revoke only certificates.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `protect(app, source=..., tokens=RevocableTokens(JWTAccessTokens(...), revocations))`
    """

    def __init__(
        self,
        tokens: AccessTokens,
        revocations: RedisRevocations,
        *,
        ids: Literal["required", "when_present"] = "required",
    ) -> None:
        options.object_with_method("tokens", tokens, "validate", "JWTAccessTokens(...)")
        if not isinstance(revocations, RedisRevocations):
            raise ConfigurationError(f"revocations={revocations!r}: expected RedisRevocations(...)")
        options.one_of("ids", ids, ("required", "when_present"))
        self._tokens, self._revocations, self._ids = tokens, revocations, ids
        # The issuer of a token whose introspection response has no `iss`.
        self._issuer = getattr(tokens, "issuer", None)

    def is_bound_only(self, text: str) -> bool:
        """Return whether the token string `text` is rejected if it is unbound, even with `binding="when_present"`."""
        return is_bound_only(self._tokens, text)

    is_reusable = True

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches of the other validator, which share the memory of a stack of layers."""
        return caches_of(self._tokens)

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """Validate the token string `text` at time `now` (seconds since the epoch), and return the token.

        The caller must compare the token with the client certificate. Raises `Refused("invalid_token")`, or
        `Unavailable`.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """Like `validate`, but returns the token with the time for which the result may be reused.

        Each use of the result looks up the list again.
        """
        decided = yield from decide(self._tokens, text, now)
        self._check(decided.value)
        return decided._replace(checks=(*decided.checks, partial(self._is_unrevoked, decided.value)))

    def _is_unrevoked(self, token: AccessToken, _now: float) -> bool:
        self._check(token)
        return True

    def check_later(self, token: AccessToken, now: float) -> None:
        """Check a token again that was accepted earlier.

        Raises `Refused` if the token has expired, or if the token or its certificate is revoked. Raises `Unavailable`
        if the copy of the list in this process is too old.
        """
        check = getattr(self._tokens, "check_later", check_expiry)
        check(token, now)
        self._check(token)

    def check_certificate_later(self, token: AccessToken, now: float) -> None:  # noqa: ARG002 (see `check_later`)
        """Raises `Refused` if the certificate that the token is bound to is revoked.

        Raises `Unavailable` if the copy of the list in this process is too old.
        """
        self._check_certificate(token)

    def _check(self, token: AccessToken) -> None:
        """Raises `Refused` if the token, or the certificate that it is bound to, is revoked."""
        identity = self._identity(token.claims)
        if identity is not None and identity in self._revocations:
            reject_token("the token is revoked")
        self._check_certificate(token)

    def _check_certificate(self, token: AccessToken) -> None:
        confirmation = binding.confirmation_of(token.claims, "when_present")
        if confirmation is not None and confirmation.digest in self._revocations:
            reject_token("the certificate that the token is bound to is revoked")

    def _identity(self, claims: Mapping[str, Any]) -> bytes | None:
        token_id, issuer = claims.get("jti"), claims.get("iss", self._issuer)
        if not token_id:
            if self._ids == "required":
                reject_token("the token has no jti, so it cannot be revoked (ids='when_present' accepts such tokens)")
            return None
        if not isinstance(issuer, str) or not isinstance(token_id, str):
            reject_token("the token has a jti but no iss, and a jti is unique only for its issuer; expected both")
        return token_entry(issuer, token_id)
