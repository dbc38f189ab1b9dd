"""`TokenUser`: the user of a request with an access token, for applications without a user model for such clients.

This module imports no framework.
"""

from dataclasses import dataclass

from mtls_middleware.resource_server.token import AccessToken


@dataclass(frozen=True, slots=True)
class TokenUser:
    """The subject of an accepted access token (RFC 9068 2.2), with the attributes that frameworks read from a user.

    A `TokenUser` has no permissions of the framework. The scopes of the token are its only rights.

    Example: `TokenUser(token).identity`
    """

    token: AccessToken

    @property
    def identity(self) -> str:
        """The issuer and the subject, separated by a space.

        If the token has no subject, the client id takes its place.
        """
        return f"{self.token.issuer or ''} {self.display_name}"

    @property
    def display_name(self) -> str:
        """The subject, or the client id if the token has no subject."""
        return self.token.subject or self.token.client_id or ""

    @property
    def username(self) -> str:
        """The same as `display_name`. Django and its admin read this attribute of a user."""
        return self.display_name

    @property
    def pk(self) -> str:
        """The same as `identity`. Django REST framework limits requests by this attribute."""
        return self.identity

    @property
    def is_authenticated(self) -> bool:
        """Always `True`, because the layer has validated the token."""
        return True

    @property
    def is_anonymous(self) -> bool:
        """Always `False`, because the token identifies the user."""
        return False

    @property
    def is_active(self) -> bool:
        """Always `True`, because the layer rejects tokens that are no longer valid."""
        return True

    @property
    def is_staff(self) -> bool:
        """Always `False`, because a token gives no access to Django's admin."""
        return False

    @property
    def is_superuser(self) -> bool:
        """Always `False`, because a token gives no permission of the framework."""
        return False

    def has_perm(self, perm: str, obj: object = None) -> bool:  # noqa: ARG002 (Django's interface)
        """Always `False`, because a token gives no permission of the framework."""
        return False

    def has_perms(self, perm_list: object, obj: object = None) -> bool:  # noqa: ARG002 (Django's interface)
        """Always `False`, because a token gives no permission of the framework."""
        return False

    def has_module_perms(self, app_label: str) -> bool:  # noqa: ARG002 (Django's interface)
        """Always `False`, because a token gives no permission of the framework."""
        return False


def token_user(token: AccessToken) -> TokenUser | None:
    """Return the user of a token, or `None` if the token has neither a subject nor a client id.

    Example: `token_user(access_token(request))`
    """
    user = TokenUser(token)
    return user if user.display_name else None
