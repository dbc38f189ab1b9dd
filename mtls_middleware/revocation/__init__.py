"""The shared list of revoked access tokens and certificates."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.revocation.redis_list import RedisRevocations
    from mtls_middleware.revocation.tokens import RevocableTokens

__all__ = [
    "RedisRevocations",
    "RevocableTokens",
]

if not TYPE_CHECKING:  # a type checker would take any misspelt name for an attribute
    __getattr__, __dir__ = exports(
        __name__,
        {
            "revocation.redis_list": ["RedisRevocations"],
            "revocation.tokens": ["RevocableTokens"],
        },
    )
