"""Keys are fetched on demand, remembered, and renewed before they are old."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware import Refused
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Flow
from mtls_middleware.effects.remote_document import COOL_DOWN
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from tests.jwks.key_sources import HOUR, START, fetched, fetching, protected
from tests.key_server import KeyServer, die, until
from tests.resource_server.stack import Stack


def test_keys_are_fetched_on_demand_and_once(
    stack: type[Stack], issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    app = protected(stack, issuer, server)
    assert server.requests == 0
    for _ in range(3):
        text = issuer.token(certificate=mtls_client)
        assert app.request(f"Bearer {text}", certificate=mtls_client).status == 200
    assert server.requests == 1


def test_keys_come_over_https_verified_by_the_context_given(
    stack: type[Stack], issuer: TokenIssuer, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    context = mtls_ca.server_context(mtls_ca.server(), client_certificates="optional")
    with KeyServer(issuer.jwks, tls=context) as server:
        authorization = f"Bearer {issuer.token(certificate=mtls_client)}"
        trusting = stack(issuer.access_tokens(jwks_uri=server.url, ssl_context=mtls_ca.client_context()))
        assert trusting.request(authorization, certificate=mtls_client).status == 200
        wary = stack(issuer.access_tokens(jwks_uri=server.url))  # the system's CAs do not know this one
        assert wary.request(authorization, certificate=mtls_client).status == 503
        assert server.requests == 1


def test_keys_from_a_server_of_another_name_are_not_taken(
    stack: type[Stack], issuer: TokenIssuer, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    context = mtls_ca.server_context(mtls_ca.server("as.example"), client_certificates="optional")
    with KeyServer(issuer.jwks, tls=context) as server:
        app = stack(issuer.access_tokens(jwks_uri=server.url, ssl_context=mtls_ca.client_context()))
        text = issuer.token(certificate=mtls_client)
        assert app.request(f"Bearer {text}", certificate=mtls_client).status == 503


@pytest.mark.case("127")
def test_a_hundred_unknown_key_ids_cost_one_fetch_and_valid_tokens_go_on(
    stack: type[Stack], issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    app, text = protected(stack, issuer, server), issuer.token(certificate=mtls_client)
    assert app.request(f"Bearer {text}", certificate=mtls_client).status == 200
    for number in range(100):
        unknown = issuer.token(certificate=mtls_client, headers={"kid": str(number)})
        outcome = app.request(f"Bearer {unknown}", certificate=mtls_client)
        assert (outcome.status, outcome.error) == (401, "invalid_token")
        if not number % 10:
            assert app.request(f"Bearer {text}", certificate=mtls_client).status == 200
    assert server.requests == 1


@pytest.mark.case("127")
def test_an_unknown_key_id_is_looked_for_once_per_cool_down(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    keys = fetched(server)
    run(keys.current(START))
    for second in range(121):
        run(keys.refreshed(START + second, str(second)))
    assert server.requests == 1 + 120 // int(COOL_DOWN)


def test_a_token_without_key_id_never_makes_us_fetch(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    keys = fetched(server)
    run(keys.current(START))
    run(keys.refreshed(START + 2 * COOL_DOWN, None))
    assert server.requests == 1


def test_an_unknown_key_id_fetches_keys_and_drops_withdrawn_ones(
    server: KeyServer, issuer: TokenIssuer, run: Callable[[Flow[Any]], Any]
) -> None:
    tokens = fetching(issuer, server)
    now = time.time()
    old = issuer.token()
    assert run(tokens.validate(old, now))
    issuer.rotate()
    server.jwks, new = issuer.jwks, issuer.token()
    assert run(tokens.validate(new, now + COOL_DOWN))
    assert run(tokens.validate(old, now + COOL_DOWN))  # still published
    issuer.retire()
    issuer.rotate()
    server.jwks, newest = issuer.jwks, issuer.token()
    assert run(tokens.validate(newest, now + 2 * COOL_DOWN))
    with pytest.raises(Refused) as refusal:  # remembered as good until now
        run(tokens.validate(old, now + 2 * COOL_DOWN))
    assert refusal.value.code == "invalid_token"
    assert server.requests == 3


def test_a_withdrawn_key_is_dropped_after_ten_minutes(
    server: KeyServer, issuer: TokenIssuer, run: Callable[[Flow[Any]], Any]
) -> None:
    keys = fetched(server)
    first = run(keys.current(START))
    assert run(keys.current(START + 479)) is first
    issuer.rotate()
    issuer.retire()
    server.jwks = issuer.jwks
    second = run(keys.current(START + 600))
    assert {key.key_id for key in second.keys}.isdisjoint(key.key_id for key in first.keys)


def test_unchanged_keys_remain_the_same_object(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    keys = fetched(server)
    assert run(keys.current(START + 601)) is run(keys.current(START))
    assert run(keys.current(START + 1300)) is run(keys.current(START))


@pytest.mark.parametrize("jump", [-10 * HOUR, 10 * HOUR])
def test_a_clock_that_was_wrong_does_not_freeze_the_keys(
    jump: float, server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    keys = fetched(server)
    run(keys.current(START))
    run(keys.current(START + jump))
    assert server.requests == 2


def test_keys_are_renewed_in_the_background_before_they_are_old(server: KeyServer) -> None:
    """Nobody waits for a slow server while the keys are good, and the next asker has the new ones."""
    driver, keys = BlockingDriver(), fetched(server)
    old = driver.run(keys.current(START))
    other = TokenIssuer()
    server.jwks = other.jwks
    assert driver.run(keys.current(START + 479)) is old
    assert server.requests == 1
    assert driver.run(keys.current(START + 480)) is old  # begins it, and goes on
    until = time.monotonic() + 5
    while driver.run(keys.current(START + 481)) is old and time.monotonic() < until:
        time.sleep(0.01)
    assert driver.run(keys.current(START + 481)) is not old
    assert server.requests == 2


def test_keys_are_renewed_in_the_background_of_an_event_loop(server: KeyServer) -> None:
    async def renewed() -> None:
        driver, keys = AwaitingDriver(), fetched(server)
        old = await driver.run(keys.current(START))
        server.jwks = TokenIssuer().jwks
        assert await driver.run(keys.current(START + 480)) is old
        for _ in range(500):
            if await driver.run(keys.current(START + 481)) is not old:
                break
            await asyncio.sleep(0.01)
        assert await driver.run(keys.current(START + 481)) is not old
        assert server.requests == 2

    asyncio.run(renewed())


def test_an_outage_in_the_background_is_borne(server: KeyServer) -> None:
    driver, keys = BlockingDriver(), fetched(server)
    good = driver.run(keys.current(START))
    server.behaviour = die
    for late in range(480, 600, 10):
        assert driver.run(keys.current(START + late)) is good
        time.sleep(0.02)
    until(lambda: server.requests >= 2)
    assert server.requests <= 9  # after 0.5, 1, 2, 4, 8, 16 and 30 s at the earliest


@pytest.mark.standard("H14")
def test_keys_of_one_issuer_never_verify_a_token_of_another(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    ours, theirs = TokenIssuer("https://a.test"), TokenIssuer("https://b.test")
    same_id = {"kid": "1"}
    key_sets = [{"keys": [{**each.jwks["keys"][0], **same_id}]} for each in (ours, theirs)]
    with KeyServer(key_sets[0]) as first, KeyServer(key_sets[1]) as second:
        apps = [protected(stack, issuer, server) for issuer, server in ((ours, first), (theirs, second))]
        for signer in (ours, theirs):
            for app, claimed in zip(apps, (ours, theirs), strict=True):
                text = signer.token(certificate=mtls_client, headers=same_id, claims={"iss": claimed.issuer})
                outcome = app.request(f"Bearer {text}", certificate=mtls_client)
                assert outcome.status == (200 if signer is claimed else 401)
