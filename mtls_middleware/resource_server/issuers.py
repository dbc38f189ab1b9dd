"""`TrustedIssuers`: validates tokens of several issuers, each with its own keys, rules and server.

This module only chooses the validator for a token. The validator makes all checks, including `iss` (RFC 8725 3.8).
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple

from mtls_middleware.cache import Cache, caches_of
from mtls_middleware.effects.flow import Call, Flow, ask
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.resource_server.claims import check_expiry, reject_token
from mtls_middleware.resource_server.introspection import IntrospectedAccessTokens
from mtls_middleware.resource_server.jws import reject_encrypted, unverified_issuer
from mtls_middleware.resource_server.jwt_tokens import JWTAccessTokens
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable, decide

logger: logging.Logger = logging.getLogger("mtls_middleware.issuers")

Member = JWTAccessTokens | IntrospectedAccessTokens
LookUp = Callable[[str], Member | Awaitable[Member | None] | None]

# Seconds for which a validator is used after its look-up. A removed issuer is trusted for at most this time.
_KNOWN_FOR = 600.0
# Seconds for which an issuer without a validator is not looked up again. A token can name any issuer.
_UNKNOWN_FOR = 30.0
# Maximum number of characters in an issuer that is looked up. RFC 8414 has no limit. Real issuers are shorter.
_MAX_ISSUER = 1_024
# Bytes of memory for a validator and its keys, without the tokens that it caches, and for an unknown issuer.
_MEMBER_SIZE, _UNKNOWN_SIZE = 20_000, 500
# Bytes of memory for the validators that were looked up, if no stack of layers shares its memory with this object; and
# for unknown issuers.
_CACHE_SIZE, _UNKNOWN_CACHE_SIZE = 16 * 1024 * 1024, 1024 * 1024

_lines = LineLimit()


class _LookUpResult(NamedTuple):
    """The result of a look-up: the validator, or `None` for an unknown issuer. It is used until the time `ends`."""

    member: Member | None
    begins: float
    ends: float


class TrustedIssuers:
    """Validates access tokens of several issuers.

    A JWT is validated by the member whose `issuer` equals its `iss`. Any other token is validated by the
    `IntrospectedAccessTokens` member. No token is sent to the server of another issuer.

    Arguments:
        members: `JWTAccessTokens` with different issuers, and at most one `IntrospectedAccessTokens`. If the latter has
            an `issuer`, it also validates the JWTs of that issuer, unless a `JWTAccessTokens` has the same issuer.
        look_up: a function for issuers that are unknown at start. It takes the unverified `iss` of a JWT, and returns
            the validator for this issuer, or `None` if it does not trust the issuer. Under ASGI, it may be async. It is
            called before any key is fetched. A validator is used for ten minutes before the next call, and an unknown
            issuer is not looked up again for 30 seconds. Return the same object each time, because it caches the keys.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `TrustedIssuers([JWTAccessTokens(issuer="https://a.example", ...), IntrospectedAccessTokens(...)])`
    """

    def __init__(self, members: Collection[Member] = (), *, look_up: LookUp | None = None) -> None:
        if look_up is not None and not callable(look_up):
            raise ConfigurationError(f"look_up={look_up!r}: expected a function that takes an issuer")
        is_list = isinstance(members, Collection) and not isinstance(members, (str, bytes))
        if not is_list or not (members or look_up):
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
        issuers = [each.issuer for each in members if isinstance(each, JWTAccessTokens)]
        duplicates = sorted({each for each in issuers if issuers.count(each) > 1})
        if duplicates:
            raise ConfigurationError(
                f"two JWTAccessTokens have the same issuer ({', '.join(duplicates)}); expected one JWTAccessTokens for "
                "each issuer; if an issuer issues tokens for several audiences, give audience= a list of them"
            )
        # If members of both kinds have the same issuer, the JWTs of this issuer are validated without introspection.
        in_order = sorted(members, key=lambda each: isinstance(each, JWTAccessTokens))
        self._by_issuer: dict[str, Member] = {each.issuer: each for each in in_order if each.issuer is not None}
        self._opaque = opaque[0] if opaque else None
        self._look_up = look_up
        self._results: Cache[str, _LookUpResult] = Cache(_CACHE_SIZE)
        # Unknown issuers have a memory limit of their own, because a token can name any issuer.
        self._unknown_issuers: Cache[str, _LookUpResult] = Cache(_UNKNOWN_CACHE_SIZE)

    is_reusable = True

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches of this object and of all members, which share the memory of a stack of layers."""
        members = {*self._by_issuer.values(), *([] if self._opaque is None else [self._opaque])}
        return self._results, *(cache for member in members for cache in caches_of(member))

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """Validate the token string `text` at time `now` (seconds since the epoch). The binding is not checked here.

        Raises `Refused("invalid_token")`, or `Unavailable`.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """Like `validate`, but returns the token with the time for which the result may be reused."""
        member = self._member(text)
        if member is not None:
            return (yield from decide(member, text, now))
        reject_encrypted(text)
        issuer = unverified_issuer(text)[1]
        found = (yield from self._find(issuer, now)) if isinstance(issuer, str) else None
        if found is None or found.member is None:
            reject_token(
                "the issuer of the token is not trusted",
                found={"iss": issuer},
                expected={"iss": tuple(self._by_issuer)},
            )
        decided = yield from decide(found.member, text, now)
        return decided.within(Reusable(None, found.begins, found.ends))

    def _find(self, issuer: str, now: float) -> Flow[_LookUpResult | None]:
        """Return the result of the last look-up of this issuer, or of a new look-up.

        Raises `Unavailable` if the look-up fails.
        """
        look_up = self._look_up
        if look_up is None or len(issuer) > _MAX_ISSUER or not (issuer.isascii() and issuer.isprintable()):
            return None
        found = self._results.get(issuer) or self._unknown_issuers.get(issuer)
        if found is not None and found.begins <= now < found.ends:
            return found
        try:
            member = yield from ask(Call(look_up, (issuer,)))
        except (Refused, ConfigurationError):  # `Unavailable` is a `Refused`
            raise
        except Exception as failure:
            _lines.log(logger, logging.ERROR, now, "look_up= of TrustedIssuers failed: %s", type(failure).__name__)
            raise Unavailable("look_up= of TrustedIssuers failed", retry_after=1) from failure
        if member is not None and (not isinstance(member, Member) or member.issuer != issuer):
            # For example, a database that ignores case may return the validator of an issuer with another spelling.
            _lines.log(
                logger,
                logging.ERROR,
                now,
                "look_up= of TrustedIssuers returned %s for another issuer, or no validator; expected None, or "
                "JWTAccessTokens(issuer=...) with exactly the issuer that was given",
                type(member).__name__,
            )
            member = None
        for cache in caches_of(member):
            cache.share(self._results.memory)
        found = _LookUpResult(member, now, now + (_UNKNOWN_FOR if member is None else _KNOWN_FOR))
        if member is None:
            self._unknown_issuers.put(issuer, found, len(issuer) + _UNKNOWN_SIZE)
        else:
            self._results.put(issuer, found, len(issuer) + _MEMBER_SIZE)
        return found

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
        if member is None and isinstance(issuer, str) and (found := self._results.get(issuer)) is not None:
            member = found.member
        if member is None:
            check_expiry(token, now)
        else:
            member.check_later(token, now)
