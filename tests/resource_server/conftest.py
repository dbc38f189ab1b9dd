"""What the tests of access tokens share: gateways, drivers, servers, a Redis, an issuer whose keys can be found."""

from collections.abc import Iterator

import pytest

from tests.introspection_server import IntrospectionServer
from tests.key_server import KeyServer
from tests.redis_server import RedisServer
from tests.resource_server.both import run, stack
from tests.resource_server.published import PATHS, Published

__all__ = ["redis_server", "run", "server", "shared_redis", "site", "stack"]


@pytest.fixture(params=PATHS)
def site(request: pytest.FixtureRequest) -> Iterator[Published]:
    with KeyServer({"keys": []}) as server:
        yield Published(server, request.param)


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        yield running


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """An empty one, for tests that leave it running."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis
