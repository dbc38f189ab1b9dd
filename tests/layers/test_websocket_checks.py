"""The checks of an open websocket: each layer's own, the proxy's certificate, and checks that are slow or that fail."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mtls_middleware import Refused, client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware, protect
from mtls_middleware.effects.flow import Call, ask
from mtls_middleware.policy import Thumbprint
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.layers.clock import Clock, clock
from tests.layers.websockets import (
    LIFETIME,
    Echo,
    Revoked,
    Socket,
    client,
    closings,
    expire,
    hang_up,
    often,
    play,
    text,
)

__all__ = ["client", "clock", "often"]


def lasting(ca: CertificateAuthority, clock: Clock, lifetime: float = LIFETIME * 100) -> IssuedCertificate:
    return ca.issue("CN=proxy", not_after=datetime.fromtimestamp(clock.now + lifetime, UTC))


# Names that an outer layer of another source does not keep from the inner one.
NAMES = {"certificate_header": "AcmeClientCert", "verify_header": "AcmeClientVerify"}


def behind(proxy: IssuedCertificate, client: IssuedCertificate) -> Socket:
    """A websocket of this client, over the connection of a proxy that has a certificate of its own."""
    return Socket(proxy, *zip(NAMES.values(), client.as_nginx().values(), strict=True))


def between(app: Any) -> Any:
    """Something that keeps two layers apart, so that they are two gateways."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        await app(dict(scope), receive, send)

    return called


# Two layers with two certificates: the outer one's is the proxy's


@pytest.mark.parametrize("apart", [False, True], ids=["adjacent", "apart"])
@pytest.mark.parametrize("first", ["outer", "inner"])
def test_each_layer_checks_the_certificate_that_it_found(
    first: str, apart: bool, clock: Clock, mtls_ca: CertificateAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ends = {each: lasting(mtls_ca, clock, LIFETIME if each == first else LIFETIME * 100) for each in ("outer", "inner")}
    socket = behind(ends["outer"], ends["inner"])
    source = Nginx(shared_secret=("AcmeSecret", "x" * 32), **NAMES)
    socket.scope["headers"].append((b"acmesecret", b"x" * 32))
    inner = ClientCertificateMiddleware(Echo(), source)
    app = ClientCertificateMiddleware(between(inner) if apart else inner, ServerTLS())
    play(app, socket, text(socket, "one"), expire(clock))
    assert socket.types() == ["accept", "send", "close"]
    assert closings(caplog)[0]["evidence"][0].startswith(ends[first].thumbprint)


@pytest.mark.parametrize("apart", [False, True], ids=["adjacent", "apart"])
def test_rule_of_a_layer_is_asked_about_its_own_certificate(
    apart: bool, client: IssuedCertificate, clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    proxy, revoked, seen = lasting(mtls_ca, clock), Revoked(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(client_certificate(scope))
        await Echo()(scope, receive, send)

    socket = behind(proxy, client)
    inner = ClientCertificateMiddleware(app, Nginx(proxy_certificate=lambda _: True, **NAMES), required=True)
    rule = Thumbprint(proxy.thumbprint) & revoked
    outer = ClientCertificateMiddleware(between(inner) if apart else inner, ServerTLS(), allow=rule)

    def still_open() -> None:
        assert socket.types() == ["accept", "send"]
        assert seen == [client.client_certificate()]

    play(outer, socket, text(socket, "one"), still_open, revoked.becomes(True))
    assert socket.types() == ["accept", "send", "close"]


@pytest.mark.parametrize("outer", ["certificate", "connection"])
@pytest.mark.parametrize("inner", ["certificate", "connection"])
@pytest.mark.parametrize("apart", [False, True], ids=["adjacent", "apart"])
def test_shorter_of_two_lifetimes_counts(
    outer: Any, inner: Any, apart: bool, client: IssuedCertificate, clock: Clock
) -> None:
    socket = Socket(client)
    within = ClientCertificateMiddleware(Echo(), ServerTLS(), websocket_lifetime=inner)
    app = ClientCertificateMiddleware(between(within) if apart else within, ServerTLS(), websocket_lifetime=outer)
    play(app, socket, expire(clock), hang_up(socket))
    assert socket.types() == (["accept"] if (outer, inner) == ("connection", "connection") else ["accept", "close"])


@pytest.mark.parametrize("skews", [(0, 300), (300, 0)])
def test_smaller_of_two_tolerances_counts(skews: tuple[int, int], client: IssuedCertificate, clock: Clock) -> None:
    socket = Socket(client)

    def just_past() -> None:
        clock.now += LIFETIME + 1

    within = ClientCertificateMiddleware(Echo(), ServerTLS(), clock_skew=skews[1])
    play(ClientCertificateMiddleware(within, ServerTLS(), clock_skew=skews[0]), socket, just_past)
    assert socket.types() == ["accept", "close"]


def test_application_that_a_dispatcher_tries_next_is_watched_too(client: IssuedCertificate, clock: Clock) -> None:
    async def not_mine(_scope: Any, _receive: Any, _send: Any) -> None:
        return None

    first, second = protect(not_mine, source=ServerTLS()), protect(Echo(), source=ServerTLS())

    async def dispatcher(scope: Any, receive: Any, send: Any) -> None:
        await first(scope, receive, send)
        await second(scope, receive, send)

    socket = Socket(client)
    play(dispatcher, socket, text(socket, "one"), expire(clock))
    assert socket.types() == ["accept", "send", "close"]


# The proxy's own certificate

ROWS = [
    ({}, "expires", "close"),
    ({}, "is revoked", "close"),
    ({"validity": "handshake"}, "expires", None),
    ({"validity": "handshake"}, "is revoked", "close"),
    ({"websocket_lifetime": "connection"}, "expires", None),
    ({"websocket_lifetime": "connection"}, "is revoked", None),
    ({"clock_skew": 300}, "expires", None),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_websocket_ends_with_the_proxys_own_certificate(
    row: tuple[dict[str, Any], str, str | None],
    clock: Clock,
    mtls_ca: CertificateAuthority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    options, event, end = row
    proxy, revoked = lasting(mtls_ca, clock, LIFETIME), Revoked()
    source = Nginx(proxy_certificate=Thumbprint(proxy.thumbprint) & revoked, **NAMES)
    socket = behind(proxy, lasting(mtls_ca, clock))
    app = ClientCertificateMiddleware(Echo(), source, required=True, **options)
    change = expire(clock) if event == "expires" else revoked.becomes(True)
    play(app, socket, text(socket, "one"), change, text(socket, "two"), hang_up(socket))
    assert socket.types() == ["accept", "send", "close" if end else "send"]
    if end:
        assert "the proxy's own certificate" in closings(caplog)[0]["evidence"][0]


def test_proxys_certificate_is_no_matter_if_no_certificate_came_from_it(
    clock: Clock, mtls_ca: CertificateAuthority
) -> None:
    proxy = lasting(mtls_ca, clock, LIFETIME)
    socket = Socket(proxy)
    app = ClientCertificateMiddleware(Echo(), Nginx(proxy_certificate=Thumbprint(proxy.thumbprint)))
    play(app, socket, expire(clock), text(socket, "one"), hang_up(socket))
    assert socket.types() == ["accept", "send"]


# Checks that take long


class Slow:
    """A trust store whose validation needs I/O once the websocket is open, until it is told how it ends."""

    def __init__(self) -> None:
        self.opened = False
        self.calls: list[asyncio.Future[None]] = []

    def validate(self, certificate: Any, _now: float) -> Any:
        if self.opened:
            yield from ask(Call(self._look, ()))
        self.opened = True
        return certificate

    async def _look(self) -> None:
        self.calls.append(asyncio.get_running_loop().create_future())
        await self.calls[-1]

    def say(self, failure: Exception | None) -> Callable[[], None]:
        def step() -> None:
            call = self.calls[-1]
            if failure is None:
                call.set_result(None)
            else:
                call.set_exception(failure)

        return step


def test_slow_check_does_not_hold_up_that_of_another_layer(client: IssuedCertificate) -> None:
    stuck, quick, socket = Slow(), Slow(), Socket(client)
    inner = ClientCertificateMiddleware(Echo(), ServerTLS(), trust_store=quick)
    app = ClientCertificateMiddleware(inner, ServerTLS(), trust_store=stuck)
    play(app, socket, lambda: None, quick.say(Refused("client_certificate_refused", "revoked meanwhile")))
    assert socket.types() == ["accept", "close"]
    assert stuck.calls[0].cancelled()


@pytest.mark.parametrize("event", ["expires", "is revoked"])
def test_slow_store_does_not_hold_up_the_end_of_the_certificate(
    event: str, client: IssuedCertificate, clock: Clock
) -> None:
    revoked, stuck, socket = Revoked(), Slow(), Socket(client)
    app = ClientCertificateMiddleware(Echo(), ServerTLS(), trust_store=stuck, allow=revoked)
    change = expire(clock) if event == "expires" else revoked.becomes(True)
    play(app, socket, lambda: None, change)
    assert socket.types() == ["accept", "close"]
    assert len(stuck.calls) == 1


def test_check_that_never_ends_closes_the_websocket(
    client: IssuedCertificate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mtls_middleware.asgi_websocket._CHECK_TIMEOUT", 0.1)
    caplog.set_level(logging.INFO)
    socket = Socket(client)
    play(ClientCertificateMiddleware(Echo(), ServerTLS(), trust_store=Slow()), socket)
    assert socket.types() == ["accept", "close"]
    assert [each["code"] for each in closings(caplog)] == ["temporarily_unavailable"]


# Checks that fail, and logs that fail


def test_cancelled_check_closes_the_websocket(client: IssuedCertificate) -> None:
    """It is no `Exception`: it must not end the timer and leave the websocket open."""
    store, socket = Slow(), Socket(client)

    def cancel() -> None:
        store.calls[-1].cancel()

    play(ClientCertificateMiddleware(Echo(), ServerTLS(), trust_store=store), socket, lambda: None, cancel)
    assert socket.types() == ["accept", "close"]


def test_rule_that_raises_a_cancellation_closes_the_websocket(client: IssuedCertificate) -> None:
    cancelled: list[int] = []

    def rule(_certificate: Any) -> bool:
        if cancelled:
            raise asyncio.CancelledError
        return True

    socket = Socket(client)
    play(protect(Echo(), source=ServerTLS(), allow=rule), socket, lambda: cancelled.append(1))
    assert socket.types() == ["accept", "close"]


def test_log_that_fails_does_not_keep_the_websocket_open(
    client: IssuedCertificate, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("mtls_middleware.asgi_websocket.record_closed", fail)
    socket, echo = Socket(client), Echo()
    play(protect(echo, source=ServerTLS()), socket, expire(clock))
    assert socket.types() == ["accept", "close"]
    assert echo.received[-1]["type"] == "websocket.disconnect"


@pytest.mark.parametrize("last", ["websocket.close", "websocket.http.response.start"])
def test_close_that_the_server_rejects_leaves_the_websocket_watched(
    last: str, client: IssuedCertificate, clock: Clock
) -> None:
    """An application may send a code that the server rejects, catch the error, and go on."""
    socket = Socket(client)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(ValueError, match="code"):
            await send({"type": last, "code": 99999, "status": 99999})
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": "still here"})

    async def picky(message: Any) -> None:
        if message.get("code") == 99999:
            raise ValueError("no such code")
        await socket.send(message)

    async def playing() -> None:
        task = asyncio.create_task(protect(app, source=ServerTLS())(socket.scope, socket.receive, picky))
        await asyncio.sleep(0.05)
        clock.now += LIFETIME * 2
        async with asyncio.timeout(5):
            await task

    asyncio.run(playing())
    assert socket.types() == ["accept", "close"]
