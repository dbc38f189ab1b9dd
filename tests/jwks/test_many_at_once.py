"""Threads and tasks that want the same keys at the same time: one fetch, and nobody waits in vain."""

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver
from mtls_middleware.errors import Unavailable
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.jwks.key_sources import START, at_once, fetched, fetching
from tests.key_server import KeyServer, die, gated, until
from tests.resource_server.stack import ASGIStack, Stack, WSGIStack


@pytest.mark.case("127")
@pytest.mark.parametrize("stall", [0.0, 0.2])
def test_fifty_threads_share_one_fetch(
    stall: float, issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.stall = stall
    tokens = fetching(issuer, server)
    text, driver = issuer.token(certificate=mtls_client), BlockingDriver()
    found = at_once(50, lambda _: driver.run(tokens.validate(text, time.time())))
    assert {each.subject for each in found} == {"user"}
    assert server.requests == 1


@pytest.mark.case("127")
@pytest.mark.parametrize("stall", [0.0, 0.2])
def test_five_hundred_tasks_share_one_fetch(
    stall: float, issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.stall = stall
    app = ASGIStack(fetching(issuer, server))
    authorization = f"Bearer {issuer.token(certificate=mtls_client)}"

    async def ask(number: int) -> int:
        await asyncio.sleep(number % 10 * 0.005)
        return (await app.asked(authorization, certificate=mtls_client)).status

    async def gather_all() -> list[int]:
        return await asyncio.gather(*(ask(number) for number in range(500)))

    assert asyncio.run(gather_all()) == [200] * 500
    assert server.requests == 1


@pytest.mark.case("128")
def test_the_event_loop_goes_on_while_the_key_server_stalls(
    issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    gate = threading.Event()
    server.behaviour = gated(gate)
    app = ASGIStack(fetching(issuer, server))
    authorization = f"Bearer {issuer.token(certificate=mtls_client)}"

    async def status() -> int:
        waiting = asyncio.ensure_future(app.asked(authorization, certificate=mtls_client))
        await asyncio.to_thread(until, lambda: server.requests == 1)
        assert not waiting.done()
        gate.set()  # without this turn of the event loop, the key server would not answer in time
        return (await waiting).status

    assert asyncio.run(status()) == 200


def test_the_first_asker_may_go_away_while_the_others_wait(issuer: TokenIssuer, server: KeyServer) -> None:
    server.stall = 0.2
    tokens, driver = fetching(issuer, server), AwaitingDriver()
    text = issuer.token()

    async def first_goes() -> list[Any]:
        asked = [asyncio.ensure_future(driver.run(tokens.validate(text, time.time()))) for _ in range(5)]
        await asyncio.sleep(0.05)
        asked[0].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    gone, *others = asyncio.run(first_goes())
    assert isinstance(gone, asyncio.CancelledError)
    assert [each.subject for each in others] == ["user"] * 4
    assert server.requests == 1


def test_when_all_askers_go_away_the_next_one_has_the_answer_all_the_same(
    issuer: TokenIssuer, server: KeyServer
) -> None:
    server.stall = 0.1
    tokens, driver = fetching(issuer, server), AwaitingDriver()
    text = issuer.token()

    async def all_go() -> Any:
        asked = asyncio.ensure_future(driver.run(tokens.validate(text, time.time())))
        await asyncio.sleep(0.03)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return await driver.run(tokens.validate(text, time.time()))

    assert asyncio.run(all_go()).subject == "user"
    assert server.requests == 1


def test_one_validator_serves_both_gateways_and_several_event_loops(
    issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.stall = 0.1
    tokens = fetching(issuer, server)
    stacks: list[Stack] = [WSGIStack(tokens) if number % 2 else ASGIStack(tokens) for number in range(8)]
    authorization = f"Bearer {issuer.token(certificate=mtls_client)}"
    found = at_once(8, lambda number: stacks[number].request(authorization, certificate=mtls_client).status)
    assert found == [200] * 8
    assert server.requests == 1


def test_an_outage_is_logged_once_however_many_wait(
    issuer: TokenIssuer, server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "mtls_middleware.jwks")
    server.stall, server.behaviour = 0.1, die
    keys, driver = fetched(server), BlockingDriver()

    def ask(_: int) -> str:
        try:
            return str(driver.run(keys.current(START)))
        except Unavailable as refusal:
            return refusal.code

    assert set(at_once(10, ask)) == {"temporarily_unavailable"}
    assert server.requests == 1
    assert len(caplog.records) == 1
