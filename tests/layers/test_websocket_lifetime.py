"""When an open websocket ends: with its certificate, its token, or the connection. In process, by hand."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, Refused, access_token, client_certificate
from mtls_middleware.asgi import CertificateBoundTokenMiddleware, ClientCertificateMiddleware, protect
from mtls_middleware.asgi_websocket import WebsocketWatch
from mtls_middleware.errors import Unavailable
from mtls_middleware.policy import Thumbprint
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.gateways import Request, scope_of
from tests.layers.clock import Clock, clock
from tests.validation.authority import crl

__all__ = ["clock"]

CLOSE = {"type": "websocket.close", "code": 1008, "reason": ""}
DISCONNECT = {"type": "websocket.disconnect", "code": 1008, "reason": ""}
LIFETIME = 1000


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtls_middleware.asgi_websocket._INTERVAL", 0.01)


@pytest.fixture
def client(mtls_ca: CertificateAuthority, clock: Clock) -> IssuedCertificate:
    ends = datetime.fromtimestamp(clock.now + LIFETIME, UTC)
    return mtls_ca.issue("CN=client,O=Tests", not_after=ends)


class Socket:
    """The server's side of one websocket."""

    def __init__(self, client: IssuedCertificate | None, *headers: tuple[str, str]) -> None:
        self.scope = scope_of(Request(tls=client, headers=headers), "websocket")
        self.given: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.given.put_nowait({"type": "websocket.connect"})
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return await self.given.get()

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def types(self) -> list[str]:
        return [each["type"].removeprefix("websocket.") for each in self.sent]


class Echo:
    """Accepts, then echoes until the disconnect; remembers what it received, and may send more after it."""

    def __init__(self, *, after: int = 0) -> None:
        self.received: list[Any] = []
        self._after = after

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        self.received.append(await receive())
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            self.received.append(message)
            await send({"type": "websocket.send", "text": message["text"]})
        self.received.append(message)
        for _ in range(self._after):
            await send({"type": "websocket.send", "text": "too late"})
            self.received.append(await receive())


async def run(app: Any, socket: Socket, *steps: Callable[[], Any]) -> asyncio.Task[Any]:
    """Call the application; make a step each 50 ms while it runs. Everything ends within five seconds, or fails."""
    task = asyncio.create_task(app(socket.scope, socket.receive, socket.send))
    for step in steps:
        await asyncio.sleep(0.05)
        step()
    async with asyncio.timeout(5):
        await asyncio.wait([task])
    return task


def play(app: Any, socket: Socket, *steps: Callable[[], Any]) -> None:
    async def playing() -> None:
        before = asyncio.all_tasks()
        (await run(app, socket, *steps)).result()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        assert not [each for each in asyncio.get_running_loop()._scheduled if not each.cancelled()]

    asyncio.run(playing())


def expire(clock: Clock, skew: float = 60) -> Callable[[], None]:
    def step() -> None:
        clock.now += LIFETIME + skew + 1

    return step


def text(socket: Socket, words: str) -> Callable[[], None]:
    return lambda: socket.given.put_nowait({"type": "websocket.receive", "text": words})


def hang_up(socket: Socket) -> Callable[[], None]:
    return lambda: socket.given.put_nowait({"type": "websocket.disconnect", "code": 1000})


def closings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [vars(each)["mtls"] for each in caplog.records if hasattr(each, "mtls")]
    return [each for each in found if each["outcome"] == "closed"]


# The end of the certificate


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


# Revocation


class Revoked:
    """A rule that says what it is told; it may also fail."""

    def __init__(self) -> None:
        self.answer: bool | Exception = False

    def __call__(self, _certificate: Any) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return not self.answer

    def becomes(self, answer: bool | Exception) -> Callable[[], None]:
        return lambda: setattr(self, "answer", answer)


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


# Tokens


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


# Applications of all kinds


def test_close_before_accept_is_a_close_and_the_accept_is_dropped(client: IssuedCertificate, clock: Clock) -> None:
    received: list[Any] = []

    async def slow(_scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.2)
        received.append(await receive())
        await send({"type": "websocket.accept"})
        received.append(await receive())

    socket = Socket(client)
    play(protect(slow, source=ServerTLS()), socket, expire(clock))
    assert socket.sent == [CLOSE]
    assert received == [{"type": "websocket.connect"}, DISCONNECT]


def test_application_that_ignores_the_end_does_not_stop_the_event_loop(client: IssuedCertificate, clock: Clock) -> None:
    turns: list[int] = []

    async def stubborn(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while len(turns) < 10:
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0 if socket.types()[-1] == "close" else 0.001)
        assert (await receive()) == DISCONNECT

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            if socket.types()[-1:] == ["close"]:
                turns.append(1)

    socket = Socket(client)

    async def playing() -> None:
        counting = asyncio.create_task(count())
        (await run(protect(stubborn, source=ServerTLS()), socket, expire(clock))).result()
        counting.cancel()

    asyncio.run(playing())


def test_cancelled_application_leaves_nothing(client: IssuedCertificate, clock: Clock) -> None:
    socket = Socket(client)

    async def playing() -> None:
        before = asyncio.all_tasks()
        task = asyncio.create_task(protect(Echo(), source=ServerTLS())(socket.scope, socket.receive, socket.send))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before
        clock.now += LIFETIME * 2
        await asyncio.sleep(0.05)
        assert socket.types() == ["accept"]

    asyncio.run(playing())


def test_error_of_the_application_comes_out_and_leaves_nothing(client: IssuedCertificate, clock: Clock) -> None:
    async def failing(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        play(protect(failing, source=ServerTLS()), Socket(client))


def test_message_is_not_lost_if_the_application_gives_up_waiting(client: IssuedCertificate, clock: Clock) -> None:
    """Starlette and anyio cancel a receive() and call it again."""
    received: list[Any] = []

    async def impatient(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while len(received) < 20:
            try:
                async with asyncio.timeout(0.001):
                    received.append((await receive())["text"])
            except TimeoutError:
                pass

    socket = Socket(client)

    async def playing() -> None:
        task = asyncio.create_task(protect(impatient, source=ServerTLS())(socket.scope, socket.receive, socket.send))
        for number in range(20):
            await asyncio.sleep(0.0011)
            socket.given.put_nowait({"type": "websocket.receive", "text": str(number)})
        async with asyncio.timeout(5):
            await task

    asyncio.run(playing())
    assert received == [str(number) for number in range(20)]


def test_timeout_of_the_server_is_not_taken_for_the_end(client: IssuedCertificate, clock: Clock) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    socket = Socket(client)
    connect = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        if connect:
            return connect.pop()
        raise TimeoutError("the server's own")

    with pytest.raises(TimeoutError, match="own"):
        asyncio.run(protect(app, source=ServerTLS())(socket.scope, receive, socket.send))


async def outlived(socket: Socket, send: Any, clock: Clock) -> None:
    """A websocket from before its certificate expires until the application has returned."""
    task = asyncio.create_task(protect(Echo(), source=ServerTLS())(socket.scope, socket.receive, send))
    await asyncio.sleep(0.05)
    clock.now += LIFETIME * 2
    async with asyncio.timeout(5):
        await task


def test_closing_a_websocket_of_a_disconnected_client_raises_nothing(client: IssuedCertificate, clock: Clock) -> None:
    socket = Socket(client)

    async def send(message: Any) -> None:
        if message["type"] == "websocket.close":
            raise OSError("gone")
        socket.sent.append(message)

    asyncio.run(outlived(socket, send, clock))


def test_server_that_rejects_the_code_gets_another_one(client: IssuedCertificate, clock: Clock) -> None:
    """daphne's websocket library raises an exception for codes below 3000; the websocket must end all the same."""
    socket = Socket(client)

    async def send(message: Any) -> None:
        if message.get("code") == 1008:
            raise Exception("invalid close code 1008")  # noqa: TRY002 (as autobahn does)
        socket.sent.append(message)

    asyncio.run(outlived(socket, send, clock))
    assert socket.sent == [{"type": "websocket.accept"}, {**CLOSE, "code": 3003}]


@pytest.mark.parametrize("last", ["websocket.close", "websocket.http.response.start"])
def test_websocket_that_the_application_ended_is_checked_no_more(
    last: str, client: IssuedCertificate, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": last, "status": 200})
        clock.now += LIFETIME * 2
        await asyncio.sleep(0.1)  # work of its own
        await send({"type": "websocket.http.response.body", "body": b"all of it"})

    socket = Socket(client)
    play(protect(app, source=ServerTLS()), socket)
    assert len(socket.sent) == 2
    assert not closings(caplog)


def test_streamed_response_is_not_cut(client: IssuedCertificate, clock: Clock) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(5):
            clock.now += LIFETIME
            await asyncio.sleep(0.02)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    socket = Socket(client)
    socket.scope = scope_of(Request(tls=client))
    play(protect(app, source=ServerTLS()), socket)
    assert len(socket.sent) == 7


def watches() -> int:
    return sum(type(each) is WebsocketWatch for each in gc.get_objects())


def test_many_websockets_leave_nothing_in_memory(client: IssuedCertificate, clock: Clock) -> None:
    app, before = protect(Echo(), source=ServerTLS()), watches()

    async def playing() -> None:
        sockets = [Socket(client) for _ in range(200)]
        tasks = [asyncio.create_task(app(each.scope, each.receive, each.send)) for each in sockets]
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 201  # no task of ours
        for each in sockets:
            each.given.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.gather(*tasks)

    asyncio.run(playing())
    gc.collect()
    assert watches() <= before


def test_another_event_loop_checks_at_each_message(client: IssuedCertificate, clock: Clock) -> None:
    """Driven by hand, as trio would: there is no timer, and still nothing passes after the end."""
    socket, echo = Socket(client), Echo(after=1)
    app = protect(echo, source=ServerTLS())
    given: list[Any] = [{"type": "websocket.receive", "text": "secret"}, {"type": "websocket.connect"}]

    async def receive() -> Any:
        if len(given) == 1:
            clock.now += LIFETIME * 2
        return given.pop()

    with pytest.raises(StopIteration):
        app(socket.scope, receive, socket.send).send(None)
    assert socket.types() == ["accept", "close"]
    assert echo.received[1:] == [DISCONNECT, DISCONNECT]


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


# Frameworks


def starlette(received: list[Any]) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocketDisconnect

    async def live(websocket: Any) -> None:
        await websocket.accept()
        try:
            async for words in websocket.iter_text():
                await websocket.send_text(words)
            received.append("end of the iteration")
            await websocket.send_text("too late")
        except (WebSocketDisconnect, RuntimeError) as error:  # pragma: no cover (which it is shows in the assertion)
            received.append(repr(error))

    return Starlette(routes=[WebSocketRoute("/", live)])


def quart(received: list[Any]) -> Any:
    from quart import Quart, websocket

    app = Quart(__name__)

    @app.websocket("/")
    async def live() -> None:
        try:
            while True:
                await websocket.send(await websocket.receive())
        except asyncio.CancelledError:
            received.append("end of the iteration")
            raise

    return app


@pytest.mark.parametrize("make", [starlette, quart])
def test_framework_takes_the_end_as_a_client_that_left(
    make: Callable[[list[Any]], Any], client: IssuedCertificate, clock: Clock
) -> None:
    received: list[Any] = []
    socket = Socket(client)
    socket.scope["headers"] += [(b"host", b"server.test")]
    play(protect(make(received), source=ServerTLS()), socket, text(socket, "one"), expire(clock))
    assert socket.types() == ["accept", "send", "close"]
    assert received == ["end of the iteration"]


def test_application_reads_what_it_was_opened_with(client: IssuedCertificate, clock: Clock) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Awaitable[Any], send: Any) -> None:
        seen.append((client_certificate(scope), access_token(scope)))

    play(protect(app, source=ServerTLS()), Socket(client))
    assert seen == [(client.client_certificate(), None)]
