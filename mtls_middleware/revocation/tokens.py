"""Access tokens that can be revoked before their time: what any validator accepts is looked up on the list.

Must never know: how a token is validated, or how the list is kept. It runs on every request, remembered token or not.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from mtls_middleware import binding, options
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_server.access_tokens import AccessTokens, is_bound_only
from mtls_middleware.resource_server.claims import check_expiry, reject_token
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable, decide
from mtls_middleware.revocation.redis_list import RedisRevocations, token_entry


class RevocableTokens:
    """Tokens of any kind, asked on every request whether they, or the certificate they are bound to, were revoked.

    Arguments:
        tokens: `JWTAccessTokens(...)`, `IntrospectedAccessTokens(...)` or `TrustedIssuers(...)`.
        revocations: `RedisRevocations(...)`.
        ids: `"required"`: a token without `jti` is refused, since nobody could revoke it (RFC 9068 2.2 demands one);
            `"when_present"`: it passes, for those who revoke certificates alone.

    Raises `ConfigurationError`.

    Example: `protect(app, source=..., tokens=RevocableTokens(JWTAccessTokens(...), revocations))`
    """

    def __init__(
        self,
        tokens: AccessTokens,
        revocations: RedisRevocations,
        *,
        ids: Literal["required", "when_present"] = "required",
    ) -> None:
        options.having("tokens", tokens, "validate", "JWTAccessTokens(...)")
        if not isinstance(revocations, RedisRevocations):
            raise ConfigurationError(f"revocations={revocations!r}: expected RedisRevocations(...)")
        options.one_of("ids", ids, ("required", "when_present"))
        self._tokens, self._revocations, self._ids = tokens, revocations, ids
        # Whose an introspected token is that does not say so itself.
        self._issuer = getattr(tokens, "issuer", None)

    def is_bound_only(self, text: str) -> bool:
        """Whether this token is accepted only if it is bound to a certificate, whatever the layer says."""
        return is_bound_only(self._tokens, text)

    is_reusable = True

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """The token behind `text` at time `now` (seconds since the epoch), not yet compared with the certificate.

        Raises `Refused("invalid_token")`, or `Unavailable`.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """The same, with the time for which the result holds. Each use looks up the list again."""
        decided = yield from decide(self._tokens, text, now)
        self._check(decided.value)
        return decided._replace(checks=(*decided.checks, partial(self._is_unrevoked, decided.value)))

    def _is_unrevoked(self, token: AccessToken, _now: float) -> bool:
        self._check(token)
        return True

    def check_later(self, token: AccessToken, now: float) -> None:
        """Raises `Refused` if a token that was accepted earlier has expired, or it or its certificate is revoked.

        Raises `Unavailable` if the list is too old.
        """
        check = getattr(self._tokens, "check_later", check_expiry)
        check(token, now)
        self._check(token)

    def check_certificate_later(self, token: AccessToken, now: float) -> None:  # noqa: ARG002 (as check_later)
        """Raises `Refused` if the certificate that the token is bound to is revoked; `Unavailable` as `check_later`."""
        self._check_certificate(token)

    def _check(self, token: AccessToken) -> None:
        """Raises `Refused` if the token, or the certificate that it is bound to, is revoked."""
        identity = self._identity(token.claims)
        if identity is not None and identity in self._revocations:
            reject_token("the token was revoked")
        self._check_certificate(token)

    def _check_certificate(self, token: AccessToken) -> None:
        confirmation = binding.confirmation_of(token.claims, "when_present")
        if confirmation is not None and confirmation.digest in self._revocations:
            reject_token("the certificate that the token is bound to was revoked")

    def _identity(self, claims: Mapping[str, Any]) -> bytes | None:
        token_id, issuer = claims.get("jti"), claims.get("iss", self._issuer)
        if not token_id:
            if self._ids == "required":
                reject_token("a token without jti, which nobody could revoke (ids='when_present' lets it pass)")
            return None
        if not isinstance(issuer, str) or not isinstance(token_id, str):
            reject_token("a token with a jti and without iss: nobody can tell which it is")
        return token_entry(issuer, token_id)
