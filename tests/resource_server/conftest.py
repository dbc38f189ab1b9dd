"""What the tests of access tokens share: both gateways, both drivers, and an issuer whose keys can be discovered."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware.effects import BlockingDriver, Flow
from tests.introspection_server import IntrospectionServer
from tests.jwks.fetching import awaited
from tests.key_server import KeyServer
from tests.resource_server.published import PATHS, Published
from tests.resource_server.stack import ASGIStack, Stack, WSGIStack


@pytest.fixture(params=[WSGIStack, ASGIStack], ids=["wsgi", "asgi"])
def stack(request: pytest.FixtureRequest) -> type[Stack]:
    """The class of one gateway's stack: `stack(tokens, scopes=...).request("Bearer ...", certificate=client)`."""
    found: type[Stack] = request.param
    return found


@pytest.fixture(params=[BlockingDriver().run, awaited], ids=["blocking", "awaiting"])
def run(request: pytest.FixtureRequest) -> Callable[[Flow[Any]], Any]:
    found: Callable[[Flow[Any]], Any] = request.param
    return found


@pytest.fixture(params=PATHS)
def site(request: pytest.FixtureRequest) -> Iterator[Published]:
    with KeyServer({"keys": []}) as server:
        yield Published(server, request.param)


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        yield running
