"""What the tests of keys share: an issuer, the server of its keys, both gateways and both drivers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware.effects import BlockingDriver, Flow
from mtls_middleware.testing import TokenIssuer
from tests.jwks.fetching import awaited
from tests.key_server import KeyServer
from tests.resource_server.stack import ASGIStack, Stack, WSGIStack


@pytest.fixture
def issuer() -> TokenIssuer:
    return TokenIssuer()


@pytest.fixture
def server(issuer: TokenIssuer) -> Iterator[KeyServer]:
    with KeyServer(issuer.jwks) as running:
        yield running


@pytest.fixture(params=[WSGIStack, ASGIStack], ids=["wsgi", "asgi"])
def stack(request: pytest.FixtureRequest) -> type[Stack]:
    found: type[Stack] = request.param
    return found


@pytest.fixture(params=[BlockingDriver().run, awaited], ids=["blocking", "awaiting"])
def run(request: pytest.FixtureRequest) -> Callable[[Flow[Any]], Any]:
    found: Callable[[Flow[Any]], Any] = request.param
    return found
