"""The deployment that the tests of this folder talk to: started once, and gone with the last of them."""

from collections.abc import Iterator

import pytest

from tests.live.peers.deployment import NAMES, Deployment, deployed


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment")) as running:
        yield running


@pytest.fixture(params=NAMES)
def invoices(deployment: Deployment, request: pytest.FixtureRequest) -> str:
    """The address of what is protected, of each API in turn."""
    return f"{deployment.apis[request.param]}/invoices"
