"""`AccessTokens`: the protocol of objects that validate access tokens for a layer."""

from typing import Any, Protocol

from mtls_middleware.effects.flow import Flow
from mtls_middleware.resource_server.token import AccessToken


class AccessTokens(Protocol):
    """Validates access tokens. `JWTAccessTokens` and `IntrospectedAccessTokens` implement this protocol.

    Write your own validator for another kind of token. docs/extending.md has an example.

    Example:
        >>> from mtls_middleware.errors import Refused
        >>> class SessionTokens:
        ...     def __init__(self, rows: dict[str, AccessToken]) -> None:
        ...         self._rows = rows
        ...
        ...     def validate(self, text: str, now: float) -> AccessToken:
        ...         if text not in self._rows:
        ...             raise Refused("invalid_token", "the token is not in our table")
        ...         return self._rows[text]
    """

    def validate(self, text: str, now: float) -> AccessToken | Flow[AccessToken]:
        """Return the valid token, or a flow that returns the token.

        The layer then checks that the token is bound to the client certificate. `text`: the token as the client sent
        it. `now`: seconds since the epoch. Raises `Refused("invalid_token", reason)` for an invalid token, and
        `Unavailable` if the token cannot be validated now.
        """


def is_bound_only(tokens: Any, text: str) -> bool:
    """Return whether the validator `tokens` rejects the token string `text` if the token is not bound to a certificate.

    Returns `False` for a validator that has no method `is_bound_only`: the `binding=` of the layer then decides.

    Example: `is_bound_only(TrustedIssuers([...]), text)`
    """
    method = getattr(tokens, "is_bound_only", None)
    return callable(method) and method(text) is True
