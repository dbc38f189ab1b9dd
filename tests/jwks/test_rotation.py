"""Keys come and go under load: no valid token is refused, and those of a key that is gone are (A63)."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from mtls_middleware import Refused
from mtls_middleware.effects import AwaitingDriver, BlockingDriver
from mtls_middleware.fetched import COOL_DOWN
from mtls_middleware.testing import TokenIssuer
from tests.jwks.fetching import at_once, fetching
from tests.key_server import KeyServer, die, until


@pytest.mark.parametrize("broken", [False, True])
def test_whoever_comes_with_the_new_key_during_a_rotation_waits_for_it(
    broken: bool, issuer: TokenIssuer, server: KeyServer
) -> None:
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


def test_whoever_comes_with_the_new_key_during_a_rotation_waits_for_it_in_tasks_too(
    issuer: TokenIssuer, server: KeyServer
) -> None:
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


def test_old_keys_serve_the_others_while_one_fetches_anew(issuer: TokenIssuer, server: KeyServer) -> None:
    tokens, driver = fetching(issuer, server), BlockingDriver()
    text, later = issuer.token(lifetime=timedelta(hours=1)), time.time() + 700
    driver.run(tokens.validate(text, time.time()))
    server.stall = 1.0
    first = threading.Thread(target=lambda: driver.run(tokens.validate(text, later)))
    first.start()
    until(lambda: server.requests == 2)
    begun = time.monotonic()
    assert driver.run(tokens.validate(text, later))
    assert time.monotonic() - begun < 0.5
    server.stall = 0
    first.join()
