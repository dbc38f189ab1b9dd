"""Validates certificate-bound access tokens at a resource server (RFC 8705 section 3, RFC 9068, RFC 7662, RFC 6750)."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.resource_server.access_tokens import AccessTokens
    from mtls_middleware.resource_server.introspection import IntrospectedAccessTokens
    from mtls_middleware.resource_server.introspection_cache import (
        IntrospectionCache,
        IntrospectionKey,
        MemoryAnswers,
        RedisAnswers,
    )
    from mtls_middleware.resource_server.issuers import TrustedIssuers
    from mtls_middleware.resource_server.jwt_tokens import JWTAccessTokens
    from mtls_middleware.resource_server.metadata import protected_resource_metadata
    from mtls_middleware.resource_server.token import AccessToken

__all__ = [
    "AccessToken",
    "AccessTokens",
    "IntrospectedAccessTokens",
    "IntrospectionCache",
    "IntrospectionKey",
    "JWTAccessTokens",
    "MemoryAnswers",
    "RedisAnswers",
    "TrustedIssuers",
    "protected_resource_metadata",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "resource_server.access_tokens": ["AccessTokens"],
            "resource_server.introspection_cache": [
                "IntrospectionCache",
                "IntrospectionKey",
                "MemoryAnswers",
                "RedisAnswers",
            ],
            "resource_server.issuers": ["TrustedIssuers"],
            "resource_server.introspection": ["IntrospectedAccessTokens"],
            "resource_server.metadata": ["protected_resource_metadata"],
            "resource_server.jwt_tokens": ["JWTAccessTokens"],
            "resource_server.token": ["AccessToken"],
        },
        moved={"RedisRevocations": "revocation", "RevocableTokens": "revocation"},
    )
