"""`CertificateAuthenticationBackend`: users and scopes for Starlette's and FastAPI's `AuthenticationMiddleware`."""

from typing import Any

from starlette.authentication import AuthCredentials, AuthenticationBackend
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from mtls_middleware.accessors import access_token
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.certificate_user import CertificateUser, certificate_of
from mtls_middleware.integrations.token_user import token_user


class CertificateAuthenticationBackend(AuthenticationBackend):
    """Sets `request.user` and `request.auth.scopes` from the client certificate and the access token of the request.

    Arguments:
        users: a `CertificateUser`. Its `look_up` runs in a thread, unless it is `async`. Without this argument, the
            user is the `TokenUser` of the access token, and a request without a token has no user.

    The scopes are `"authenticated"` and the scopes of the access token, if the layers accepted one. A request without a
    user has Starlette's `UnauthenticatedUser`, and no scopes.

    Put the `AuthenticationMiddleware` inside the layers. Raises `ConfigurationError` for a wrong argument, and for a
    request that did not pass through the layers.

    Example: `Middleware(AuthenticationMiddleware, backend=CertificateAuthenticationBackend(users))`
    """

    def __init__(self, users: CertificateUser[Any] | None = None) -> None:
        if users is not None and not isinstance(users, CertificateUser):
            raise ConfigurationError(
                f"CertificateAuthenticationBackend({users!r}): expected a CertificateUser, for example "
                'CertificateUser(by=UserPrincipalName(), issued_by="staff-ca.pem")'
            )
        self._users = users

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, Any] | None:
        """Return the scopes and the user, or `None`."""
        user = await self._user(conn)
        if user is None:
            return None
        token = access_token(conn)
        scopes = () if token is None else sorted(token.scopes)
        return AuthCredentials(["authenticated", *scopes]), user

    async def _user(self, conn: HTTPConnection) -> Any:
        if self._users is None:
            certificate_of(conn)  # raises ConfigurationError without layers
            token = access_token(conn)
            return None if token is None else token_user(token)
        if self._users.has_look_up and not self._users.is_async:
            return await run_in_threadpool(self._users.find, conn)
        return await self._users.afind(conn)
