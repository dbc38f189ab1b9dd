"""Tunnels and smuggled requests through the real proxies to the real servers: the part that every run sends."""

from collections.abc import Iterator

import pytest

from mtls_middleware.cli.proxies import PROXIES
from tests.smuggling import assault, stage
from tests.smuggling.payload import GROUPS
from tests.smuggling.servers import SERVERS
from tests.smuggling.stage import Configuration, Stage

pytestmark = pytest.mark.live

# Beside the core: so many attacks of all groups, others for each server.
SAMPLED = 40


@pytest.fixture(scope="module")
def proxies() -> Iterator[Stage]:
    with stage.proxies([Configuration(proxy, secret=True) for proxy in PROXIES]) as running:
        yield running


@pytest.mark.parametrize("server", [name for name, each in SERVERS.items() if not each.known_bad])
def test_no_proxy_lets_a_request_into_another_clients_connection(proxies: Stage, server: str) -> None:
    with stage.server(server, proxies) as control:
        # A request with the secret from the proxy's address is trusted: an attack that gets through can succeed.
        assert set(control.values()) == {"trusted"}
        attacks = [*assault.core(), *assault.sample(assault.chosen(GROUPS), SAMPLED, server)]
        outcome = assault.run(proxies, server, attacks, control)
    assert sorted({str(each) for each in outcome.findings}) == []
    # The innocent client was served all the time.
    assert all(outcome.innocent[each.key] > len(attacks) for each in proxies.ports), outcome.innocent
