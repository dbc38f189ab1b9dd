"""`AccessTokens`: what a layer needs of the object that validates access tokens."""

from typing import Any, Protocol

from mtls_middleware.effects.flow import Flow
from mtls_middleware.resource_server.token import AccessToken


class AccessTokens(Protocol):
    """Validates access tokens. `JWTAccessTokens` and `IntrospectedAccessTokens` are such validators.

    Write your own for tokens of another form. docs/extending.md has an example.
    """

    def validate(self, text: str, now: float) -> AccessToken | Flow[AccessToken]:
        """The accepted token, not yet compared with the certificate, or a flow that returns it.

        `text`: the token as the client sent it. `now`: seconds since the epoch. Raises `Refused("invalid_token",
        reason)`, or `Unavailable`.
        """


def is_bound_only(tokens: Any, text: str) -> bool:
    """Whether these tokens, of any class, accept `text` only if it is bound to a certificate, whatever the layer says.

    Example: `is_bound_only(TrustedIssuers([...]), text)`
    """
    found = getattr(tokens, "is_bound_only", None)
    return callable(found) and found(text) is True
