"""A thread that repeats a method continues after every exception, and is started again if it has ended."""

import gc
import logging
import threading
from typing import Any

import pytest

from mtls_middleware.effects import supervision
from mtls_middleware.effects.supervision import RepeatingThread
from tests.key_server import until

logger = logging.getLogger("tests.effects.supervision")


class Raising(logging.Handler):
    """A handler that does not catch its own exceptions, as `Handler.handleError` would."""

    def __init__(self, exception: BaseException) -> None:
        super().__init__()
        self.exception = exception

    def emit(self, record: logging.LogRecord) -> None:
        raise self.exception


class Counter:
    def __init__(self) -> None:
        self.calls = 0
        self.exception: BaseException | None = None
        self.name = f"counter {id(self)}"
        self.thread = RepeatingThread(self.count, name=self.name, interval=0.001, logger=logger)

    def count(self) -> None:
        self.calls += 1
        if self.exception is not None:
            raise self.exception

    def goes_on(self) -> None:
        """Fails unless the method is called again."""
        before = self.calls
        until(lambda: self.calls > before + 1, seconds=30)


def running(name: str) -> int:
    return sum(each.name == name for each in threading.enumerate())


@pytest.fixture
def counter() -> Any:
    found = Counter()
    assert found.thread.ensure_running()
    found.goes_on()
    return found


@pytest.mark.parametrize("kind", [ValueError, MemoryError, SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("handler", [None, ValueError("of the log"), SystemExit()])
def test_the_thread_continues_after_an_exception(
    counter: Counter, kind: type[BaseException], handler: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    raising = Raising(handler) if handler else logging.NullHandler()
    logger.addHandler(raising)
    try:
        counter.exception = kind("secret")
        counter.goes_on()
    finally:
        logger.removeHandler(raising)
    counter.exception = None
    counter.goes_on()
    assert handler or f"{kind.__name__} in a background thread" in caplog.text
    assert "secret" not in caplog.text


def test_a_thread_that_has_ended_is_started_again(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(supervision, "_RESTART_INTERVAL", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(supervision, "time", None)
        until(lambda: not running(counter.name), seconds=30)
    assert counter.thread.ensure_running()
    counter.goes_on()
    assert running(counter.name) == 1


def test_a_thread_that_ends_at_once_is_started_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with monkeypatch.context() as patched:
        patched.setattr(supervision, "_survive", None)
        started = []
        start = threading.Thread.start
        patched.setattr(threading.Thread, "start", lambda self: started.append(self) or start(self))
        for _ in range(50):
            counter.thread.ensure_running()
        assert len(started) == 1


def test_concurrent_callers_start_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter()
    callers = [threading.Thread(target=counter.thread.ensure_running) for _ in range(40)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    counter.goes_on()
    assert running(counter.name) == 1


@pytest.mark.parametrize("failure", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_thread_that_cannot_be_started_is_reported_and_tried_again(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def exhausted(_thread: object) -> None:
        raise failure

    counter = Counter()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", exhausted)
        assert [counter.thread.ensure_running() for _ in range(3)] == [False] * 3
    assert caplog.text.count("check the limits of threads and memory") == 1
    assert counter.thread.ensure_running()
    counter.goes_on()


def test_the_thread_ends_with_its_object() -> None:
    counter = Counter()
    counter.thread.ensure_running()
    counter.goes_on()
    name = counter.name
    del counter
    gc.collect()
    until(lambda: not running(name), seconds=30)
