"""What expires and is revoked: how long the list knows it, and how an open websocket ends. On a real Redis."""

import asyncio
import secrets
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from mtls_middleware import Refused
from mtls_middleware.asgi import protect
from mtls_middleware.certificate import Verification
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.policy import Presented
from mtls_middleware.revocation import RevocableTokens, poller
from mtls_middleware.revocation.format import units_of
from mtls_middleware.revocation.poller import RevocationListPoller
from mtls_middleware.revocation.write_script import write_script
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import TokenIssuer
from tests.gateways import Request
from tests.key_server import until
from tests.layers.clock import Clock, clock
from tests.layers.test_validity import Layers
from tests.layers.websockets import Echo, Socket
from tests.layers.world import certificates
from tests.redis_server import RedisServer
from tests.revocation.lists import AUTHORITY, BILLING, KEY, SOON, entries, includes, new_list

__all__ = ["clock"]

DAY = 86_400


def test_entry_outlives_every_tolerance(redis_server: RedisServer) -> None:
    """The clock of Redis may be five minutes ahead; clock_skew may be five minutes too."""
    revocations, now = new_list(redis_server), time.time()
    revocations.revoke(thumbprint=BILLING.thumbprint, until=datetime.fromtimestamp(now, UTC))
    with redis_server.client() as client:
        poller = RevocationListPoller(client, KEY)
        poller.poll()
        ((_, score),) = client.zrange(KEY, 0, 10**12, byscore=True, withscores=True)[:1]
    assert [score] == list(entries(poller).values())
    assert score >= now + 300 + 300


@pytest.mark.parametrize(("own", "other"), [(-1, 1), (1, -1), (10**8, -1), (-(10**8), 1), (0, 0)])
def test_a_process_drops_an_entry_only_if_two_clocks_agree(
    redis_server: RedisServer, own: int, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of this process, and that of Redis or of the last writer, in seconds after the end of the entry."""
    monkeypatch.setattr(poller, "_CLEANUP_INTERVAL", 0.0)
    ends = int(time.time()) - 100
    with redis_server.client() as client:
        reader = RevocationListPoller(client, KEY)

        def known_after(number: int, own: int, other: int) -> set[int]:
            """The entries that the process knows after it reads another entry, which does not expire soon."""
            unit = units_of([(bytes([number]) * 32, ends if number == 0 else ends + 10**9)])
            client.eval(write_script(), 1, KEY, "complete", secrets.token_hex(12), unit, ends + other)
            clock = SimpleNamespace(time=lambda: ends + own, monotonic=time.monotonic, sleep=time.sleep)
            monkeypatch.setattr(poller, "time", clock)
            reader.poll()
            return {entry[0] for entry in entries(reader)}

        assert known_after(0, -1, -1) == {0}
        assert known_after(1, own, other) == {0, 1}
        assert known_after(2, 1, 1) == {1, 2}


def test_certificate_that_the_list_has_forgotten_is_not_allowed(redis_server: RedisServer, clock: Clock) -> None:
    """With validity="handshake" nothing else looks at its date."""
    revocations, begun = new_list(redis_server), clock.now
    issued = AUTHORITY.issue(not_after=datetime.fromtimestamp(begun + 1000, UTC))
    wrap = certificates(ServerTLS(), allow=revocations.not_revoked, validity="handshake")
    layers = Layers("asgi", wrap)
    for later, status in ((0, 200), (1000, 200), (1300, 200), (1301, 403), (DAY, 403)):
        clock.now = begun + later
        assert layers.send(Request(tls=issued)).status == status, later


def test_an_expired_certificate_that_is_only_presented_needs_its_entry(redis_server: RedisServer, clock: Clock) -> None:
    """Nobody checks the date of a self-signed certificate, so its entry must stay as long as it is used."""
    revocations, begun = new_list(redis_server), clock.now
    rule = Presented(revocations.not_revoked)
    known, revoked = (AUTHORITY.issue(not_after=datetime.fromtimestamp(begun + 1000, UTC)) for _ in range(2))
    revocations.revoke(thumbprint=revoked.thumbprint, until=datetime.fromtimestamp(begun + 3650 * DAY, UTC))
    until(lambda: not rule.holds(revoked.client_certificate(Verification.PRESENTED)), seconds=20)
    clock.now = begun + DAY
    assert rule.holds(known.client_certificate(Verification.PRESENTED))
    assert not rule.holds(revoked.client_certificate(Verification.PRESENTED))


def test_accepted_token_is_looked_up_again(redis_server: RedisServer, mtls_issuer: TokenIssuer) -> None:
    revocations, now = new_list(redis_server), float(int(time.time()))  # whole: sums with a fraction are rounded
    client = AUTHORITY.issue()
    tokens = RevocableTokens(mtls_issuer.access_tokens(), revocations)
    text = mtls_issuer.token(certificate=client, claims={"exp": now + 1000})
    token = BlockingDriver().run(tokens.validate(text, now))
    tokens.check_later(token, now + 1009)
    tokens.check_certificate_later(token, now + DAY)
    with pytest.raises(Refused, match="expired"):
        tokens.check_later(token, now + 1010)
    revocations.revoke(thumbprint=client.thumbprint, until=SOON)
    until(lambda: includes(revocations, client) is True, seconds=20)
    for check in (tokens.check_later, tokens.check_certificate_later):
        with pytest.raises(Refused, match="certificate"):
            check(token, now)


@pytest.mark.parametrize("what", ["certificate by rule", "certificate by token", "token", "token, not wanted"])
def test_websocket_ends_within_two_seconds_of_a_revocation(
    what: str, redis_server: RedisServer, mtls_issuer: TokenIssuer
) -> None:
    revocations, client = new_list(redis_server), AUTHORITY.issue()
    text = mtls_issuer.token(certificate=client, claims={"jti": "one"})
    options: dict[str, Any] = {"tokens": RevocableTokens(mtls_issuer.access_tokens(), revocations)}
    if what == "certificate by rule":
        options = {"allow": revocations.not_revoked}
    if what == "token":
        options["websocket_lifetime"] = "credentials"
    socket = Socket(client, ("Authorization", f"Bearer {text}"))
    app = protect(Echo(), source=ServerTLS(), **options)

    async def playing() -> float:
        task = asyncio.create_task(app(socket.scope, socket.receive, socket.send))
        await asyncio.sleep(1.5)
        assert socket.types() == ["accept"]
        begun = time.monotonic()
        if "certificate" in what:
            await asyncio.to_thread(revocations.revoke, thumbprint=client.thumbprint, until=SOON)
        else:
            await asyncio.to_thread(revocations.revoke, token_id="one", issuer=mtls_issuer.issuer, until=SOON)
        await asyncio.wait([task], timeout=4)
        ended = time.monotonic() - begun
        socket.given.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await task
        return ended

    ended = asyncio.run(playing())
    if what == "token, not wanted":
        assert socket.types() == ["accept"]
    else:
        assert socket.types() == ["accept", "close"]
        assert ended < 3  # a second until this process knows, and two more


def test_websocket_ends_if_the_list_is_too_old(redis_server: RedisServer) -> None:
    """An outage that answers requests with 503 does not keep websockets open."""
    revocations, client = new_list(redis_server, max_age=1), AUTHORITY.issue()
    socket = Socket(client)
    app = protect(Echo(), source=ServerTLS(), allow=revocations.not_revoked)

    async def playing() -> None:
        task = asyncio.create_task(app(socket.scope, socket.receive, socket.send))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(redis_server.client(socket_timeout=5).delete, KEY)
        await asyncio.wait_for(task, 6)

    asyncio.run(playing())
    assert socket.types() == ["accept", "close"]
