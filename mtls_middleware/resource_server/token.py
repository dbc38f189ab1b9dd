"""`AccessToken`: the claims of a validated access token, which is a JWT or an introspected token.

An `AccessToken` does not contain the token's string, so no log record or traceback can show the string (RFC 9700
section 4.9.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True, repr=False)
class AccessToken:
    """An access token that was accepted for this request.

    Attributes:
        claims: all claims of the JWT (RFC 9068 2.2), or all members of the introspection response. Mappings are
            read-only, and lists are converted to tuples.
        subject: the `sub` claim; `None` if the token has no `sub`.
        client_id: the `client_id` claim; `None` if the token has no `client_id`.
        scopes: the values of `scope`, split at spaces.
        expires_at: `exp` as an aware datetime in UTC; `None` if an introspection response has no `exp` (RFC 7662 2.2).
        bound: whether the token is bound to the certificate of this request (RFC 8705 section 3).
        confirmation: the `x5t#S256` value that the token is bound to, or `None`.
        key_id: `kid` of the issuer's key that verified the token; `None` for an introspected token.

    Example:
        >>> token = AccessToken(
        ...     claims={"sub": "billing", "scope": "invoices:read"},
        ...     subject="billing",
        ...     client_id=None,
        ...     scopes=frozenset({"invoices:read"}),
        ...     expires_at=None,
        ... )
        >>> "invoices:read" in token.scopes
        True
    """

    claims: Mapping[str, Any]
    subject: str | None
    client_id: str | None
    scopes: frozenset[str]
    expires_at: datetime | None
    bound: bool = False
    confirmation: str | None = None
    key_id: str | None = field(default=None, compare=False)

    @property
    def issuer(self) -> str | None:
        """The `iss` claim; `None` if an introspection response has no `iss`."""
        found = self.claims.get("iss")
        return found if isinstance(found, str) else None

    def bound_by(self, thumbprint: str) -> "AccessToken":
        """Return a copy of the token that is bound to the certificate with this thumbprint.

        Example: `token.bound_by(certificate.thumbprint).bound` is `True`
        """
        return AccessToken(
            self.claims,
            self.subject,
            self.client_id,
            self.scopes,
            self.expires_at,
            bound=True,
            confirmation=thumbprint,
            key_id=self.key_id,
        )

    def __repr__(self) -> str:
        return (
            f"<AccessToken subject={self.subject!a} client_id={self.client_id!a} "
            f"scopes={' '.join(sorted(self.scopes))!a} bound={self.bound}>"
        )


def read_only(value: Any) -> Any:
    """Return a copy of JSON data with read-only mappings instead of dicts, and tuples instead of lists."""
    if type(value) is dict:
        return MappingProxyType({name: each if type(each) is str else read_only(each) for name, each in value.items()})
    if type(value) is list:
        return tuple([read_only(each) for each in value])
    return value
