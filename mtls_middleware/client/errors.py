"""Defines the exceptions of the client. Their messages never contain a token or a key."""

import copyreg
from typing import Any, Literal

Code = Literal["unavailable", "rejected", "invalid_response", "not_bound"]


class TokenError(Exception):
    """Raised if no access token can be obtained. The request is not sent.

    Attributes:
        code: the reason.
            `"unavailable"`: the authorization server cannot be reached, is too slow or responds with 5xx, or its
            metadata cannot be used. A later attempt may succeed.
            `"rejected"`: the authorization server rejects the token request.
            `"invalid_response"`: the response of the token endpoint is not as RFC 6749 5.1 requires.
            `"not_bound"`: the token is not bound to the certificate.
        oauth_error: the `error` in the response of the authorization server (RFC 6749 5.2), for example
            `"invalid_client"`, or `None`.

    Example:
        >>> error = TokenError("rejected", "status 401 invalid_client", oauth_error="invalid_client")
        >>> error.code, error.oauth_error
        ('rejected', 'invalid_client')
    """

    def __init__(self, code: Code, reason: str, *, oauth_error: str | None = None) -> None:
        super().__init__(reason)
        self.code: Code = code
        self.oauth_error = oauth_error

    def __reduce__(self) -> tuple[Any, ...]:
        """Make `copy` and `pickle` work, which by default would call the class with `args`. A copy has no traceback."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # undocumented, so mypy does not know it


class TokenNotBound(TokenError):  # noqa: N818 (a public name, like `Refused`)
    """Raised if the obtained token is not bound, or is bound to a different certificate (RFC 8705 3).

    Example:
        >>> TokenNotBound("the token has no cnf claim").code
        'not_bound'
    """

    def __init__(self, reason: str) -> None:
        super().__init__("not_bound", reason)


class CredentialsNotSent(Exception):  # noqa: N818 (a public name, like `Refused`)
    """Raised if a request would send its token to the target of a redirect, or to a URL that may not get it.

    A token may be sent to https URLs. If the argument `origins` is given, it may be sent only to these origins.

    Example: `httpx2.Client(transport=transport, auth=auth).get("http://api.example/")` raises this exception.
    """
