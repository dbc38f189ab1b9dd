"""Revokes access tokens and certificates through a list in Redis that all processes share."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.revocation.redis_list import RedisRevocations
    from mtls_middleware.revocation.tokens import RevocableTokens

__all__ = [
    "RedisRevocations",
    "RevocableTokens",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "revocation.redis_list": ["RedisRevocations"],
            "revocation.tokens": ["RevocableTokens"],
        },
    )
