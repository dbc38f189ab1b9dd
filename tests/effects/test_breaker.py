"""The circuit breaker of one server: when it opens, for which clients, and when a probe may go."""

import random

import pytest

from mtls_middleware.effects.breaker import CircuitBreaker

TIMEOUT = 5.0


def opened(client: str = "a", now: float = 100.0) -> CircuitBreaker:
    """A breaker whose circuit for one client opened at `now`."""
    breaker = CircuitBreaker()
    for _ in range(3):
        breaker.stalled(client, now - TIMEOUT, now)
    return breaker


def wait(breaker: CircuitBreaker, client: str, now: float) -> float:
    return breaker.admit(client, now, TIMEOUT)[0]


def test_a_closed_circuit_admits_all_requests() -> None:
    breaker = CircuitBreaker()
    breaker.stalled("a", 0, 5)
    breaker.stalled("a", 0, 5)
    assert [breaker.admit(client, 6, TIMEOUT) for client in ("a", "a", "b")] == [(0.0, False)] * 3


def test_the_third_stall_in_a_row_opens_the_circuit_of_its_client() -> None:
    breaker = CircuitBreaker()
    assert [breaker.stalled("a", 0, now) for now in (5, 6, 7)] == [None, None, 0.5]
    assert wait(breaker, "a", 7) == 0.5
    assert wait(breaker, "b", 7) == 0


def test_a_response_between_two_stalls_keeps_the_circuit_closed() -> None:
    breaker = CircuitBreaker()
    for now in range(10, 100, 10):
        assert breaker.stalled("a", now - 5, now) is None
        assert breaker.stalled("a", now - 5, now) is None
        assert not breaker.responded("a", now + 1)
    assert wait(breaker, "a", 100) == 0


def test_one_client_cannot_open_the_circuit_of_another_client() -> None:
    breaker = CircuitBreaker()
    for now in range(1_000):
        breaker.stalled("attacker", now - 5, now)
        assert breaker.admit("b", now, TIMEOUT) == (0.0, False)


def test_two_clients_cannot_open_the_circuit_of_a_third_client() -> None:
    breaker = CircuitBreaker()
    for now in range(1_000):
        breaker.stalled(f"attacker {now % 2}", now - 5, now)
        assert breaker.admit("b", now, TIMEOUT) == (0.0, False)


def test_stalls_of_three_clients_open_the_circuit_of_all_clients() -> None:
    breaker = CircuitBreaker()
    assert [breaker.stalled(client, 0, 5) for client in ("a", "b", "c")] == [None, None, 0.5]
    assert wait(breaker, "d", 5) == 0.5


def test_a_response_to_any_client_resets_the_count_of_clients() -> None:
    breaker = CircuitBreaker()
    breaker.stalled("a", 0, 5)
    breaker.stalled("b", 0, 5)
    breaker.responded("d", 6)
    assert breaker.stalled("c", 2, 7) is None
    assert wait(breaker, "d", 7) == 0


def test_only_one_request_is_the_probe() -> None:
    breaker = opened()
    assert breaker.admit("a", 100.4, TIMEOUT) == (pytest.approx(0.1), False)
    assert breaker.admit("a", 100.6, TIMEOUT) == (0.0, True)
    assert [wait(breaker, "a", 100.7) for _ in range(3)] == [pytest.approx(4.9)] * 3


def test_each_failed_probe_doubles_the_delay() -> None:
    breaker, now, delays = opened(), 100.0, []
    for _ in range(8):
        now += wait(breaker, "a", now)
        began = now
        assert breaker.admit("a", now, TIMEOUT) == (0.0, True)
        now += TIMEOUT
        delays.append(breaker.stalled("a", began, now))
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]


def test_exchanges_from_before_the_circuit_opened_double_no_delay() -> None:
    breaker = opened(now=100)
    assert [breaker.stalled("a", 95.0 + number / 100, 100 + number / 100) for number in range(50)] == [None] * 50
    assert wait(breaker, "a", 100.4) == pytest.approx(0.1)


def test_a_probe_without_an_outcome_does_not_block_the_next_probe_for_ever() -> None:
    breaker = opened()
    assert breaker.admit("a", 101, TIMEOUT) == (0.0, True)
    assert wait(breaker, "a", 105.9) > 0
    assert breaker.admit("a", 106.1, TIMEOUT) == (0.0, True)


def test_a_successful_probe_closes_the_circuit() -> None:
    breaker = opened()
    breaker.admit("a", 101, TIMEOUT)
    assert breaker.responded("a", 101.1)
    assert [breaker.admit("a", 101.2, TIMEOUT) for _ in range(5)] == [(0.0, False)] * 5
    assert not breaker.responded("a", 101.3)


def test_a_response_to_one_client_admits_a_probe_of_each_other_client() -> None:
    """So the recovery of the server reaches all clients at once, whatever the delays of their circuits are."""
    breaker, now = opened(), 100.0
    for _ in range(8):
        now += wait(breaker, "a", now)
        breaker.admit("a", now, TIMEOUT)
        breaker.stalled("a", now, now + 1)
        now += 1
    assert wait(breaker, "a", now + 1) > 20
    breaker.responded("b", now + 1)
    assert breaker.admit("a", now + 1.1, TIMEOUT) == (0.0, True)
    assert wait(breaker, "a", now + 1.2) > 0


def test_the_number_of_counted_clients_is_bounded() -> None:
    breaker = CircuitBreaker()
    for number in range(3_000):
        breaker.stalled(f"client {number}", 0, 5)
    assert len(breaker._clients) == len(breaker._stalled) == 1_000


@pytest.mark.parametrize("seed", range(20))
def test_a_random_history_never_blocks_a_client_for_more_than_a_minute(seed: int) -> None:
    """Whatever happened before: if the server responds from now on, each client is served within 30 s and a timeout."""
    chance, breaker, now = random.Random(seed), CircuitBreaker(), 0.0
    for _ in range(2_000):
        now += chance.random()
        client = f"client {chance.randrange(6)}"
        if breaker.admit(client, now, TIMEOUT)[0] == 0:
            if chance.random() < 0.9:
                breaker.stalled(client, now - chance.random() * 6, now)
            else:
                breaker.responded(client, now)
    for number in range(6):
        client, end = f"client {number}", now + 30 + TIMEOUT
        while breaker.admit(client, now, TIMEOUT)[0] > 0:
            now += 0.1
            assert now < end
        breaker.responded(client, now)
        assert wait(breaker, client, now) == 0
