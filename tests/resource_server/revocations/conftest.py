"""A Redis for the tests of revocations that do not leave it whole; the others share one."""

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found
