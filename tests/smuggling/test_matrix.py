"""Tunnels and smuggled requests through the real proxies to the real servers: the part that every run sends."""

from collections.abc import Iterator

import pytest

from mtls_middleware.cli.proxies import PROXIES
from tests.smuggling import campaign, stage
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
        attacks = [*campaign.core(), *campaign.sample(campaign.chosen(GROUPS), SAMPLED, server)]
        outcome = campaign.run(proxies, server, attacks, control)
    assert sorted({str(each) for each in outcome.findings}) == []
    # The innocent client is served all the time, and many of the attacker's own requests pass, without an upgrade.
    for each in proxies.ports:
        assert outcome.recorded[each.key, "innocent"] > len(attacks)
        assert outcome.recorded[each.key, "attacker"] > len(attacks) // 4
