"""The time without attempts after a failure."""

import threading

import pytest

from mtls_middleware.effects.cool_down import CoolDown
from mtls_middleware.retry import retry_delay


def failing(cool_down: CoolDown, now: float) -> float:
    """An attempt at `now` that fails at once. Returns the delay."""
    attempt = cool_down.begin(now)
    assert attempt is not None
    delay = cool_down.failed(attempt, now)
    cool_down.ended(attempt, succeeded=False)
    return delay


def test_the_delays_double_up_to_the_longest() -> None:
    assert [retry_delay(number) for number in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert retry_delay(10**9) == 30
    cool_down, now, delays = CoolDown(5), 100.0, []
    for _ in range(6):
        delays.append(failing(cool_down, now))
        assert cool_down.begin(now + delays[-1] - 0.01) is None
        now += delays[-1]
    assert delays == [0.5, 1, 2, 4, 5, 5]


def test_a_success_makes_the_next_delay_short_again() -> None:
    cool_down = CoolDown(5)
    assert [failing(cool_down, now) for now in (0, 1, 3, 6)] == [0.5, 1, 2, 4]
    attempt = cool_down.begin(20)
    assert attempt is not None
    cool_down.ended(attempt, succeeded=True)
    assert failing(cool_down, 21) == 0.5


def test_only_one_attempt_at_a_time_is_made_after_a_failure() -> None:
    cool_down = CoolDown(5)
    failing(cool_down, 0)
    attempt = cool_down.begin(1)
    assert attempt == 1
    assert [cool_down.begin(now) for now in (1, 2, 5)] == [None] * 3  # it is still in progress
    cool_down.failed(attempt, 6)
    assert cool_down.begin(6.9) is None
    assert cool_down.begin(7) is not None


def test_an_attempt_that_never_ends_does_not_stop_later_attempts() -> None:
    """After a fork, the thread that made the attempt does not exist."""
    cool_down = CoolDown(5)
    failing(cool_down, 0)
    assert cool_down.begin(1) == 1
    assert cool_down.begin(10.9) is None
    assert cool_down.begin(11) == 1


def test_attempts_that_fail_together_count_once() -> None:
    cool_down = CoolDown(5)
    attempts = [cool_down.begin(0) for _ in range(50)]
    assert {cool_down.failed(each, 0.2) for each in attempts if each is not None} == {0.5}


def test_a_cancelled_attempt_does_not_stop_later_attempts() -> None:
    cool_down = CoolDown(5)
    failing(cool_down, 0)
    attempt = cool_down.begin(1)
    assert attempt is not None
    cool_down.ended(attempt, succeeded=False)
    assert cool_down.begin(1.1) is not None


def test_an_old_attempt_does_not_end_a_new_one() -> None:
    cool_down = CoolDown(5)
    old = cool_down.begin(0)
    assert old is not None
    failing(cool_down, 0)
    assert cool_down.begin(1) == 1
    cool_down.ended(old, succeeded=False)
    cool_down.failed(old, 1)
    assert cool_down.begin(2) is None


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_a_clock_that_is_set_does_not_prolong_the_delay(shift: float) -> None:
    cool_down = CoolDown(5)
    failing(cool_down, 10_000)
    assert cool_down.begin(10_000 + shift) is not None


def test_a_request_that_is_older_than_the_failure_makes_no_attempt() -> None:
    """It began before another request waited for a timeout of some seconds."""
    cool_down = CoolDown(5)
    first = cool_down.begin(100)
    assert first is not None
    cool_down.failed(first, 104)
    assert [cool_down.begin(now) for now in (100.1, 102, 104, 104.4)] == [None] * 4
    assert cool_down.begin(104.5) is not None


def test_of_many_threads_one_makes_the_next_attempt() -> None:
    cool_down, found, barrier = CoolDown(5), [], threading.Barrier(20)
    failing(cool_down, 0)

    def one() -> None:
        barrier.wait()
        found.append(cool_down.begin(1))

    threads = [threading.Thread(target=one) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(each is None for each in found) == [False] + [True] * 19
