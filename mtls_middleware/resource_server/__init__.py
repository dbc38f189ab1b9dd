"""Certificate-bound access tokens at the resource server: RFC 8705 section 3, RFC 9068, RFC 7662, RFC 6750."""

from typing import TYPE_CHECKING

from mtls_middleware.first_use import exports

if TYPE_CHECKING:
    from mtls_middleware.resource_server.access_tokens import AccessTokens
    from mtls_middleware.resource_server.answers import Answers, MemoryAnswers, Question, RedisAnswers
    from mtls_middleware.resource_server.issuers import TrustedIssuers
    from mtls_middleware.resource_server.opaque import IntrospectedAccessTokens
    from mtls_middleware.resource_server.revocable import RevocableTokens
    from mtls_middleware.resource_server.revocations import RedisRevocations
    from mtls_middleware.resource_server.signed import JWTAccessTokens
    from mtls_middleware.resource_server.token import AccessToken

__all__ = [
    "AccessToken",
    "AccessTokens",
    "Answers",
    "IntrospectedAccessTokens",
    "JWTAccessTokens",
    "MemoryAnswers",
    "Question",
    "RedisAnswers",
    "RedisRevocations",
    "RevocableTokens",
    "TrustedIssuers",
]

if not TYPE_CHECKING:  # a type checker would take any misspelt name for an attribute
    __getattr__, __dir__ = exports(
        __name__,
        {
            "resource_server.access_tokens": ["AccessTokens"],
            "resource_server.answers": ["Answers", "MemoryAnswers", "Question", "RedisAnswers"],
            "resource_server.issuers": ["TrustedIssuers"],
            "resource_server.opaque": ["IntrospectedAccessTokens"],
            "resource_server.revocable": ["RevocableTokens"],
            "resource_server.revocations": ["RedisRevocations"],
            "resource_server.signed": ["JWTAccessTokens"],
            "resource_server.token": ["AccessToken"],
        },
    )
