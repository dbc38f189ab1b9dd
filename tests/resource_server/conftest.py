"""What the tests of access tokens share: gateways, drivers, servers, a Redis, an issuer whose keys can be found."""

from collections.abc import Iterator

import pytest

from tests.introspection_server import IntrospectionServer
from tests.key_server import KeyServer
from tests.redis_server import redis_server, shared_redis
from tests.resource_server.discovery import PATHS, ServedDocument
from tests.resource_server.fixtures import run, stack

__all__ = ["redis_server", "run", "server", "shared_redis", "site", "stack"]


@pytest.fixture(params=PATHS)
def site(request: pytest.FixtureRequest) -> Iterator[ServedDocument]:
    with KeyServer({"keys": []}) as server:
        yield ServedDocument(server, request.param)


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        yield running
