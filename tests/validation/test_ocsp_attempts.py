"""OCSP exchanges that fail, or are not made: who waits, what counts as a failure, and when the next one begins.

Most tests run the flow step by step: they receive the exchange that it yields, and decide how the exchange ends.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.x509 import ocsp

from mtls_middleware import dependencies
from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response, Stopwatch
from mtls_middleware.effects.flow import Begin, BlockingDriver
from mtls_middleware.errors import Unavailable
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import OCSP
from mtls_middleware.validation.revocation import CertificateStatus, status_requests
from tests.validation import test_ocsp
from tests.validation.responder import REVOKED, Responder, respond
from tests.validation.verdicts import presented

CA = CertificateAuthority()
NOW = 1_800_000_000.0
HOUR = 3_600
OVERLOADED = FetchFailed("max_waiting=2 requests already wait for the server", retry_after=7)


class World:
    """One source, and the requests for one certificate. `events`: the failures that observers are told."""

    def __init__(self) -> None:
        self.source = OCSP("http://ocsp.test", timeout=5)
        self.requests = status_requests([CA.issue().x509, CA.certificate])
        self.events: list[str] = []

    def flow(self, now: float) -> Any:
        return self.source.statuses(self.requests, now)

    def status(self, now: float) -> CertificateStatus:
        """Return the status of a request that needs no exchange."""
        return ended(self.flow(now))

    def fetch(self, flow: Any) -> Fetch:
        """Run a flow until it waits for an exchange, which some thread starts."""
        need = next(flow)
        assert isinstance(need, Fetch)
        need.claim()
        return need

    def become_good(self, now: float) -> None:
        flow = self.flow(now)
        found = answer(self.fetch(flow), now)
        assert ended(flow, found).status == "good"

    def renewal(self, now: float) -> Fetch:
        """Return the exchange that a request with a valid status begins in the background."""
        flow = self.flow(now)
        need = next(flow)
        assert isinstance(need, Begin)
        need.fetch.claim()
        assert ended(flow, None).status == "good"
        return need.fetch


def answer(fetch: Fetch, now: float, **options: Any) -> Response:
    """End an exchange with a good response."""
    assert fetch.content is not None
    body = respond(CA, ocsp.load_der_ocsp_request(fetch.content), now=now, begins=-60, **options)
    found = Response(200, body)
    fetch.outcome.set_result(found)
    return found


def ended(flow: Any, *sent: Any) -> CertificateStatus:
    """Continue a flow to its end, and return the status."""
    try:
        if not sent:
            next(flow)
        elif isinstance(sent[0], Exception):
            flow.throw(sent[0])
        else:
            flow.send(sent[0])
    except StopIteration as stop:
        found: CertificateStatus = stop.value.value[0]
        return found
    raise AssertionError("the flow needs another exchange")


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    stop = dependencies.observe(lambda event, reason: found.events.append(reason))
    yield found
    stop()


def test_a_caller_that_stops_waiting_ends_no_attempt_of_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    first, second = world.flow(NOW), world.flow(NOW)
    fetch = world.fetch(first)
    assert next(second) is fetch
    found = ended(second, FetchFailed("not complete within 1.25 s"))
    assert (found.status, found.retry_after) == ("unavailable", 1)
    assert "1.25" in found.reason
    assert next(world.flow(NOW + 2)) is fetch
    assert ended(first, answer(fetch, NOW)).status == "good"
    assert world.status(NOW + 3).status == "good"
    assert (world.events, caplog.messages) == ([], [])


def test_an_attempt_after_which_nobody_waits_is_used_later(world: World) -> None:
    flow = world.flow(NOW)
    fetch = world.fetch(flow)
    assert ended(flow, FetchFailed("not complete within 1.25 s")).status == "unavailable"
    answer(fetch, NOW)
    assert world.status(NOW + 5).status == "good"


def test_the_limit_of_a_joined_caller_ends_no_attempt_of_others(world: World) -> None:
    first, second = world.flow(NOW), world.flow(NOW)
    fetch = world.fetch(first)
    next(second)
    found = ended(second, OVERLOADED)
    assert (found.status, found.retry_after) == ("unavailable", 7)
    assert ended(first, answer(fetch, NOW)).status == "good"


def test_an_exchange_that_was_not_made_is_no_failure(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        flow = world.flow(NOW + 2 * number)
        assert isinstance(next(flow), Fetch)  # and no caller has started it
        found = ended(flow, OVERLOADED)
        assert (found.status, found.retry_after) == ("unavailable", 7)
        assert "max_waiting=2" in found.reason
        again = world.status(NOW + 2 * number + 0.5)
        assert (again.status, again.reason) == ("unavailable", found.reason)
    assert (world.events, caplog.messages) == ([], [])
    world.become_good(NOW + 10)


def test_a_renewal_that_was_not_made_is_no_failure(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.become_good(NOW)
    later = NOW + 0.9 * HOUR
    for number in range(5):
        world.renewal(later + 2 * number).outcome.set_exception(OVERLOADED)
        assert world.status(later + 2 * number + 0.5).status == "good"
    assert (world.events, caplog.messages) == ([], [])
    answer(world.renewal(later + 10), later + 10)
    assert world.status(NOW + 1.5 * HOUR).status == "good"


def test_a_renewal_that_failed_long_ago_does_not_fail_a_request(world: World) -> None:
    world.become_good(NOW)
    world.renewal(NOW + 0.85 * HOUR).outcome.set_exception(FetchFailed("ConnectError"))
    flow = world.flow(NOW + 2 * HOUR)
    found = answer(world.fetch(flow), NOW + 2 * HOUR)
    assert ended(flow, found).status == "good"
    assert world.events == ["http://ocsp.test: ConnectError"]


def test_a_renewal_that_came_too_late_is_no_failure(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.become_good(NOW)
    answer(world.renewal(NOW + 0.9 * HOUR), NOW + 0.9 * HOUR)  # no request comes while this response is valid
    world.become_good(NOW + 5 * HOUR)
    assert (world.events, caplog.messages) == ([], [])


def test_an_exchange_over_a_closed_connection_is_repeated_now(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.become_good(NOW)
    closed = FetchFailed("RemoteProtocolError", again=True)
    world.renewal(NOW + 0.9 * HOUR).outcome.set_exception(closed)
    later = NOW + 5 * HOUR
    flow = world.flow(later)
    assert next(flow).outcome.exception() is closed
    again = flow.throw(closed)
    assert next(world.flow(later)) is again
    found = answer(again, later)
    assert ended(flow, found).status == "good"
    assert world.status(later + 60).status == "good"
    assert (world.events, caplog.messages) == ([], [])


@pytest.mark.parametrize(
    "found",
    [FetchFailed("not complete within 4 s"), Response(503, b"")],
    ids=["timeout", "HTTP status"],
)
def test_the_pause_after_a_failure_begins_at_the_failure(
    world: World, found: FetchFailed | Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stopwatch, "seconds", 4.0)
    flow = world.flow(NOW)
    fetch = world.fetch(flow)
    if isinstance(found, Response):
        fetch.outcome.set_result(found)
    else:
        fetch.outcome.set_exception(found)
    assert ended(flow, found).status == "unavailable"
    assert world.status(NOW + 4.4).status == "unavailable"
    assert isinstance(next(world.flow(NOW + 4.6)), Fetch)
    assert len(world.events) == 1


def test_a_request_that_began_before_a_response_makes_its_own_exchange(world: World) -> None:
    flow = world.flow(NOW)
    found = answer(world.fetch(flow), NOW, ends=None)  # not cached, because it has no nextUpdate
    assert ended(flow, found).status == "good"
    flow = world.flow(NOW - 0.5)
    assert ended(flow, answer(world.fetch(flow), NOW, ends=None)).status == "good"


def test_a_lost_attempt_is_replaced_after_a_while(world: World) -> None:
    first, second = world.flow(NOW), world.flow(NOW + 34.9)
    fetch = world.fetch(first)
    assert next(second) is fetch
    assert next(world.flow(NOW + 35.1)) is not fetch


def test_a_revocation_stays_known_while_no_exchange_is_made(world: World) -> None:
    flow = world.flow(NOW)
    fetch = world.fetch(flow)
    found = answer(fetch, NOW, status=REVOKED)
    assert ended(flow, found).status == "revoked"
    flow = world.flow(NOW + 2 * HOUR)
    next(flow)
    assert ended(flow, OVERLOADED).status == "revoked"


def test_the_breaker_of_a_responder_is_no_failure_of_a_certificate(
    ca: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtls_middleware.effects.breaker.retry_delay", lambda failures: 5.0)
    now = time.time()
    client = ca.issue()
    events: list[str] = []
    with Responder(ca) as server:
        store = test_ocsp.store_of(ca, OCSP(server.url, timeout=0.2))
        server.stall = 30
        for _ in range(3):
            assert test_ocsp.outcome(store, ca.issue(), now) == "unavailable"
        asked = len(server.asked)
        caplog.clear()
        stop = dependencies.observe(lambda event, reason: events.append(reason))
        with pytest.raises(Unavailable, match="the server stalls") as found:
            BlockingDriver().run(store.validate(presented(client), now))
        stop()
        assert 1 < found.value.retry_after <= 5
        assert (events, caplog.messages) == ([], [])
        assert len(server.asked) == asked
        server.stall = 0
        server.release()
        later = now
        while test_ocsp.outcome(store, client, later) != "good":
            assert later < now + 300, "the responder is not asked again"
            time.sleep(0.2)
            later += 2


@pytest.mark.parametrize(("hours", "warned"), [(0.85, False), (0.95, True)])
def test_a_status_near_its_end_that_cannot_be_renewed_is_reported(
    world: World, caplog: pytest.LogCaptureFixture, hours: float, warned: bool
) -> None:
    world.become_good(NOW)
    world.renewal(NOW + hours * HOUR).outcome.set_exception(FetchFailed("ConnectError"))
    assert world.status(NOW + hours * HOUR + 0.1).status == "good"
    lines = [each for each in caplog.messages if each.startswith("a cached OCSP response expires in")]
    assert len(lines) == int(warned)
    assert [each for each in world.events if "expires in" in each] == [each.partition(";")[0] for each in lines]
