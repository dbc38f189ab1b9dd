"""The background threads end by an exception at any step, or cannot start: no caller hangs, and the next one works."""

import asyncio
import gc
import itertools
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx2
import pytest

from mtls_middleware.effects import background, name_lookups, upstream
from mtls_middleware.effects.exchange import Connections, Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import AwaitingDriver, Begin, BlockingDriver, ask
from tests.introspection_server import IntrospectionServer, says
from tests.key_server import until

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BODY = b'{"active": false}'
GOOD = Response(200, BODY)


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        running.behaviour = says(BODY)
        yield running


@pytest.fixture(autouse=True)
def own_background(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thread of this test's own, so that no other test sees what is broken here."""
    monkeypatch.setattr(background, "_backgrounds", [])
    yield
    for each in background._backgrounds:
        each.end()
    gc.collect()


def fetch(server: IntrospectionServer, connections: Connections | None, **options: Any) -> Fetch:
    url = server.url.replace("127.0.0.1", "localhost")  # so that each exchange looks up a name
    return Fetch(url, TLS, options.pop("timeout", 20), 1000, form=[("token", "x")], connections=connections, **options)


def get(need: Fetch) -> Response | FetchFailed:
    try:
        return BlockingDriver().run(ask(need))
    except FetchFailed as failure:
        return failure


async def get_async(need: Fetch) -> Response | FetchFailed:
    try:
        return await AwaitingDriver().run(ask(need))
    except FetchFailed as failure:
        return failure


EXCEPTIONS: dict[str, BaseException] = {
    "Exception": RuntimeError("defect"),
    "MemoryError": MemoryError(),
    "SystemExit": SystemExit(1),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
}
# Every step of the two kinds of threads and of the tasks in the event loop. The exception is raised in each of them.
STEPS: dict[str, tuple[Any, str]] = {
    "start of a queued exchange": (background._Background, "_start_queued"),
    "creation of a task": (asyncio.SelectorEventLoop, "create_task"),
    "beginning of the exchange": (background._Background, "_make"),
    "timeout of the exchange": (anyio, "fail_after"),
    "wait for a slot": (upstream.ConcurrencyLimit, "slot"),
    "count of the exchange": (upstream.Upstream, "response"),
    "creation of the transport": (upstream, "new_transport"),
    "exchange": (upstream, "exchange"),
    "request": (httpx2.AsyncHTTPTransport, "handle_async_request"),
    "hand-over of a look-up": (name_lookups.NameLookupThreads, "submit"),
    "look-up": (socket, "getaddrinfo"),
    "end of a look-up": (name_lookups.NameLookupThreads, "_remove"),
    "count of the response": (upstream.Upstream, "_count_response"),
    "result": (background._Background, "_finish"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # coroutines that a broken step left
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize("step", STEPS)
def test_an_exception_at_any_step_fails_one_exchange_and_not_the_next(
    server: IntrospectionServer, monkeypatch: pytest.MonkeyPatch, step: str, exception: str
) -> None:
    owner, name = STEPS[step]
    connections = Connections(TLS)
    # If these steps fail as a whole, the callers wait for the timeout.
    seconds = 0.5 if step in ("start of a queued exchange", "beginning of the exchange", "result") else 20
    with monkeypatch.context() as patched:
        raised = threading.Event()

        def fail(*_: Any, **__: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                raise AssertionError("this step does not belong to the thread")
            raised.set()
            raise EXCEPTIONS[exception]

        patched.setattr(owner, name, fail)
        found = get(fetch(server, connections, timeout=seconds))
        assert isinstance(found, FetchFailed) or step == "end of a look-up"
        until(raised.is_set)
    assert get(fetch(server, connections)) == GOOD
    assert asyncio.run(get_async(fetch(server, connections))) == GOOD


# --- The event loop of the thread ends


def stop_by(exception: BaseException) -> None:
    """Raise an exception in a callback of the background loop. `SystemExit` ends the loop (asyncio, `Handle._run`)."""

    def fail() -> None:
        raise exception

    current = background._current_background()
    current._loop.call_soon_threadsafe(fail)


@pytest.mark.parametrize("kept", [True, False], ids=["open connections", "new connections"])
def test_exchanges_in_progress_fail_at_once_when_the_thread_ends(
    server: IntrospectionServer, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server.stall = 30
    connections = Connections(TLS) if kept else None
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(get(fetch(server, connections)))) for _ in range(5)]
    for each in threads:
        each.start()
    until(lambda: len(server.questions) == 5)
    stop_by(SystemExit(1))
    for each in threads:
        each.join(10)  # half of the timeout
    assert [type(each) for each in results] == [FetchFailed] * 5
    until(lambda: "the thread for exchanges ended" in caplog.text)
    server.stall = 0
    assert get(fetch(server, connections)) == GOOD


def test_a_thread_that_ended_leaves_no_thread_and_no_open_file(server: IntrospectionServer) -> None:
    connections = Connections(TLS)

    def counts() -> tuple[int, int]:
        """Threads, and open files, after one thread ended and another one took its place."""
        assert get(fetch(server, connections)) == GOOD
        stop_by(SystemExit(1))
        until(lambda: background._backgrounds[-1].has_ended)
        assert get(fetch(server, connections)) == GOOD
        server.hang_up()
        until(lambda: all(each.fileno() == -1 for each in server.connections))
        names = [each.name for each in threading.enumerate()]
        return names.count("mtls-middleware exchanges"), len(os.listdir("/proc/self/fd"))

    first = counts()
    until(lambda: counts() <= first)


class FailingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the log is full")


def test_a_log_handler_that_fails_stops_no_exchange(server: IntrospectionServer) -> None:
    """asyncio logs an exception in a callback. If the handler raises, too, the loop ends."""
    connections, handler = Connections(TLS), FailingHandler()
    assert get(fetch(server, connections)) == GOOD
    logging.getLogger().addHandler(handler)
    try:
        stop_by(RuntimeError("defect"))
        until(lambda: background._backgrounds[-1].has_ended)
        assert get(fetch(server, connections)) == GOOD
        server.stall = 30
        for _ in range(3):
            assert isinstance(get(fetch(server, connections, timeout=0.3)), FetchFailed)
        server.stall = 0
        until(lambda: get(fetch(server, connections)) == GOOD)
    finally:
        logging.getLogger().removeHandler(handler)


def test_an_exchange_that_no_caller_waits_for_does_not_hang(server: IntrospectionServer) -> None:
    server.stall = 30
    need = fetch(server, None)

    def begun() -> Any:
        yield from ask(Begin(need))

    BlockingDriver().run(begun())
    until(lambda: len(server.questions) == 1)
    stop_by(SystemExit(1))
    assert isinstance(need.outcome.exception(5), FetchFailed)


# --- No thread can be started


class Limit:
    """As `ulimit -u`: from now on, no thread with this name can be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached, start = True, threading.Thread.start
        limit = self

        def limited(thread: threading.Thread) -> None:
            if limit.reached and thread.name == name:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)


@pytest.mark.parametrize("kept", [True, False], ids=["open connections", "new connections"])
@pytest.mark.parametrize("run", [get, lambda need: asyncio.run(get_async(need))], ids=["threads", "event loop"])
def test_without_a_thread_the_exchange_fails_and_says_what_to_change(
    server: IntrospectionServer, monkeypatch: pytest.MonkeyPatch, run: Callable[[Fetch], Any], kept: bool
) -> None:
    limit = Limit(monkeypatch, "mtls-middleware exchanges")
    connections = Connections(TLS) if kept else None
    for _ in range(3):
        found = run(fetch(server, connections))
        assert isinstance(found, FetchFailed)
        assert "can't start new thread" in str(found)
        assert "ulimit -u" in str(found)
    limit.reached = False
    assert run(fetch(server, connections)) == GOOD


def test_without_open_files_the_exchange_fails_and_the_next_works(
    server: IntrospectionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "SelectorEventLoop", fail)
        assert "Too many open files" in str(get(fetch(server, None)))
    assert get(fetch(server, None)) == GOOD


def test_a_renewal_in_the_background_without_a_thread_fails_no_request(
    server: IntrospectionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Limit(monkeypatch, "mtls-middleware exchanges")
    need = fetch(server, None)

    def begun() -> Any:
        yield from ask(Begin(need))
        return "served"

    assert BlockingDriver().run(begun()) == "served"
    assert asyncio.run(AwaitingDriver().run(begun())) == "served"
    assert "no thread" in str(need.outcome.exception(0))


@pytest.mark.parametrize("is_chosen", [True, False], ids=["a URL that a client chose", "a configured URL"])
def test_without_a_thread_for_the_look_up_the_exchange_fails(
    server: IntrospectionServer, monkeypatch: pytest.MonkeyPatch, is_chosen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The name is looked up again later: the failed look-ups are not kept."""
    monkeypatch.setattr(name_lookups, "_SHARED_SECONDS", 0.0)
    limit = Limit(monkeypatch, "mtls-middleware look-up")
    for _ in range(6):  # more than the threads of one name
        assert isinstance(get(fetch(server, None, allow_private=not is_chosen)), FetchFailed)
    assert caplog.text.count("no thread can be started to look up a host name (can't start new thread)") >= 6
    limit.reached = False
    found = get(fetch(server, None, allow_private=not is_chosen))
    assert found == GOOD or "not public" in str(found)


def test_all_steps_are_different() -> None:
    assert all(one != other for one, other in itertools.combinations(STEPS.values(), 2))
