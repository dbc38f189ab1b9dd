"""Checks the scopes of an access token (RFC 6750 section 3.1), for a layer or for a single route."""

from mtls_middleware.errors import Refused
from mtls_middleware.resource_server.token import AccessToken


def require_scopes(token: AccessToken, scopes: frozenset[str]) -> None:
    """Raises `Refused("insufficient_scope")` unless the token has all `scopes`.

    Scopes are compared case-sensitively (RFC 6749 3.3).
    """
    if not scopes <= token.scopes:
        raise Refused("insufficient_scope", f"missing scopes: {' '.join(sorted(scopes - token.scopes))}")
