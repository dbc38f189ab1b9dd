"""When an open websocket ends: with its certificate, or with the connection."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.asgi import CertificateBoundTokenMiddleware, ClientCertificateMiddleware, protect
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.validation import TrustStore
from tests.layers.clock import Clock, clock
from tests.layers.websockets import (
    CLOSE,
    DISCONNECT,
    LIFETIME,
    Echo,
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


def test_websocket_ends_with_its_certificate(
    client: IssuedCertificate, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    socket, echo = Socket(client), Echo(after=3)
    play(protect(echo, source=ServerTLS()), socket, text(socket, "one"), expire(clock))
    assert socket.types() == ["accept", "send", "close"]
    assert socket.sent[-1] == CLOSE
    assert echo.received[1:] == [{"type": "websocket.receive", "text": "one"}, *[DISCONNECT] * 4]
    (record,) = closings(caplog)
    assert (record["layer"], record["code"], record["seconds"]) == ("certificate", "client_certificate_refused", None)
    assert record["evidence"][1] == "it ended 61 s ago"
    assert (record["thumbprint"], record["path"]) == (client.thumbprint, "/")
    assert record["open_for"] >= LIFETIME


@pytest.mark.parametrize("skew", [0, 300])
def test_tolerance_of_the_layer_holds_for_websockets(skew: int, client: IssuedCertificate, clock: Clock) -> None:
    socket = Socket(client)

    def nearly() -> None:
        clock.now += LIFETIME + skew

    def over() -> None:
        assert socket.types() == ["accept"]
        clock.now += 1

    play(protect(Echo(), source=ServerTLS(), clock_skew=skew), socket, nearly, lambda: None, over)
    assert socket.types() == ["accept", "close"]


@pytest.mark.parametrize("options", [{"websocket_lifetime": "connection"}, {"validity": "handshake"}])
def test_websocket_that_may_outlive_its_certificate_stays(
    options: dict[str, Any], client: IssuedCertificate, clock: Clock
) -> None:
    socket, echo = Socket(client), Echo()
    app = protect(echo, source=ServerTLS(), **options)
    play(app, socket, expire(clock), text(socket, "one"), hang_up(socket))
    assert socket.types() == ["accept", "send"]
    assert echo.received[-1]["code"] == 1000


def test_websocket_without_certificate_stays(clock: Clock) -> None:
    socket = Socket(None)
    app = ClientCertificateMiddleware(Echo(), ServerTLS())
    play(app, socket, expire(clock), text(socket, "one"), hang_up(socket))
    assert socket.types() == ["accept", "send"]


def test_certificate_attached_on_an_exempt_path_ends_it_too(client: IssuedCertificate, clock: Clock) -> None:
    socket = Socket(client)
    play(protect(Echo(), source=ServerTLS(), exempt=["/"]), socket, expire(clock))
    assert socket.types() == ["accept", "close"]


@pytest.mark.parametrize("above", ["intermediate", "root"])
def test_websocket_ends_with_the_validated_path(above: str, clock: Clock) -> None:
    ends = datetime.fromtimestamp(clock.now + LIFETIME, UTC)
    root = CertificateAuthority(**({"not_after": ends} if above == "root" else {}))
    issuing = root.intermediate(**({"not_after": ends} if above == "intermediate" else {}))
    socket = Socket(issuing.issue())
    app = ClientCertificateMiddleware(Echo(), ServerTLS(), trust_store=TrustStore([root.certificate]))
    play(app, socket, expire(clock))
    assert socket.types() == ["accept", "close"]


@pytest.mark.parametrize("lifetime", ["Certificate", "token", None, True, 1, ["certificate"]])
def test_wrong_lifetime_cannot_be_constructed(lifetime: Any, mtls_issuer: TokenIssuer) -> None:
    tokens = mtls_issuer.access_tokens()
    for make in (
        lambda: ClientCertificateMiddleware(Echo(), ServerTLS(), websocket_lifetime=lifetime),
        lambda: CertificateBoundTokenMiddleware(Echo(), tokens, websocket_lifetime=lifetime),
        lambda: protect(Echo(), source=ServerTLS(), websocket_lifetime=lifetime),
    ):
        with pytest.raises(ConfigurationError, match="websocket_lifetime"):
            make()
