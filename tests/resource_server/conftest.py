"""What the tests of access tokens share: both gateways, by the same name."""

import pytest

from tests.resource_server.stack import ASGIStack, Stack, WSGIStack


@pytest.fixture(params=[WSGIStack, ASGIStack], ids=["wsgi", "asgi"])
def stack(request: pytest.FixtureRequest) -> type[Stack]:
    """The class of one gateway's stack: `stack(tokens, scopes=...).request("Bearer ...", certificate=client)`."""
    found: type[Stack] = request.param
    return found
