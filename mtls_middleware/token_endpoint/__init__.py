"""The token endpoint's half of RFC 8705: clients authenticated by certificate, their tokens bound, and metadata."""

from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import ClientRequest
from mtls_middleware.token_endpoint.issuance import confirm_refresh_token, confirmation, token_confirmation
from mtls_middleware.token_endpoint.metadata import (
    authorization_server_metadata,
    mtls_endpoint,
    protected_resource_metadata,
    well_known,
)

__all__ = [
    "ClientAuthenticator",
    "ClientRequest",
    "RegisteredClient",
    "authorization_server_metadata",
    "confirm_refresh_token",
    "confirmation",
    "mtls_endpoint",
    "protected_resource_metadata",
    "token_confirmation",
    "well_known",
]
