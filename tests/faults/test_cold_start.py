"""A process starts while a key server accepts connections and does not respond: who waits, and for how long."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware.resource_server import TrustedIssuers
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.key_server import KeyServer, until
from tests.resource_server.stack import ASGIStack, WSGIStack

# Seconds: more than a request may wait, and less than the timeout of an attempt (5 s).
LIMIT = 4.0


class Issuers:
    """Two issuers: the keys of one are behind `server`, which stalls, and the keys of the other are given."""

    def __init__(self, server: KeyServer, certificate: IssuedCertificate) -> None:
        server.stall = 60
        self.dead, self.other = TokenIssuer("https://dead.test"), TokenIssuer("https://other.test")
        server.jwks = self.dead.jwks
        fetched = self.dead.access_tokens(jwks_uri=server.url, jwks=None, allow_http=True)
        self.tokens = TrustedIssuers([fetched, self.other.access_tokens()])
        self.bearer = {
            name: f"Bearer {issuer.token(certificate=certificate)}"
            for name, issuer in {"dead": self.dead, "other": self.other}.items()
        }


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer({}) as running:
        yield running


@pytest.mark.parametrize("gateway", ["threads", "event loop"])
def test_requests_of_a_dead_issuer_fail_before_the_attempt_ends(
    server: KeyServer, mtls_client: IssuedCertificate, gateway: str
) -> None:
    issuers = Issuers(server, mtls_client)
    found: list[tuple[str, int, bool]] = []

    def note(name: str, status: int, begun: float) -> None:
        found.append((name, status, time.monotonic() - begun < LIMIT))

    names = ["dead", "other"] * 25
    if gateway == "threads":
        stack = WSGIStack(issuers.tokens)

        def single_request(name: str) -> None:
            begun = time.monotonic()
            note(name, stack.request(issuers.bearer[name], certificate=mtls_client).status, begun)

        threads = [threading.Thread(target=single_request, args=(name,)) for name in names]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    else:
        awaiting = ASGIStack(issuers.tokens)

        async def one_async(name: str) -> None:
            begun = time.monotonic()
            outcome = await awaiting.asked(issuers.bearer[name], certificate=mtls_client)
            note(name, outcome.status, begun)

        async def gather_all() -> None:
            await asyncio.gather(*map(one_async, names))

        asyncio.run(gather_all())
    assert Counter(found) == {("dead", 503, True): 25, ("other", 200, True): 25}
    assert server.requests == 1


def test_later_requests_of_a_dead_issuer_wait_for_no_attempt_but_their_own(
    server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    """One thread takes turns between both issuers for some seconds, as a process with one thread does."""
    issuers = Issuers(server, mtls_client)
    stack, seen, longest = WSGIStack(issuers.tokens), Counter[Any](), 0.0
    end = time.monotonic() + 9
    while time.monotonic() < end:
        for name in issuers.bearer:
            begun = time.monotonic()
            seen[name, stack.request(issuers.bearer[name], certificate=mtls_client).status] += 1
            longest = max(longest, time.monotonic() - begun)
        time.sleep(0.01)
    assert set(seen) == {("dead", 503), ("other", 200)}
    assert seen["other", 200] > 20  # of some 900; with one wait of 5 s after another, there are two
    assert longest < LIMIT
    assert server.requests <= 3


def test_a_late_response_of_the_first_attempt_is_used(server: KeyServer, mtls_client: IssuedCertificate) -> None:
    """The attempt goes on after its callers have got 503."""
    issuers = Issuers(server, mtls_client)
    stack = WSGIStack(issuers.tokens)
    assert stack.request(issuers.bearer["dead"], certificate=mtls_client).status == 503
    server.stall = 0
    server.release()
    until(lambda: stack.request(issuers.bearer["dead"], certificate=mtls_client).status == 200)
    assert server.requests == 1
