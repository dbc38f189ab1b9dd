"""`TrustedIssuers`: several issuers for one resource, each with its own keys, rules and server.

Must never know: whether a token is good. It chooses who is to judge; that one then judges wholly (RFC 8725 3.8).
"""

from collections.abc import Collection

from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_server.claims import refuse, unexpired
from mtls_middleware.resource_server.introspection import IntrospectedAccessTokens
from mtls_middleware.resource_server.jws import unverified_issuer
from mtls_middleware.resource_server.jwt_tokens import JWTAccessTokens
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable, decide

Member = JWTAccessTokens | IntrospectedAccessTokens


class TrustedIssuers:
    """Tokens of several issuers.

    A JWT goes to the member whose `issuer` is its `iss`, and to no other; what is no JWT goes to the one member that
    introspects. No token is ever sent to a server of another issuer.

    Arguments:
        members: `JWTAccessTokens` with different issuers, and one `IntrospectedAccessTokens` at most; with an `issuer`
            it judges the JWTs of that one too.

    Raises `ConfigurationError`.

    Example: `TrustedIssuers([JWTAccessTokens(issuer="https://a.example", ...), IntrospectedAccessTokens(...)])`
    """

    def __init__(self, members: Collection[Member]) -> None:
        if isinstance(members, (str, bytes)) or not isinstance(members, Collection) or not members:
            raise ConfigurationError(f"members={members!r}: for example [JWTAccessTokens(...), JWTAccessTokens(...)]")
        for each in members:
            if not isinstance(each, Member):
                raise ConfigurationError(f"{each!r}: expected JWTAccessTokens(...) or IntrospectedAccessTokens(...)")
        opaque = [each for each in members if isinstance(each, IntrospectedAccessTokens)]
        if len(opaque) > 1:
            raise ConfigurationError("two members introspect: nothing in an opaque token says which of them is to ask")
        issuers = [each.issuer for each in members if each.issuer is not None]
        twice = sorted({each for each in issuers if issuers.count(each) > 1})
        if twice:
            raise ConfigurationError(f"two members for {', '.join(twice)}: expected one for each issuer")
        self._by_issuer: dict[str, Member] = {each.issuer: each for each in members if each.issuer is not None}
        self._opaque = opaque[0] if opaque else None

    is_reusable = True

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """The token behind `text` at time `now` (seconds since the epoch), not yet compared with the certificate.

        Raises `Refused("invalid_token")`, or `Unavailable`.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """The same, with the time for which the result holds."""
        member = self._member(text)
        if member is None:
            refuse("the issuer of the token is not trusted")
        return (yield from decide(member, text, now))

    def is_bound_only(self, text: str) -> bool:
        """Whether this token is accepted only if it is bound to a certificate, whatever the layer says."""
        member = self._member(text)
        return member is not None and member.is_bound_only(text)

    def _member(self, text: str) -> Member | None:
        is_jwt, issuer = unverified_issuer(text)
        if not is_jwt:
            return self._opaque
        return self._by_issuer.get(issuer) if isinstance(issuer, str) else None

    def check_later(self, token: AccessToken, now: float) -> None:
        """Raises `Refused` if a token that was accepted earlier has expired at `now`, by its issuer's `leeway`."""
        issuer = token.claims.get("iss")
        member = self._by_issuer.get(issuer, self._opaque) if isinstance(issuer, str) else self._opaque
        if member is None:
            unexpired(token, now)
        else:
            member.check_later(token, now)
