"""Has this access token the scopes that are demanded? RFC 6750 section 3.1, and nothing else.

Must never know: who demands them, a layer or one route inside of it.
"""

from mtls_middleware.errors import Refused
from mtls_middleware.resource_server.token import AccessToken


def demand(token: AccessToken, scopes: frozenset[str]) -> None:
    """Raises `Refused("insufficient_scope")` unless the token has each of `scopes`, as exact texts (RFC 6749 3.3)."""
    if not scopes <= token.scopes:
        raise Refused("insufficient_scope", f"missing {' '.join(sorted(scopes - token.scopes))}")
