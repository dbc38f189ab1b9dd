"""An introspection server that fails, and many who ask it at once."""

import asyncio
import logging
import signal
import socket
import threading
import time
from typing import Any

import pytest

from mtls_middleware.effects.flow import AwaitingDriver
from mtls_middleware.errors import Unavailable
from mtls_middleware.resource_server import IntrospectedAccessTokens, MemoryAnswers
from mtls_middleware.testing import IssuedCertificate
from tests.introspection_server import (
    CLIENT_ID,
    CLIENT_SECRET,
    Behaviour,
    IntrospectionServer,
    endless,
    moved,
    says,
    send,
    truthful,
)
from tests.key_server import die, raw, until
from tests.resource_server.introspection import BEARER, TOKEN, active, asking, validate
from tests.resource_server.stack import ASGIStack, Stack

# --- a server that fails ---


def status(code: int) -> Behaviour:
    return lambda handler: send(handler, code, b'{"active": true}' if code != 204 else b"")


GOOD = b'{"active": true}'
FAULTS: dict[str, Behaviour] = {
    "html": says(GOOD, "text/html"),
    "no type": says(GOOD, ""),
    "a signed answer": says(GOOD, "application/token-introspection+jwt"),
    "garbage": says(b"\xff\xfe{}"),
    "a list": says([{"active": True}]),
    "a text": says("active"),
    "nothing": says(b""),
    "half": says(b'{"active": true'),
    "two": says(b'{"active": true}{"active": true}'),
    "a name twice": says(b'{"active": false, "active": true}'),
    "NaN": says(b'{"active": true, "exp": NaN}'),
    "deep": says(b'{"active": true, "a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "UTF-16": says(GOOD.decode().encode("utf-16")),
    "no HTTP": raw(b"active: true\r\n\r\n"),
    "cut off": raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n" + GOOD),
    "too much": endless,
    "redirect": moved,
    "dead": die,
    **{str(code): status(code) for code in (201, 204, 302, 400, 401, 403, 404, 405, 429, 500, 502, 503)},
}


@pytest.mark.case("133")
@pytest.mark.standard("F2", "F17", "A22")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_is_503_and_never_a_verdict(
    server: IntrospectionServer,
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.behaviour = FAULTS[fault]
    outcome = stack(asking(server), binding="when_present").request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.reached, outcome.challenge) == (503, False, None)
    assert int(outcome.header("Retry-After") or 0) >= 1
    assert any(each.name == "mtls_middleware.introspection" and each.levelname == "ERROR" for each in caplog.records)
    assert TOKEN not in caplog.text
    assert "s3cret" not in caplog.text
    assert TOKEN.encode() not in outcome.body


@pytest.mark.standard("F17")
@pytest.mark.parametrize("fault", ["stalls", "drips"])
def test_a_server_that_is_slow_is_503_within_the_time_and_is_asked_once(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate, fault: str
) -> None:
    if fault == "stalls":
        server.stall = 30
    else:
        server.behaviour = raw(b"HTTP/1.1 200 OK\r\n", *[b"X-Slow: 1\r\n"] * 100, pause=0.1)
    start = time.monotonic()
    outcome = stack(asking(server, timeout=0.5)).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.reached) == (503, False)
    assert time.monotonic() - start < 5
    assert len(server.questions) == 1


def test_what_the_operator_is_to_change_is_in_the_log(
    server: IntrospectionServer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Unavailable):
        validate(asking(server, client_secret="an old one"))
    assert "check client_id, and client_secret" in caplog.text
    server.behaviour = status(403)
    with pytest.raises(Unavailable):
        validate(asking(server))
    assert "does not allow this client to introspect" in caplog.text


def test_a_connection_that_breaks_is_tried_once_more(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    server.behaviours = [die]
    layers = stack(asking(server))
    assert layers.request(BEARER, certificate=mtls_client).status == 200
    assert len(server.questions) == 2
    server.behaviours = [die, die]
    assert layers.request(BEARER, certificate=mtls_client).status == 503
    assert len(server.questions) == 4


def test_an_unreachable_introspection_server_is_503(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        tokens = IntrospectedAccessTokens(
            endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}/",
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            allow_http=True,
        )
        assert stack(tokens).request(BEARER, certificate=mtls_client).status == 503


# --- many at once ---


@pytest.mark.parametrize("cached", [False, True])
def test_fifty_threads_share_one_introspection_if_responses_are_cached(
    server: IntrospectionServer, mtls_client: IssuedCertificate, cached: bool
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    server.stall = 0.3
    tokens = asking(server, cache=MemoryAnswers() if cached else None)
    found: list[str] = []
    barrier = threading.Barrier(50)

    def single_request() -> None:
        barrier.wait()
        found.append(validate(tokens).subject)

    threads = [threading.Thread(target=single_request) for _ in range(50)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == ["user"] * 50
    assert len(server.questions) == (1 if cached else 50)


# --- a caller that is cancelled ---


class Cancelled(BaseException):
    """Raised by the handler of a signal, as gunicorn does to end a request."""


def _raise(*_: object) -> None:
    raise Cancelled


def held(release: threading.Event, behave: Behaviour = truthful) -> Behaviour:
    """Respond after the release."""

    def wait_and_respond(handler: Any) -> None:
        release.wait(30)
        behave(handler)

    return wait_and_respond


def outcome_of(tokens: IntrospectedAccessTokens) -> str:
    try:
        return str(validate(tokens).subject)
    except Unavailable:
        return "unavailable"


def waiting(tokens: IntrospectedAccessTokens) -> int:
    return sum(each.callers for each in list(tokens._exchanges._exchanges.values()))


def cancelled_thread(
    server: IntrospectionServer, tokens: IntrospectedAccessTokens, release: threading.Event
) -> list[str]:
    """Let the main thread introspect first, and two other threads join it. Then interrupt the main thread."""
    found: list[str] = []
    others = [threading.Thread(target=lambda: found.append(outcome_of(tokens))) for _ in range(2)]

    def join_and_interrupt() -> None:
        until(lambda: len(server.questions) == 1)
        for each in others:
            each.start()
        until(lambda: waiting(tokens) == 3)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, _raise)
    try:
        threading.Thread(target=join_and_interrupt).start()
        with pytest.raises(Cancelled):
            validate(tokens)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert waiting(tokens) == 2
    release.set()
    for each in others:
        each.join()
    return found


def cancelled_task(
    server: IntrospectionServer, tokens: IntrospectedAccessTokens, release: threading.Event
) -> list[str]:
    """Let a task introspect first, and two other tasks join it. Then cancel the first task."""

    async def single_request() -> str:
        try:
            return str((await AwaitingDriver().run(tokens.validate(TOKEN, time.time()))).subject)
        except Unavailable:
            return "unavailable"

    async def three() -> list[str]:
        first, *others = [asyncio.create_task(single_request()) for _ in range(3)]
        while waiting(tokens) < 3 or len(server.questions) < 1:  # noqa: ASYNC110 (of a server in another thread)
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert waiting(tokens) == 2
        release.set()
        return await asyncio.gather(*others)

    return asyncio.run(three())


BOTH = {"threads": cancelled_thread, "tasks": cancelled_task}


@pytest.mark.parametrize("kind", BOTH)
def test_the_response_is_used_and_cached_without_its_first_caller(server: IntrospectionServer, kind: str) -> None:
    release = threading.Event()
    server.tokens, server.behaviours = {TOKEN: active()}, [held(release)]
    tokens = asking(server, cache=MemoryAnswers(), timeout=60)
    assert BOTH[kind](server, tokens, release) == ["user", "user"]
    assert outcome_of(tokens) == "user"
    assert len(server.questions) == 1
    assert waiting(tokens) == 0


@pytest.mark.parametrize("kind", BOTH)
def test_a_failure_reaches_the_callers_that_remain(server: IntrospectionServer, kind: str) -> None:
    release = threading.Event()
    server.tokens, server.behaviours = {TOKEN: active()}, [held(release, status(500))]
    tokens = asking(server, cache=MemoryAnswers(), timeout=60)
    assert BOTH[kind](server, tokens, release) == ["unavailable", "unavailable"]
    assert outcome_of(tokens) == "user"  # a new exchange
    assert len(server.questions) == 2
    assert waiting(tokens) == 0


def test_a_caller_that_may_not_wait_leaves_the_exchange_to_the_others(server: IntrospectionServer) -> None:
    release, found = threading.Event(), []
    server.tokens, server.behaviours = {TOKEN: active()}, [held(release)]
    tokens = asking(server, cache=MemoryAnswers(), timeout=60, max_waiting=3)
    threads = [threading.Thread(target=lambda: found.append(outcome_of(tokens))) for _ in range(2)]
    for each in threads:
        each.start()
    until(lambda: waiting(tokens) == 2)
    assert outcome_of(tokens) == "unavailable"  # one client may use half of max_waiting
    assert waiting(tokens) == 2
    release.set()
    for each in threads:
        each.join()
    assert found == ["user", "user"]


def test_a_shared_response_is_cached_with_the_time_of_its_request(server: IntrospectionServer) -> None:
    release, driver = threading.Event(), AwaitingDriver()
    server.tokens, server.behaviours = {TOKEN: active(exp=...)}, [held(release)]
    tokens = asking(server, cache=MemoryAnswers(), timeout=60, remember_active=30)

    async def two() -> None:
        first, second = (asyncio.create_task(driver.run(tokens.validate(TOKEN, now))) for now in (1_000.0, 1_020.0))
        while waiting(tokens) < 2:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0.01)
        first.cancel()
        release.set()
        await second

    asyncio.run(two())
    validate(tokens, now=1_029.0)
    assert len(server.questions) == 1
    validate(tokens, now=1_031.0)
    assert len(server.questions) == 2


def test_an_asker_that_goes_away_takes_nothing_from_the_others(
    server: IntrospectionServer, mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    server.stall = 0.3
    layers = ASGIStack(asking(server, cache=MemoryAnswers()))

    async def two() -> int:
        first = asyncio.create_task(layers.asked(BEARER, certificate=mtls_client))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(layers.asked(BEARER, certificate=mtls_client))
        await asyncio.sleep(0.05)
        first.cancel()
        return (await second).status

    assert asyncio.run(two()) == 200
