"""What the tests of keys share: an issuer, the server of its keys, both gateways and both drivers."""

from collections.abc import Iterator

import pytest

from mtls_middleware.testing import TokenIssuer
from tests.key_server import KeyServer
from tests.resource_server.fixtures import run, stack

__all__ = ["issuer", "run", "server", "stack"]


@pytest.fixture
def issuer() -> TokenIssuer:
    return TokenIssuer()


@pytest.fixture
def server(issuer: TokenIssuer) -> Iterator[KeyServer]:
    with KeyServer(issuer.jwks) as running:
        yield running
