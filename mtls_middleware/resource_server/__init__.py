"""Certificate-bound access tokens at the resource server: RFC 8705 section 3, RFC 9068, RFC 6750."""

from mtls_middleware.resource_server.signed import JWTAccessTokens
from mtls_middleware.resource_server.token import AccessToken

__all__ = ["AccessToken", "JWTAccessTokens"]
