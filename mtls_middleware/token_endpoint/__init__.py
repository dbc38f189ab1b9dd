"""Implements RFC 8705 at the token endpoint: client authentication, certificate-bound tokens, and metadata."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
    from mtls_middleware.token_endpoint.clients import RegisteredClient, RegistrationError
    from mtls_middleware.token_endpoint.credentials import ClientRequest
    from mtls_middleware.token_endpoint.issuance import confirm_refresh_token, confirmation, token_confirmation
    from mtls_middleware.token_endpoint.metadata import (
        authorization_server_metadata,
        mtls_endpoint,
        well_known,
    )

__all__ = [
    "ClientAuthenticator",
    "ClientRequest",
    "RegisteredClient",
    "RegistrationError",
    "authorization_server_metadata",
    "confirm_refresh_token",
    "confirmation",
    "mtls_endpoint",
    "token_confirmation",
    "well_known",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "token_endpoint.authentication": ["ClientAuthenticator"],
            "token_endpoint.clients": ["RegistrationError", "RegisteredClient"],
            "token_endpoint.credentials": ["ClientRequest"],
            "token_endpoint.issuance": ["confirm_refresh_token", "confirmation", "token_confirmation"],
            "token_endpoint.metadata": [
                "authorization_server_metadata",
                "mtls_endpoint",
                "well_known",
            ],
        },
        moved={"protected_resource_metadata": "resource_server"},
    )
