"""Many who want the keys of one issuer at the same time: one document, one key set, and nobody waits in vain."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.effects.remote_document import COOL_DOWN
from mtls_middleware.testing import IssuedCertificate
from tests.jwks.key_sources import at_once
from tests.jwks.load import Load
from tests.key_server import gated, until
from tests.resource_server.discovery import ServedDocument
from tests.resource_server.stack import ASGIStack

LONG = timedelta(hours=2)


@pytest.mark.case("127")
@pytest.mark.parametrize("stall", [0.0, 0.1])
def test_fifty_threads_share_one_document_and_one_key_set(stall: float, site: ServedDocument) -> None:
    site.server.stall = stall
    tokens, driver = site.tokens(), BlockingDriver()
    text = site.issuer.token()
    found = at_once(50, lambda _: driver.run(tokens.validate(text, time.time())))
    assert {each.subject for each in found} == {"user"}
    assert site.server.asked == [site.path, "/jwks"]


@pytest.mark.case("127")
@pytest.mark.parametrize("stall", [0.0, 0.1])
def test_five_hundred_tasks_share_one_document_and_one_key_set(
    stall: float, site: ServedDocument, mtls_client: IssuedCertificate
) -> None:
    site.server.stall = stall
    app = ASGIStack(site.tokens())
    authorization = f"Bearer {site.issuer.token(certificate=mtls_client)}"

    async def gather_all() -> list[int]:
        asked = [app.asked(authorization, certificate=mtls_client) for _ in range(500)]
        return [each.status for each in await asyncio.gather(*asked)]

    assert asyncio.run(gather_all()) == [200] * 500
    assert site.server.asked == [site.path, "/jwks"]


@pytest.mark.parametrize("age", [480, 600])
def test_only_one_request_waits_for_a_slow_document(age: float, site: ServedDocument) -> None:
    tokens, driver, gate, now = site.tokens(), BlockingDriver(), threading.Event(), time.time()
    driver.run(tokens.validate(site.issuer.token(), now))
    site.server.behaviours[site.path] = gated(gate)

    def later() -> str | None:
        return driver.run(tokens.validate(site.issuer.token(lifetime=LONG), now + age)).subject

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(later)
        until(lambda: site.counts[0] == 2)
        assert [later() for _ in range(20)] == ["user"] * 20
        assert first.done() or age == 600  # ahead of ten minutes not even the first one waits
        assert site.counts[0] == 2
        gate.set()
        assert first.result() == "user"


def test_a_request_with_a_new_key_id_waits_for_the_document(site: ServedDocument) -> None:
    tokens, driver, gate, now = site.tokens(), BlockingDriver(), threading.Event(), time.time()
    driver.run(tokens.validate(site.issuer.token(), now))
    known = site.issuer.token(lifetime=LONG)
    former = site.issuer.jwks
    site.issuer.rotate()
    site.publish(jwks_uri=f"{site.server.host}/new")
    site.server.documents["/jwks"] = former
    site.server.behaviours[site.path] = gated(gate)
    text = site.issuer.token(lifetime=LONG)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(lambda: driver.run(tokens.validate(text, now + 600)))
        until(lambda: site.counts[0] == 2)
        others = [pool.submit(lambda: driver.run(tokens.validate(text, now + 600.1))) for _ in range(4)]
        assert driver.run(tokens.validate(known, now + 600.2)).subject == "user"
        time.sleep(0.05)
        gate.set()
        assert {each.result().subject for each in (first, *others)} == {"user"}
    assert site.server.asked.count("/new") == 1


@pytest.mark.case("127")
def test_a_moved_jwks_uri_rejects_no_valid_token_under_load(
    site: ServedDocument,
) -> None:
    """The document is published ten minutes before the new key signs: so long it may be remembered."""
    with Load(site.tokens(), site.issuer.token(lifetime=LONG), clients=4) as load:
        begun = load.now
        for number in range(2):
            old = load.text
            site.issuer.rotate()
            site.publish(jwks_uri=f"{site.server.host}/jwks/{number}")
            load.passes(600)
            load.show(site.issuer.token(lifetime=LONG))
            assert load.judged(old) == "good"
            site.issuer.retire()
            site.publish(jwks_uri=f"{site.server.host}/jwks/{number}")
            load.passes(600)
            until(lambda: load.judged(old) == "invalid_token")  # noqa: B023 (called at once)
        assert load.refused == []
        spells = (load.now - begun) / COOL_DOWN
        assert {f"/jwks/{number}" for number in range(2)} < set(site.server.asked)
        for path in set(site.server.asked):
            assert site.server.asked.count(path) <= 1 + spells
