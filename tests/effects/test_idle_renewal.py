"""One thread of a process calls the renewal methods of objects that no request uses."""

import gc
import threading
import time
from typing import Any

import pytest

from mtls_middleware.effects import idle_renewal
from mtls_middleware.effects.idle_renewal import IdleRenewal
from tests.key_server import until

NAME = "mtls-middleware renewal"


class Renewed:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.exception: Exception | None = None
        self.idle = IdleRenewal(self.renew)

    def renew(self, now: float) -> None:
        self.times.append(now)
        if self.exception is not None:
            raise self.exception


@pytest.fixture(autouse=True)
def quick_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_renewal, "_timer", idle_renewal._Timer(interval=0.005))


def test_the_time_follows_the_clock_of_the_requests() -> None:
    renewed = Renewed()
    began = time.monotonic()
    renewed.idle.note(1_000.0)
    until(lambda: len(renewed.times) >= 5, seconds=30)
    assert 1_000 <= renewed.times[0] <= renewed.times[4] <= 1_000 + time.monotonic() - began
    renewed.idle.note(5_000.0)
    until(lambda: renewed.times[-1] >= 5_000, seconds=30)


def test_an_object_that_no_request_used_is_not_renewed() -> None:
    unused, renewed = Renewed(), Renewed()
    renewed.idle.note(0)
    until(lambda: len(renewed.times) >= 3, seconds=30)
    assert unused.times == []


def test_the_thread_does_nothing_while_there_are_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, idle = Renewed(), Renewed()
    monkeypatch.setattr(idle_renewal, "monotonic", lambda: 100.0)
    busy.idle.note(0)
    monkeypatch.setattr(idle_renewal, "monotonic", lambda: 90.0)
    idle.idle.note(0)
    monkeypatch.setattr(idle_renewal, "monotonic", lambda: 100.0)
    until(lambda: len(idle.times) >= 3, seconds=30)
    assert busy.times == []


def test_all_objects_share_one_thread() -> None:
    others = set(threading.enumerate())
    all_of_them = [Renewed() for _ in range(50)]
    for each in all_of_them:
        each.idle.note(0)
    until(lambda: all(each.times for each in all_of_them), seconds=30)
    assert [each.name for each in set(threading.enumerate()) - others] == [NAME]


def test_an_exception_stops_neither_the_object_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    broken, renewed = Renewed(), Renewed()
    broken.exception = ValueError("secret")
    for each in (broken, renewed):
        each.idle.note(0)
    until(lambda: len(broken.times) >= 3 and len(renewed.times) >= 3, seconds=30)
    assert "ValueError in a renewal" in caplog.text
    assert "secret" not in caplog.text


def test_an_object_that_is_dropped_is_not_kept_in_memory() -> None:
    renewed: Any = Renewed()
    times = renewed.times
    renewed.idle.note(0)
    until(lambda: len(times) >= 1, seconds=30)
    del renewed
    gc.collect()
    until(lambda: not idle_renewal._timer._renewals, seconds=30)


def test_locks_that_were_held_at_a_fork_stop_no_renewal() -> None:
    renewed = Renewed()
    timer = idle_renewal._timer
    timer._lock.acquire()
    timer.thread._lock.acquire()
    timer.after_fork()  # as in a child process
    renewed.idle.note(0)
    until(lambda: len(renewed.times) >= 1, seconds=30)
