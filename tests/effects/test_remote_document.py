"""A large document is parsed in a thread, and a failure of any kind is tried again."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware.effects import background, remote_document
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Flow
from mtls_middleware.effects.remote_document import RemoteDocument
from mtls_middleware.errors import Unavailable
from tests.jwks.key_sources import NO_TLS, START, at_once
from tests.key_server import KeyServer, answer, die, gated, until
from tests.resource_server.fixtures import run

__all__ = ["run"]

Run = Callable[[Flow[Any]], Any]
LARGE = b"x" * 2_000


@pytest.fixture
def server() -> Any:
    with KeyServer(LARGE) as running:
        yield running


def document(server: KeyServer, parse: Callable[[bytes], Any], max_inline: int = 1_000) -> RemoteDocument[Any]:
    return RemoteDocument(server.url, parse, tls=NO_TLS, max_inline=max_inline)


def parse_name(body: bytes) -> tuple[str, int]:
    return threading.current_thread().name, len(body)


def test_a_large_document_is_parsed_in_a_thread_and_a_small_one_by_its_request(server: KeyServer, run: Run) -> None:
    assert run(document(server, parse_name).current(START)) == ("mtls-middleware document", 2_000)
    assert run(document(server, parse_name, 2_000).current(START)) == (threading.current_thread().name, 2_000)


def test_requests_without_a_value_wait_for_the_same_thread(server: KeyServer) -> None:
    calls, gate = [], threading.Event()

    def parse(body: bytes) -> int:
        calls.append(1)
        assert gate.wait(10)
        return len(body)

    threading.Timer(0.2, gate.set).start()
    found, driver = document(server, parse), BlockingDriver()
    assert at_once(20, lambda _: driver.run(found.current(START))) == [2_000] * 20
    assert (len(calls), server.requests) == (1, 1)


def test_the_event_loop_runs_while_a_thread_parses(server: KeyServer) -> None:
    gate = threading.Event()
    found = document(server, lambda body: gate.wait(10) and len(body))

    async def wait() -> int:
        asking = asyncio.ensure_future(AwaitingDriver().run(found.current(START)))
        await asyncio.to_thread(until, lambda: any(each.name.endswith("document") for each in threading.enumerate()))
        assert not asking.done()
        gate.set()  # a blocked event loop does not come here
        return await asking

    assert asyncio.run(wait()) == 2_000


def test_requests_use_the_old_value_while_a_thread_parses_the_new_one(server: KeyServer) -> None:
    gate, driver = threading.Event(), BlockingDriver()
    found = document(server, lambda body: (body == LARGE or gate.wait(10)) and body)
    assert driver.run(found.current(START)) == LARGE
    server.jwks = b"y" * 2_000
    assert driver.run(found.current(START + 700)) == LARGE
    assert driver.run(found.current(START + 731)) == LARGE  # no second attempt while the thread works
    assert server.requests == 2
    gate.set()
    until(lambda: driver.run(found.current(START + 729)) == server.jwks)
    assert server.requests == 2


def fail(error: BaseException) -> Callable[[], Any]:
    def raise_error(*_: object) -> Any:
        raise error

    return raise_error


@pytest.mark.parametrize("max_inline", [1_000, 10_000], ids=["in a thread", "by the request"])
@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), SystemExit(), RuntimeError()], ids=repr)
def test_a_parser_that_fails_for_any_reason_is_tried_again(
    error: BaseException, max_inline: int, server: KeyServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = [fail(error), lambda: "parsed"]
    found = document(server, lambda _: outcomes.pop(0)(), max_inline)
    with pytest.raises(Unavailable):
        run(found.current(START))
    assert f"{type(error).__name__}; the next attempt is after 0.5 s at the earliest" in caplog.text
    assert run(found.current(START + 2)) == "parsed"


def test_without_a_thread_to_parse_it_is_503_and_is_tried_again(
    server: KeyServer, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = document(server, len)
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name == "mtls-middleware document":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", start_others)
        with pytest.raises(Unavailable) as refusal:
            run(found.current(START))
    assert refusal.value.retry_after == 1
    assert "no thread can be started" in caplog.text
    assert run(found.current(START + 2)) == 2_000


def test_after_a_failure_requests_do_not_wait_for_a_server_that_stalls(
    server: KeyServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_document, "_LATER_WAIT", 0.1)
    found, gate = RemoteDocument(server.url, len, tls=NO_TLS, timeout=30), threading.Event()
    server.behaviour = die
    with pytest.raises(Unavailable):
        run(found.current(START))
    server.behaviour = gated(gate)  # it responds after 10 s at the latest
    for late in (0.5, 0.6, 5):
        with pytest.raises(Unavailable) as refusal:
            run(found.current(START + late))
        assert refusal.value.retry_after == 1
    assert server.requests == 2
    gate.set()
    until(lambda: attempt_is_over(found))
    assert run(found.current(START + 6)) == 2_000  # the attempt went on in the background
    assert server.requests == 2


def attempt_is_over(found: RemoteDocument[Any]) -> bool:
    attempt = found._attempt
    return attempt is not None and attempt.fetch.outcome.done()


@pytest.mark.parametrize("age", [0, 500, 700], ids=["first", "in the background", "old"])
def test_without_the_thread_of_exchanges_it_is_a_failed_attempt(
    age: float, server: KeyServer, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = document(server, len)
    if age:
        run(found.current(START))
    with monkeypatch.context() as limited:
        limited.setattr(background, "_current_background", fail(RuntimeError("can't start new thread")))
        if age:
            assert run(found.current(START + age)) == 2_000
        else:
            with pytest.raises(Unavailable):
                run(found.current(START))
        if age:
            run(found.current(START + age + 0.1))  # the result of a renewal in the background is stored here
    assert "the next attempt is after 0.5 s at the earliest" in caplog.text
    attempts = server.requests
    assert run(found.current(START + age + 1)) == 2_000
    until(lambda: server.requests == attempts + 1)


def test_a_slow_error_delays_the_next_attempt_by_the_time_that_it_took(server: KeyServer, run: Run) -> None:
    server.behaviour, server.stall = answer(504), 1.0
    found = document(server, len)
    for late in (0, 0.9, 1.4):
        with pytest.raises(Unavailable):
            run(found.current(START + late))
    assert server.requests == 1
    with pytest.raises(Unavailable):
        run(found.current(START + 10))
    assert server.requests == 2


def test_one_request_does_not_wait_twice_for_one_attempt(server: KeyServer, run: Run) -> None:
    gate, found = threading.Event(), RemoteDocument(server.url, len, tls=NO_TLS, timeout=30, first_wait=2)
    run(found.current(START))
    server.behaviour = gated(gate)
    began = time.monotonic()
    assert run(found.refreshed(START + 700)) == 2_000
    assert time.monotonic() - began < 3.9
    gate.set()


def test_a_request_with_a_later_time_waits_for_an_attempt_in_progress(server: KeyServer, run: Run) -> None:
    found, server.stall = RemoteDocument(server.url, len, tls=NO_TLS), 0.5
    first = threading.Thread(target=BlockingDriver().run, args=(found.current(START),))
    first.start()
    until(lambda: server.requests == 1)
    assert run(found.current(START + 3)) == 2_000
    first.join()
    assert server.requests == 1


def test_retry_after_includes_the_time_that_a_failed_attempt_took(server: KeyServer, run: Run) -> None:
    server.behaviour, found = answer(504), document(server, len)
    for number in range(7):
        with pytest.raises(Unavailable):
            run(found.current(START + 100 * number))
    assert server.requests == 7
    assert found.retry_after(START + 600) > 30  # 30 seconds after the failure, not after the beginning


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on: other threads run
def test_a_fork_does_not_wait_for_the_thread_of_its_parent(server: KeyServer) -> None:
    gate, driver = threading.Event(), BlockingDriver()
    found = document(server, lambda body: (body == LARGE or gate.wait(30)) and body)
    driver.run(found.current(START))
    server.jwks = b"y" * 2_000
    driver.run(found.current(START + 700))
    child = os.fork()
    if child == 0:
        gate.set()
        end = time.monotonic() + 10
        while driver.run(found.current(START + 731)) == LARGE and time.monotonic() < end:
            time.sleep(0.01)
        os._exit(0 if driver.run(found.current(START + 731)) == server.jwks else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.set()
