"""`TrustedIssuers`: validates tokens of several issuers, each with its own keys, rules and server.

This module only chooses the validator for a token. The validator makes all checks, including `iss` (RFC 8725 3.8).
"""

from collections.abc import Collection
from typing import Any

from mtls_middleware.cache import Cache, caches_of
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_server.claims import check_expiry, reject_token
from mtls_middleware.resource_server.introspection import IntrospectedAccessTokens
from mtls_middleware.resource_server.jws import unverified_issuer
from mtls_middleware.resource_server.jwt_tokens import JWTAccessTokens
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable, decide

Member = JWTAccessTokens | IntrospectedAccessTokens


class TrustedIssuers:
    """Validates access tokens of several issuers.

    A JWT is validated by the member whose `issuer` equals its `iss`. Any other token is validated by the
    `IntrospectedAccessTokens` member. No token is sent to the server of another issuer.

    Arguments:
        members: `JWTAccessTokens` with different issuers, and at most one `IntrospectedAccessTokens`. If the latter has
            an `issuer`, it also validates the JWTs of that issuer.

    Raises `ConfigurationError`.

    Example: `TrustedIssuers([JWTAccessTokens(issuer="https://a.example", ...), IntrospectedAccessTokens(...)])`
    """

    def __init__(self, members: Collection[Member]) -> None:
        if isinstance(members, (str, bytes)) or not isinstance(members, Collection) or not members:
            raise ConfigurationError(f"members={members!r}: expected a list, for example [JWTAccessTokens(...), ...]")
        for each in members:
            if not isinstance(each, Member):
                raise ConfigurationError(f"{each!r}: expected JWTAccessTokens(...) or IntrospectedAccessTokens(...)")
        opaque = [each for each in members if isinstance(each, IntrospectedAccessTokens)]
        if len(opaque) > 1:
            raise ConfigurationError(
                "two members are IntrospectedAccessTokens; expected at most one, because an opaque token does not name "
                "its server"
            )
        issuers = [each.issuer for each in members if each.issuer is not None]
        duplicates = sorted({each for each in issuers if issuers.count(each) > 1})
        if duplicates:
            raise ConfigurationError(
                f"two members have the same issuer ({', '.join(duplicates)}); expected one member for each issuer"
            )
        self._by_issuer: dict[str, Member] = {each.issuer: each for each in members if each.issuer is not None}
        self._opaque = opaque[0] if opaque else None

    is_reusable = True

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches of all members, which share the memory of a stack of layers."""
        members = {*self._by_issuer.values(), *([] if self._opaque is None else [self._opaque])}
        return tuple(cache for member in members for cache in caches_of(member))

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """Validate the token string `text` at time `now` (seconds since the epoch). The binding is not checked here.

        Raises `Refused("invalid_token")`, or `Unavailable`.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """Like `validate`, but returns the token with the time for which the result may be reused."""
        member = self._member(text)
        if member is None:
            reject_token(
                "the issuer of the token is not trusted",
                found={"iss": unverified_issuer(text)[1]},
                expected={"iss": tuple(self._by_issuer)},
            )
        return (yield from decide(member, text, now))

    def is_bound_only(self, text: str) -> bool:
        """Return whether the token string `text` is rejected if it is unbound, even with `binding="when_present"`."""
        member = self._member(text)
        return member is not None and member.is_bound_only(text)

    def _member(self, text: str) -> Member | None:
        is_jwt, issuer = unverified_issuer(text)
        if not is_jwt:
            return self._opaque
        return self._by_issuer.get(issuer) if isinstance(issuer, str) else None

    def check_later(self, token: AccessToken, now: float) -> None:
        """Check again a token that was accepted earlier. Raises `Refused` if it has expired at `now`.

        The `leeway` is that of the token's issuer.
        """
        issuer = token.claims.get("iss")
        member = self._by_issuer.get(issuer, self._opaque) if isinstance(issuer, str) else self._opaque
        if member is None:
            check_expiry(token, now)
        else:
            member.check_later(token, now)
