"""Defines the exceptions of the client. Their messages never contain a token or a key."""

import copyreg
from typing import Any, Literal

Code = Literal["unavailable", "rejected", "invalid_response", "not_bound"]


class TokenError(Exception):
    """Raised if no access token can be obtained. The request is not sent.

    Attributes:
        code: `"unavailable"` if the authorization server or its metadata cannot be reached or has an error, so that a
            later attempt may succeed; `"rejected"` if the server rejects the request; `"invalid_response"` if the
            response or the metadata is not as the standards require; `"not_bound"` if the token is not bound.
        oauth_error: the `error` of the server's response (RFC 6749 5.2), such as `"invalid_client"`; `None` if there is
            none.
    """

    def __init__(self, code: Code, reason: str, *, oauth_error: str | None = None) -> None:
        super().__init__(reason)
        self.code: Code = code
        self.oauth_error = oauth_error

    def __reduce__(self) -> tuple[Any, ...]:
        """Support `copy` and `pickle`, which by default call the class with `args`. A copy has no traceback."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class TokenNotBound(TokenError):  # noqa: N818 (a public name, like `Refused`)
    """Raised if the obtained token is not bound to the certificate, or is bound to another one (RFC 8705 3)."""

    def __init__(self, reason: str) -> None:
        super().__init__("not_bound", reason)


class CredentialsNotSent(Exception):  # noqa: N818 (a public name, like `Refused`)
    """Raised if a request must not carry its token: it is a redirect, or its URL is not https."""
