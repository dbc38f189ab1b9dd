"""Both gateways and both drivers, as fixtures: a conftest imports the ones that its tests ask for."""

from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware.effects.flow import BlockingDriver, Flow
from tests.jwks.key_sources import awaited
from tests.resource_server.stack import ASGIStack, Stack, WSGIStack


@pytest.fixture(params=[WSGIStack, ASGIStack], ids=["wsgi", "asgi"])
def stack(request: pytest.FixtureRequest) -> type[Stack]:
    """The class of one gateway's stack: `stack(tokens, scopes=...).request("Bearer ...", certificate=client)`."""
    found: type[Stack] = request.param
    return found


@pytest.fixture(params=[BlockingDriver().run, awaited], ids=["blocking", "awaiting"])
def run(request: pytest.FixtureRequest) -> Callable[[Flow[Any]], Any]:
    """Runs a flow with one of the drivers."""
    found: Callable[[Flow[Any]], Any] = request.param
    return found
