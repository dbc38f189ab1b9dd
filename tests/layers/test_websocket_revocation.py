"""An open websocket ends when its certificate or its token is revoked, or when its token expires."""

import asyncio
import logging
from typing import Any

import pytest

from mtls_middleware import Refused
from mtls_middleware.asgi import CertificateBoundTokenMiddleware, ClientCertificateMiddleware, protect
from mtls_middleware.errors import Unavailable
from mtls_middleware.policy import Thumbprint
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.layers.clock import Clock, clock
from tests.layers.websockets import (
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
from tests.validation.authority import crl

__all__ = ["client", "clock", "often"]


@pytest.mark.parametrize(
    "row",
    [
        (True, "client_certificate_refused", "WARNING"),
        (Unavailable("the list is too old", retry_after=1), "temporarily_unavailable", "WARNING"),
        (RuntimeError("a bug"), "server_error", "ERROR"),
    ],
)
@pytest.mark.parametrize("by_path", [False, True])
def test_rule_that_no_longer_allows_the_certificate_ends_it(
    row: Any, by_path: bool, client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    answer, code, level = row
    caplog.set_level(logging.INFO)
    rule, socket = Revoked(), Socket(client)
    allow: Any = {"/": Thumbprint(client.thumbprint) & rule} if by_path else rule
    play(protect(Echo(), source=ServerTLS(), allow=allow), socket, rule.becomes(answer))
    assert socket.types() == ["accept", "close"]
    (record,) = closings(caplog)
    assert record["code"] == code
    assert [each.levelname for each in caplog.records if each.message.startswith("closed:")] == [level]
    assert "a bug" not in caplog.text


def test_a_websocket_keeps_the_rule_of_the_path_it_was_opened_on(client: IssuedCertificate, clock: Clock) -> None:
    strict = Revoked()

    async def mounting(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"], scope["path"] = "/private", "/private/other"
        await Echo()(scope, receive, send)

    socket = Socket(client)
    socket.scope["path"] = "/private/live"
    allow = {"/private": strict, "/": Thumbprint(client.thumbprint)}
    play(protect(mounting, source=ServerTLS(), allow=allow), socket, strict.becomes(True))
    assert socket.types() == ["accept", "close"]


def test_certificate_on_a_changed_revocation_list_ends_it(
    clock: Clock, mtls_ca: CertificateAuthority, tmp_path: Any
) -> None:
    client, file = mtls_ca.issue(), tmp_path / "clients.crl"
    file.write_bytes(crl(mtls_ca, [1], now=clock.now))
    store = TrustStore([mtls_ca.certificate], revocation=RevocationLists([file]))

    def revoke() -> None:
        file.write_bytes(crl(mtls_ca, [1, client.x509.serial_number], now=clock.now, number=2))
        clock.now += 2  # files are looked at once a second

    socket = Socket(client)
    play(ClientCertificateMiddleware(Echo(), ServerTLS(), trust_store=store), socket, revoke)
    assert socket.types() == ["accept", "close"]


def test_checks_with_io_do_not_overlap_and_end_with_the_websocket(client: IssuedCertificate) -> None:
    from mtls_middleware.effects.flow import Call, ask

    calls: list[asyncio.Future[None]] = []

    class Slow:
        def validate(self, certificate: Any, _now: float) -> Any:
            if calls or opened:
                future = asyncio.get_running_loop().create_future()

                async def look() -> None:
                    calls.append(future)
                    await future

                yield from ask(Call(look, ()))
            opened.append(1)
            return certificate

    opened: list[int] = []
    socket = Socket(client)
    app = ClientCertificateMiddleware(Echo(), ServerTLS(), trust_store=Slow())
    play(app, socket, lambda: None, lambda: None, hang_up(socket))
    assert len(calls) == 1
    assert calls[0].cancelled()
    assert socket.types() == ["accept"]

    def fail() -> None:
        calls[-1].set_exception(Refused("client_certificate_refused", "revoked meanwhile"))

    calls.clear(), opened.clear()
    socket = Socket(client)
    play(ClientCertificateMiddleware(Echo(), ServerTLS(), trust_store=Slow()), socket, lambda: None, fail)
    assert socket.types() == ["accept", "close"]


class Tokens:
    """A validator of another author."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def validate(self, text: str, now: float) -> Any:
        return self._inner.validate(text, now)


@pytest.mark.parametrize("lifetime", ["certificate", "credentials", "connection"])
@pytest.mark.parametrize("kind", ["ours", "own", "ours by hand", "own by hand"])
def test_websocket_ends_with_its_token_if_this_is_wanted(
    lifetime: Any, kind: str, client: IssuedCertificate, clock: Clock, mtls_issuer: TokenIssuer
) -> None:
    bearer = "Bearer " + mtls_issuer.token(certificate=client, claims={"exp": clock.now + 100})
    tokens: Any = Tokens(mtls_issuer.access_tokens()) if "own" in kind else mtls_issuer.access_tokens()
    socket = Socket(client, ("Authorization", bearer))
    app = protect(Echo(), source=ServerTLS(), tokens=tokens, websocket_lifetime=lifetime)
    if "by hand" in kind:  # two gateways, with something between them
        inner = CertificateBoundTokenMiddleware(Echo(), tokens, websocket_lifetime=lifetime)

        async def between(scope: Any, receive: Any, send: Any) -> None:
            await inner(dict(scope), receive, send)

        app = ClientCertificateMiddleware(between, ServerTLS(), websocket_lifetime=lifetime)

    def later() -> None:
        clock.now += 110

    play(app, socket, later, text(socket, "one"), hang_up(socket))
    assert socket.types() == (["accept", "close"] if lifetime == "credentials" else ["accept", "send"])


def test_leeway_of_the_tokens_holds_for_websockets(
    client: IssuedCertificate, clock: Clock, mtls_issuer: TokenIssuer
) -> None:
    bearer = "Bearer " + mtls_issuer.token(certificate=client, claims={"exp": clock.now + 100})
    socket = Socket(client, ("Authorization", bearer))
    tokens = mtls_issuer.access_tokens(leeway=30)

    def later() -> None:
        clock.now += 129

    def over() -> None:
        assert socket.types() == ["accept"]
        clock.now += 1

    app = protect(Echo(), source=ServerTLS(), tokens=tokens, websocket_lifetime="credentials")
    play(app, socket, later, lambda: None, over)
    assert socket.types() == ["accept", "close"]


def test_two_layers_close_once_and_write_one_record(
    client: IssuedCertificate, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Something stands between them, and the application never receives: neither learns of the other's close by it."""
    caplog.set_level(logging.INFO)

    async def deaf(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(30):
            await asyncio.sleep(0.01)
            await send({"type": "websocket.send", "text": "tick"})

    inner = ClientCertificateMiddleware(deaf, ServerTLS(), required=True)

    async def between(scope: Any, receive: Any, send: Any) -> None:
        await inner(dict(scope), receive, send)

    socket = Socket(client)
    play(ClientCertificateMiddleware(between, ServerTLS()), socket, expire(clock))
    assert socket.types().count("close") == 1
    assert socket.types()[-1] == "close"
    assert len(closings(caplog)) == 1
