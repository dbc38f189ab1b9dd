"""`AccessTokens`: what a layer needs from the object that validates access tokens."""

from typing import Any, Protocol

from mtls_middleware.effects.flow import Flow
from mtls_middleware.resource_server.token import AccessToken


class AccessTokens(Protocol):
    """Validates access tokens. `JWTAccessTokens` and `IntrospectedAccessTokens` implement this protocol.

    Write your own validator for another kind of token. docs/extending.md has an example.
    """

    def validate(self, text: str, now: float) -> AccessToken | Flow[AccessToken]:
        """Returns the valid token, or a flow that returns it. The layer then compares it with the certificate.

        `text`: the token as the client sent it. `now`: seconds since the epoch. Raises `Refused("invalid_token",
        reason)` for an invalid token, and `Unavailable` if the token cannot be validated now.
        """


def is_bound_only(tokens: Any, text: str) -> bool:
    """Whether the validator `tokens` accepts `text` only if it is bound to a certificate, whatever `binding=` is.

    Returns `False` for a validator without a method `is_bound_only`. Example:
    `is_bound_only(TrustedIssuers([...]), text)`
    """
    method = getattr(tokens, "is_bound_only", None)
    return callable(method) and method(text) is True
