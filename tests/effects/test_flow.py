"""Two drivers, one table: whatever a flow does, blocking and awaiting end in the same way."""

import asyncio
import contextlib
import gc
import itertools
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Call, Flow, ask
from tests.key_server import KeyServer, answer, die, raw, until

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def awaited(flow: Flow[Any]) -> Any:
    return asyncio.run(AwaitingDriver().run(flow))


DRIVERS: dict[str, Callable[[Flow[Any]], Any]] = {"blocking": BlockingDriver().run, "awaiting": awaited}


@pytest.fixture(params=DRIVERS.values(), ids=DRIVERS)
def run(request: pytest.FixtureRequest) -> Callable[[Flow[Any]], Any]:
    found: Callable[[Flow[Any]], Any] = request.param
    return found


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer(b"body") as running:
        yield running


def fetch(server: KeyServer, *, timeout: float = 5.0, limit: int = 1000) -> Fetch:
    return Fetch(server.url, TLS, timeout, limit)


# --- the table: a flow over a good and a dead server, and how it ends ---

Log = list[str]
GOOD, DEAD = "good", "dead"


def never_asks(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    yield from ()
    return "at once"


def asks_once(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    response = yield from ask(needs[GOOD])
    return f"{response.status} {response.body!r}"


def asks_twice(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    first = yield from ask(needs[GOOD])
    second = yield from ask(needs[GOOD])
    return f"{first == second}"


def handles_the_failure(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    try:
        yield from ask(needs[DEAD])
    except FetchFailed:
        return "handled"
    return "no failure"


def handles_the_failure_and_asks_on(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    try:
        yield from ask(needs[DEAD])
    except FetchFailed:
        response = yield from ask(needs[GOOD])
    return f"{response.status}"


def lets_the_failure_pass(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    try:
        yield from ask(needs[DEAD])
    finally:
        log.append("closed")
    return "no failure"


def raises_of_its_own(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    yield from ask(needs[GOOD])
    raise LookupError("of its own")


def raises_at_once(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    yield from ()
    raise LookupError("at once")


def turns_the_failure_into_its_own(needs: dict[str, Fetch], log: Log) -> Flow[str]:
    try:
        yield from ask(needs[DEAD])
    except FetchFailed as failure:
        raise LookupError("instead") from failure
    return "no failure"


TABLE: list[tuple[Callable[[dict[str, Fetch], Log], Flow[str]], str | type[Exception], Log]] = [
    (never_asks, "at once", []),
    (asks_once, "200 b'body'", []),
    (asks_twice, "True", []),
    (handles_the_failure, "handled", []),
    (handles_the_failure_and_asks_on, "200", []),
    (lets_the_failure_pass, FetchFailed, ["closed"]),
    (raises_of_its_own, LookupError, []),
    (raises_at_once, LookupError, []),
    (turns_the_failure_into_its_own, LookupError, []),
]


@pytest.mark.parametrize(("flow", "end", "logged"), TABLE, ids=[row[0].__name__ for row in TABLE])
def test_both_drivers_end_a_flow_in_the_same_way(
    run: Callable[[Flow[Any]], Any], flow: Any, end: Any, logged: Log, server: KeyServer
) -> None:
    log: Log = []
    with KeyServer(b"") as dead:
        dead.behaviour = die
        running = flow({GOOD: fetch(server), DEAD: fetch(dead)}, log)
        if isinstance(end, str):
            assert run(running) == end
        else:
            with pytest.raises(end):
                run(running)
    assert log == logged
    assert running.gi_frame is None  # finished or closed, whichever way


@pytest.mark.parametrize(
    ("behaviour", "status", "body"),
    [
        (answer(200, b"x"), 200, b"x"),
        (answer(404, b"not here"), 404, b"not here"),
        (answer(302, b"", Location="/elsewhere"), 302, b""),
        (answer(500), 500, b"body"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"), 200, b"ab"),
        (raw(b"HTTP/1.0 200 OK\r\n\r\nuntil the end"), 200, b"until the end"),
        (answer(200, b"x" * 1000), 200, b"x" * 1000),
    ],
)
def test_every_status_is_an_answer(
    run: Callable[[Flow[Any]], Any], behaviour: Any, status: int, body: bytes, server: KeyServer
) -> None:
    server.behaviour = behaviour
    assert run(ask(fetch(server))) == Response(status, body)
    assert server.requests == 1


@pytest.mark.parametrize(
    "behaviour",
    [die, raw(b"garbage\r\n\r\n"), answer(200, b"x" * 1001), raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")],
    ids=["dead", "garbage", "too large", "cut short"],
)
def test_anything_but_a_whole_answer_is_a_failure_in_words_for_the_log(
    run: Callable[[Flow[Any]], Any], behaviour: Any, server: KeyServer
) -> None:
    server.behaviour = behaviour
    with pytest.raises(FetchFailed) as failure:
        run(ask(fetch(server)))
    assert len(str(failure.value)) < 60


def test_a_slow_answer_is_a_failure_after_the_time_given(run: Callable[[Flow[Any]], Any], server: KeyServer) -> None:
    server.stall = 60
    begun = time.monotonic()
    with pytest.raises(FetchFailed):
        run(ask(fetch(server, timeout=0.2)))
    assert time.monotonic() - begun < 20  # of sixty seconds


def test_one_fetch_is_one_exchange_and_two_alike_are_two(run: Callable[[Flow[Any]], Any], server: KeyServer) -> None:
    need = fetch(server)
    assert run(ask(need)) is run(ask(need))
    assert server.requests == 1
    run(ask(fetch(server)))
    assert server.requests == 2


def test_those_who_share_a_failure_have_each_an_exception_of_their_own(
    run: Callable[[Flow[Any]], Any], server: KeyServer
) -> None:
    server.behaviour = die
    need = fetch(server)
    failures = []
    for _ in range(2):
        with pytest.raises(FetchFailed) as failure:
            run(ask(need))
        failures.append(failure.value)
    assert failures[0] is not failures[1]
    assert failures[0].args == failures[1].args


def test_an_internal_error_in_an_exchange_is_a_failure_for_every_caller(
    run: Callable[[Flow[Any]], Any], server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx2

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(httpx2, "AsyncHTTPTransport", broken)
    need = fetch(server)
    for _ in range(2):
        with pytest.raises(FetchFailed, match="ZeroDivisionError"):
            run(ask(need))


def test_a_cancelled_caller_does_not_cancel_a_shared_exchange(server: KeyServer) -> None:
    server.stall = 0.1
    log: Log = []
    need = fetch(server)

    def flow(name: str) -> Flow[int]:
        try:
            return (yield from ask(need)).status
        finally:
            log.append(name)

    async def both() -> int:
        driver = AwaitingDriver()
        first = asyncio.ensure_future(driver.run(flow("first")))
        second = asyncio.ensure_future(driver.run(flow("second")))
        await asyncio.sleep(0.03)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert log == ["first"]
        return await second

    assert asyncio.run(both()) == 200
    assert log == ["first", "second"]
    assert server.requests == 1


def test_an_event_loop_that_ends_early_does_not_lose_the_response(server: KeyServer) -> None:
    server.stall = 0.2
    need = fetch(server)

    async def leaves() -> None:
        asked = asyncio.ensure_future(AwaitingDriver().run(ask(need)))
        await asyncio.sleep(0.05)
        asked.cancel()

    asyncio.run(leaves())
    assert BlockingDriver().run(ask(need)) == Response(200, b"body")
    assert server.requests == 1


def test_tasks_and_threads_may_wait_for_the_same_exchange(server: KeyServer) -> None:
    server.stall = 0.1
    need, found = fetch(server), []
    threads = [threading.Thread(target=lambda run=run: found.append(run(ask(need)))) for run in [*DRIVERS.values()] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Response(200, b"body")] * 6
    assert server.requests == 1


@pytest.mark.parametrize("behaviour", [None, die], ids=["good", "dead"])
def test_nothing_is_left_of_an_exchange_when_its_fetch_is_gone(
    run: Callable[[Flow[Any]], Any], behaviour: Any, server: KeyServer
) -> None:
    server.behaviour = behaviour
    for _ in range(3):
        with contextlib.suppress(FetchFailed):
            run(ask(fetch(server)))

    def left() -> list[Fetch]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is Fetch and each.url == server.url]

    until(lambda: not left())


def test_the_package_does_not_import_the_http_client_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, mtls_middleware.wsgi, mtls_middleware.resource_server; sys.exit('httpx2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_event_loop_has_its_turn_between_fifty_flows_and_fifty_more() -> None:
    begun, between = 0, [0]

    def flow() -> Flow[int]:
        nonlocal begun
        begun += 1
        return (yield from ask(Call(len, ("abc",))))

    async def busy() -> None:
        driver = AwaitingDriver()
        tasks = [asyncio.create_task(driver.run(flow())) for _ in range(500)]
        while not all(each.done() for each in tasks):
            between.append(begun)
            await asyncio.sleep(0)
        assert [each.result() for each in tasks] == [3] * 500
        assert await driver.run(flow()) == 3  # and the next turn begins anew

    asyncio.run(busy())
    assert max(after - before for before, after in itertools.pairwise(between)) == 50
