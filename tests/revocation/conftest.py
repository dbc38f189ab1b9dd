"""A Redis for the tests of revocations that do not leave it whole; the others share one."""

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server, shared_redis
from tests.resource_server.fixtures import run, stack

__all__ = ["own_redis", "redis_server", "run", "shared_redis", "stack"]


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found
