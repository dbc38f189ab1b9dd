"""Keys come and go under load: no valid token is refused, and those of a key that is gone are."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from mtls_middleware import Refused
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver
from mtls_middleware.effects.remote_document import COOL_DOWN
from mtls_middleware.testing import TokenIssuer
from tests.jwks.key_sources import at_once, fetching
from tests.jwks.load import Load
from tests.key_server import KeyServer, die, gated, until


@pytest.mark.parametrize("broken", [False, True])
def test_threads_with_a_new_key_id_wait_for_the_rotation(broken: bool, issuer: TokenIssuer, server: KeyServer) -> None:
    tokens, driver = fetching(issuer, server), BlockingDriver()
    driver.run(tokens.validate(issuer.token(), time.time()))
    issuer.rotate()
    server.jwks, server.stall, server.behaviour = issuer.jwks, 0.2, die if broken else None
    text, later = issuer.token(), time.time() + COOL_DOWN

    def ask(number: int) -> str:
        time.sleep(number * 0.01)
        try:
            return str(driver.run(tokens.validate(text, later)).subject)
        except Refused as refusal:
            return refusal.code

    assert set(at_once(10, ask)) == {"invalid_token" if broken else "user"}
    assert server.requests == 2


def test_tasks_with_a_new_key_id_wait_for_the_rotation(issuer: TokenIssuer, server: KeyServer) -> None:
    tokens, driver = fetching(issuer, server), AwaitingDriver()

    async def ask(text: str, later: float, number: int) -> str | None:
        await asyncio.sleep(number * 0.005)
        found: str | None = (await driver.run(tokens.validate(text, later))).subject
        return found

    async def rotated() -> list[str | None]:
        await driver.run(tokens.validate(issuer.token(), time.time()))
        issuer.rotate()
        server.jwks, server.stall = issuer.jwks, 0.2
        later = time.time() + COOL_DOWN
        return await asyncio.gather(*(ask(issuer.token(), later, number) for number in range(20)))

    assert asyncio.run(rotated()) == ["user"] * 20
    assert server.requests == 2


def test_old_keys_serve_other_requests_during_a_refetch(issuer: TokenIssuer, server: KeyServer) -> None:
    tokens, driver = fetching(issuer, server), BlockingDriver()
    text, later = issuer.token(lifetime=timedelta(hours=1)), time.time() + 700
    driver.run(tokens.validate(text, time.time()))
    server.stall = 60
    first = threading.Thread(target=lambda: driver.run(tokens.validate(text, later)))
    first.start()
    until(lambda: server.requests == 2)
    assert driver.run(tokens.validate(text, later))
    assert first.is_alive()
    server.release()
    first.join()


@pytest.mark.case("127")
def test_a_rotation_with_published_keys_rejects_no_valid_token_under_load(
    issuer: TokenIssuer, server: KeyServer
) -> None:
    """A cool-down between publishing and signing is enough; what a withdrawn key signed ends within ten minutes."""
    long = timedelta(hours=2)
    server.stall = 0.01
    with Load(fetching(issuer, server), issuer.token(lifetime=long)) as load:
        for _ in range(3):
            old = load.text
            issuer.rotate()
            server.jwks = issuer.jwks
            load.passes(COOL_DOWN)
            load.show(issuer.token(lifetime=long))
            assert load.judged(old) == "good"
            issuer.retire()
            server.jwks = issuer.jwks
            load.passes(600)
            until(lambda: load.judged(old) == "invalid_token")  # noqa: B023 (called at once)
    assert load.refused == []
    assert 1 + 3 * 2 <= server.requests <= 1 + 3 * (COOL_DOWN + 600) / COOL_DOWN  # one per cool-down at most


@pytest.mark.case("127")
def test_threads_with_a_known_key_do_not_wait_for_unknown_ones(issuer: TokenIssuer, server: KeyServer) -> None:
    tokens, driver, gate = fetching(issuer, server), BlockingDriver(), threading.Event()
    later = time.time() + COOL_DOWN + 1
    driver.run(tokens.validate(issuer.token(), time.time()))
    server.behaviour = gated(gate)

    def flood(number: int) -> str:
        with pytest.raises(Refused) as refusal:
            driver.run(tokens.validate(issuer.token(headers={"kid": str(number)}), later))
        return refusal.value.code

    with ThreadPoolExecutor(20) as pool:
        unknown = [pool.submit(flood, number) for number in range(20)]
        until(lambda: server.requests == 2)
        for _ in range(50):
            assert driver.run(tokens.validate(issuer.token(), later)).subject == "user"
        assert not any(each.done() for each in unknown)
        gate.set()
        assert {each.result() for each in unknown} == {"invalid_token"}
    assert server.requests == 2


@pytest.mark.case("127")
def test_tasks_with_a_known_key_do_not_wait_for_unknown_ones(issuer: TokenIssuer, server: KeyServer) -> None:
    tokens, driver, gate = fetching(issuer, server), AwaitingDriver(), threading.Event()
    later = time.time() + COOL_DOWN + 1

    async def flooded() -> list[Any]:
        await driver.run(tokens.validate(issuer.token(), time.time()))
        server.behaviour = gated(gate)
        texts = [issuer.token(headers={"kid": str(number)}) for number in range(100)]
        unknown = [asyncio.ensure_future(driver.run(tokens.validate(each, later))) for each in texts]
        await asyncio.sleep(0.01)
        for _ in range(50):
            assert (await driver.run(tokens.validate(issuer.token(), later))).subject == "user"
        assert not any(each.done() for each in unknown)
        gate.set()
        return await asyncio.gather(*unknown, return_exceptions=True)

    assert {getattr(each, "code", each) for each in asyncio.run(flooded())} == {"invalid_token"}
    assert server.requests == 2


def test_no_key_is_fetched_for_a_token_that_its_claims_rule_out(issuer: TokenIssuer, server: KeyServer) -> None:
    tokens, driver = fetching(issuer, server), BlockingDriver()
    driver.run(tokens.validate(issuer.token(), time.time()))
    for options in ({"lifetime": timedelta(hours=-1)}, {"claims": {"iss": "https://other.test"}}):
        text = issuer.token(headers={"kid": "unknown"}, **options)
        with pytest.raises(Refused):
            driver.run(tokens.validate(text, time.time() + COOL_DOWN))
    assert server.requests == 1
