"""Certificate-bound access tokens at the resource server: RFC 8705 section 3, RFC 9068, RFC 7662, RFC 6750."""

from mtls_middleware.resource_server.answers import MemoryAnswers, RedisAnswers
from mtls_middleware.resource_server.issuers import TrustedIssuers
from mtls_middleware.resource_server.opaque import IntrospectedAccessTokens
from mtls_middleware.resource_server.revocable import RevocableTokens
from mtls_middleware.resource_server.revocations import RedisRevocations
from mtls_middleware.resource_server.signed import JWTAccessTokens
from mtls_middleware.resource_server.token import AccessToken

__all__ = [
    "AccessToken",
    "IntrospectedAccessTokens",
    "JWTAccessTokens",
    "MemoryAnswers",
    "RedisAnswers",
    "RedisRevocations",
    "RevocableTokens",
    "TrustedIssuers",
]
