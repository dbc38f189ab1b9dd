"""What a token says, in JSON: read strictly, its members of the right type, made into an `AccessToken`.

Must never know: where the members come from, a signed token (RFC 9068) or the answer of an introspection (RFC 7662).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.resource_server.token import AccessToken, read_only
from mtls_middleware.reusable import Reusable


@dataclass(frozen=True, slots=True)
class TimedToken:
    """A token and its validity period, in seconds since the epoch. `expires` is infinite without `exp`."""

    token: AccessToken
    not_before: float
    expires: float

    def at(self, now: float, leeway: float) -> Reusable[AccessToken]:
        """The token, if it is valid at `now`. Raises `Refused("invalid_token")`."""
        if now >= self.expires + leeway:
            refuse("the token has expired")
        if now < self.not_before - leeway:
            refuse("the token is not valid yet: nbf or iat is in the future")
        return Reusable(self.token, self.not_before - leeway, self.expires + leeway)


def timed_token(claims: Mapping[str, Any], *, key_id: str | None = None) -> TimedToken:
    """The token that has these claims. Raises `Refused("invalid_token")` where one is not of its type.

    `iss` and `aud` are the caller's to judge.
    """
    for name in ("sub", "client_id", "jti", "scope"):
        if not isinstance(claims.get(name, ""), str):
            refuse(f"{name} is not a text")
    begins = max((numeric_date(claims, name) for name in ("nbf", "iat") if name in claims), default=0.0)
    expires, expires_at = math.inf, None
    if "exp" in claims:
        expires = numeric_date(claims, "exp")
        try:
            expires_at = datetime.fromtimestamp(expires, UTC)
        except (ValueError, OverflowError, OSError):
            refuse("exp is no date")
    scopes = frozenset(claims.get("scope", "").split(" ")) - {""}  # RFC 6749 3.3: no other blank parts two scopes
    try:
        whole = read_only(claims)
    except RecursionError:
        refuse("claims nested too deeply")
    token = AccessToken(whole, claims.get("sub"), claims.get("client_id"), scopes, expires_at, key_id=key_id)
    return TimedToken(token, begins, expires)


def unexpired(token: AccessToken, now: float, leeway: float = 0) -> None:
    """Raises `Refused("invalid_token")` if a token that was accepted earlier has expired at `now`."""
    if token.expires_at is not None and now >= token.expires_at.timestamp() + leeway:
        refuse("the token has expired")


def of_another_kind(claims: Mapping[str, Any]) -> bool:
    """Whether the server itself says that this is no access token, in the words of Ory Hydra and Amazon Cognito
    (`token_use`) or Keycloak (`typ`): they introspect refresh tokens too, or sign ID tokens with the same keys.
    """
    kind = claims.get("typ")
    other = isinstance(kind, str) and kind.lower() in ("refresh", "offline", "id", "logout")
    return other or claims.get("token_use", "access") not in ("access", "access_token")


def names_audience(claims: Mapping[str, Any], audience: str) -> bool:
    """Whether `aud`, a text or a list, contains this very one (RFC 7519 4.1.3)."""
    given = claims.get("aud")
    return audience in (given if isinstance(given, list) else [given])


def numeric_date(claims: Mapping[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519 2): a finite JSON number, no text, no boolean."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse(f"{name} is not a number")
    try:
        number = float(value)
    except OverflowError:
        refuse(f"{name} is out of range")
    if not math.isfinite(number):
        refuse(f"{name} is not finite")
    return number


def media_type(typ: str) -> str:
    """RFC 7515 4.1.9: without case, and "application/" may be left out."""
    return typ.lower().removeprefix("application/")


def refuse(reason: str) -> NoReturn:
    """`reason` is for the operator, in words of ours: nothing of the token."""
    raise Refused("invalid_token", reason)


def check_text(name: str, value: object, example: str) -> None:
    """Raises `ConfigurationError` where a setting is not a text, or empty."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name}={value!r}: a text, for example {example!r}")


def check_texts(name: str, given: Collection[str], example: str) -> None:
    """Raises `ConfigurationError` where a setting is not a collection of texts, or one text, which has letters."""
    # An iterator could be read once only: by this very check, and then nothing would be demanded.
    wrong_kind = isinstance(given, (str, bytes)) or not isinstance(given, Collection)
    if wrong_kind or not all(isinstance(each, str) for each in given):
        raise ConfigurationError(f"{name}={given!r}: expected a collection of texts, such as ({example!r},)")
