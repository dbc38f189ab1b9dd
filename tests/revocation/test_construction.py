"""What cannot be meant is refused at construction."""

from datetime import UTC, datetime
from typing import Any

import pytest
import redis
import redis.asyncio

from mtls_middleware import ConfigurationError
from mtls_middleware.resource_server import TrustedIssuers
from mtls_middleware.revocation import RedisRevocations, RevocableTokens
from tests.key_server import until
from tests.redis_server import RedisServer
from tests.resource_server import forge
from tests.revocation.lists import BILLING, SOON, includes, new_list


def client(**options: Any) -> redis.Redis:
    usual = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2}
    return redis.Redis(retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1), **{**usual, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"client": "redis://:password@cache.internal"},
            "client is a str: expected a client of redis-py, for example redis",
        ),
        ({"client": redis.asyncio.Redis()}, "expected redis.Redis, also under ASGI"),
        ({"client": client(socket_timeout=None)}, "socket_timeout=None: expected at most 1 second"),
        ({"client": redis.Redis(socket_timeout=0.2, socket_connect_timeout=0.2)}, "retries: expected at most 1"),
        ({"key": ""}, "key="),
        ({"key": b"x"}, "key="),
        ({"max_age": 0}, "max_age=0"),
        ({"max_age": 301}, "max_age=301"),
        ({"max_age": True}, "max_age=True"),
        ({"max_age": float("nan")}, "max_age=nan"),
        ({"replicas": -1}, "replicas=-1"),
        ({"replicas": 101}, "replicas=101"),
        ({"replicas": True}, "replicas=True"),
        ({"replicas": 1.0}, "replicas=1.0"),
        ({"on_failure": "allow"}, "on_failure="),
        ({"on_failure": "keep", "keep_for": 3601}, "keep_for=3601"),
        ({"on_failure": "keep", "keep_for": None}, "keep_for=None"),
        ({"on_failure": "keep", "keep_for": float("inf")}, "keep_for=inf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_refused_at_construction(options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        RedisRevocations(**{"client": client(), **options})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "token_id="),
        ({"token_id": "1"}, "issuer="),
        ({"issuer": "i"}, "token_id="),
        ({"token_id": "", "issuer": "i"}, "token_id="),
        ({"token_id": 7, "issuer": "i"}, "token_id="),
        ({"thumbprint": "A" * 43, "token_id": "1", "issuer": "i"}, "given together with token_id= or issuer="),
        ({"thumbprint": "A" * 43, "issuer": "i"}, "given together with token_id= or issuer="),
        ({"thumbprint": "ab" * 32}, "43 characters of base64url"),
        ({"thumbprint": ""}, "43 characters of base64url"),
        ({"thumbprint": b"A" * 43}, "43 characters of base64url"),
        ({"thumbprint": "A" * 43, "until": datetime(2999, 1, 1)}, "an aware datetime"),  # noqa: DTZ001 (wrong on purpose)
        ({"thumbprint": "A" * 43, "until": 2_000_000_000}, "an aware datetime"),
        ({"thumbprint": "A" * 43, "until": datetime(2020, 1, 1, tzinfo=UTC)}, "is in the past"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_revoke_nothing_is_refused(arguments: Any, said: str) -> None:
    revocations = RedisRevocations(client())
    with pytest.raises(ConfigurationError, match=said):
        revocations.revoke(**{"until": SOON, **arguments})
    with pytest.raises(ConfigurationError, match=said):
        revocations.create([{"until": SOON, **arguments}])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda it: RevocableTokens(None, it), "tokens=None"),
        (lambda it: RevocableTokens(TrustedIssuers, it), "tokens="),
        (lambda it: RevocableTokens(forge.access_tokens(), client()), "revocations="),
        (lambda it: RevocableTokens(forge.access_tokens(), it, ids="none"), "ids='none'"),
        (lambda it: TrustedIssuers([RevocableTokens(forge.access_tokens(), it)]), "expected JWTAccessTokens"),
    ],
    ids=["none", "a class", "a client", "ids", "inside"],
)
def test_a_wrong_wrapper_is_refused_at_construction(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make(RedisRevocations(client()))


@pytest.mark.parametrize("entry", [{"jti": "1"}, {"token_id": "1", "issuer": "i"}, "text", 7, None])
def test_a_list_is_made_of_mappings_of_the_arguments_alone(entry: Any) -> None:
    with pytest.raises(ConfigurationError, match="create"):
        RedisRevocations(client()).create([entry])


def test_the_end_of_time_is_a_time_to_revoke_until(redis_server: RedisServer) -> None:
    revocations = new_list(redis_server)
    revocations.revoke(thumbprint=BILLING.thumbprint, until=datetime.max.replace(tzinfo=UTC))
    until(lambda: includes(revocations, BILLING) is True)
