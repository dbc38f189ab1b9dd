"""What the tests of access tokens share: both gateways, by the same name."""

from collections.abc import Iterator

import pytest

from tests.introspection_server import IntrospectionServer
from tests.resource_server.stack import ASGIStack, Stack, WSGIStack


@pytest.fixture(params=[WSGIStack, ASGIStack], ids=["wsgi", "asgi"])
def stack(request: pytest.FixtureRequest) -> type[Stack]:
    """The class of one gateway's stack: `stack(tokens, scopes=...).request("Bearer ...", certificate=client)`."""
    found: type[Stack] = request.param
    return found


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        yield running
