"""`AccessToken`: what a validated access token says, whatever form it had.

Must never know: the token's text, so that no repr, log or traceback can show it (RFC 9700 4.9.3).
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
        claims: all claims (RFC 9068 2.2) or introspection members, read-only all the way down: lists are tuples.
        subject, client_id: `sub` and `client_id`, `None` where the token has none.
        scopes: the single values of `scope`.
        expires_at: `exp` as an aware datetime, UTC; `None` where an introspection answer has none (RFC 7662 2.2).
        bound: whether the token is bound to the certificate of this request (RFC 8705 3).
        confirmation: the `x5t#S256` value that it is bound to, or `None`.
        key_id: `kid` of the issuer's key that verified it, `None` for an introspected token.
        remembered: whether what is said of it was found out for an earlier request.
    """

    claims: Mapping[str, Any]
    subject: str | None
    client_id: str | None
    scopes: frozenset[str]
    expires_at: datetime | None
    bound: bool = False
    confirmation: str | None = None
    key_id: str | None = field(default=None, compare=False)
    remembered: bool = field(default=False, compare=False)
    # What binding.py has read in `claims`: kept with the token, since a remembered token comes again and again.
    proof: Any = field(default=None, init=False, compare=False)

    def bound_by(self, thumbprint: str) -> "AccessToken":
        """The same token, bound to the certificate of this thumbprint."""
        return self._copy(bound=True, confirmation=thumbprint, remembered=self.remembered)

    def again(self) -> "AccessToken":
        """The same token, for a later request."""
        return self._copy(bound=self.bound, confirmation=self.confirmation, remembered=True)

    def _copy(self, *, bound: bool, confirmation: str | None, remembered: bool) -> "AccessToken":
        # dataclasses.replace() takes five times as long, and each new token is copied.
        known = self.claims, self.subject, self.client_id, self.scopes, self.expires_at
        return AccessToken(*known, bound, confirmation, self.key_id, remembered)

    def __repr__(self) -> str:
        return (
            f"<AccessToken subject={self.subject!a} client_id={self.client_id!a} "
            f"scopes={' '.join(sorted(self.scopes))!a} bound={self.bound}>"
        )


def read_only(value: Any) -> Any:
    """JSON data as mappings and tuples that nobody can change."""
    if type(value) is dict:
        return MappingProxyType({name: each if type(each) is str else read_only(each) for name, each in value.items()})
    if type(value) is list:
        return tuple([read_only(each) for each in value])
    return value
