"""Checks the types of claims, and creates an `AccessToken` from the claims.

The claims are those of a JWT (RFC 9068), or the members of an introspection response (RFC 7662). This
module performs no I/O and reads no clock.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from mtls_middleware.errors import Refused
from mtls_middleware.resource_server.token import AccessToken, read_only
from mtls_middleware.reusable import Check, Reusable

# The memory that the claims of a token of usual size need, in bytes. A client can enlarge some claims (RFC 9396).
_USUAL_SIZE = 4_000
# The memory of each scope of a token, in bytes.
_SCOPE_SIZE = 110


@dataclass(frozen=True, slots=True)
class TimedToken:
    """A token and its validity period.

    Attributes:
        token: the token.
        not_before, expires: the start and the end of the validity period, in seconds since the epoch. `expires` is
            infinite if the token has no `exp`.
        cost: the bytes of memory by which the token's claims exceed the claims of a token of usual size.
    """

    token: AccessToken
    not_before: float
    expires: float
    cost: int = 0

    def valid_at(self, now: float, leeway: float, checks: tuple[Check, ...] = ()) -> Reusable[AccessToken]:
        """Return the token with the time for which it may be reused, and with `checks`. `now`, `leeway`: seconds.

        Raises `Refused("invalid_token")` if the token is not valid at `now`.
        """
        if now >= self.expires + leeway:
            reject_token("the token has expired")
        if now < self.not_before - leeway:
            reject_token("the token is not valid yet: nbf or iat is in the future")
        return Reusable(self.token, self.not_before - leeway, self.expires + leeway, checks, self.cost)


def timed_token(
    claims: Mapping[str, Any],
    *,
    client_id: str | None,
    scopes: frozenset[str],
    size: int = 0,
    key_id: str | None = None,
) -> TimedToken:
    """Return the token with these claims. Raises `Refused("invalid_token")` if a claim has the wrong type.

    The caller must check `iss` and `aud`. `client_id`, `scopes`: see `ClaimNames`. `size`: the bytes of memory that the
    claims need. `key_id`: the `kid` of the key that verified the token.
    """
    for name in ("sub", "jti"):
        if not isinstance(claims.get(name, ""), str):
            reject_token(f"{name} is not a string")
    not_before = 0.0
    for name in ("nbf", "iat"):
        if name in claims:
            not_before = max(not_before, numeric_date(claims, name))
    expires, expires_at = math.inf, None
    if "exp" in claims:
        expires = numeric_date(claims, "exp")
        try:
            expires_at = datetime.fromtimestamp(expires, UTC)
        except (ValueError, OverflowError, OSError):
            reject_token("exp is not a valid date")
    try:
        read_only_claims = read_only(claims)
    except RecursionError:
        reject_token("the claims are nested too deeply")
    token = AccessToken(read_only_claims, claims.get("sub"), client_id, scopes, expires_at, key_id=key_id)
    return TimedToken(token, not_before, expires, max(0, size + _SCOPE_SIZE * len(scopes) - _USUAL_SIZE))


def check_expiry(token: AccessToken, now: float, leeway: float = 0) -> None:
    """Check again a token that was accepted earlier. Raises `Refused("invalid_token")` if it has expired at `now`."""
    if token.expires_at is not None and now >= token.expires_at.timestamp() + leeway:
        reject_token("the token has expired")


def is_other_token_type(claims: Mapping[str, Any]) -> bool:
    """Return whether the claims are those of another type of token, for example a refresh token or an ID token.

    Ory Hydra and Amazon Cognito write the type into `token_use`, and Keycloak writes it into `typ`. Such servers also
    introspect refresh tokens, or sign ID tokens and access tokens with the same keys.
    """
    typ = claims.get("typ")
    is_other = isinstance(typ, str) and typ.lower() in ("refresh", "offline", "id", "logout")
    return is_other or claims.get("token_use", "access") not in ("access", "access_token")


def has_audience(claims: Mapping[str, Any], audiences: Collection[str], name: str = "aud") -> bool:
    """Return whether a claim contains one of these audiences. The claim is a string or a list (RFC 7519 4.1.3)."""
    found = claims.get(name)
    if isinstance(found, list):
        return any(isinstance(each, str) and each in audiences for each in found)
    return isinstance(found, str) and found in audiences


def scope_values(claims: Mapping[str, Any], name: str, *, lists: bool) -> frozenset[str]:
    """Return the scopes in the claim `name`. `lists`: whether the claim may also be a list of strings.

    Raises `Refused("invalid_token")` if the claim has a different type.
    """
    found = claims.get(name, "")
    if isinstance(found, str):
        return frozenset(found.split(" ")) - {""}  # split only at spaces, and not at other blanks (RFC 6749 3.3)
    if not lists or not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        reject_token(f"{name} is not a string{' or a list of strings' if lists else ''}")
    return frozenset(found) - {""}


def numeric_date(claims: Mapping[str, Any], name: str) -> float:
    """Return the NumericDate (RFC 7519 2) in the claim `name`, in seconds since the epoch.

    Raises `Refused("invalid_token")` if the claim is not a finite JSON number.
    """
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        reject_token(f"{name} is not a number")
    try:
        number = float(value)
    except OverflowError:
        reject_token(f"{name} is out of range")
    if not math.isfinite(number):
        reject_token(f"{name} is not finite")
    return number


def media_type(typ: str) -> str:
    """Return `typ` in lower case and without "application/", so that two values can be compared (RFC 7515 4.1.9)."""
    return typ.lower().removeprefix("application/")


def reject_token(
    reason: str, *, found: Mapping[str, object] | None = None, expected: Mapping[str, object] | None = None
) -> NoReturn:
    """Raises `Refused("invalid_token")`. `reason` is logged, so it must not contain any part of the token.

    `found`, `expected`: only `iss`, `aud`, `typ`, `alg` and `kid`, which identify the token's issuer and its purpose.
    """
    raise Refused("invalid_token", reason, found=found, expected=expected)
