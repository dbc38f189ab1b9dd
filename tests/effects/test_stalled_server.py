"""A server that stalls: which requests wait for it, which fail at once, and how soon its recovery is noticed."""

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware.certificate import Verification
from mtls_middleware.effects import upstream
from mtls_middleware.effects.background import _current_background
from mtls_middleware.effects.exchange import Connections, Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import AwaitingDriver, Begin, BlockingDriver, FetchFor, Flow, ask
from mtls_middleware.effects.limits import Share, Shares, WaitingLimit, client_of, shares
from mtls_middleware.testing import CertificateAuthority
from tests.introspection_server import IntrospectionServer, says, send
from tests.key_server import die, raw, until

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BODY = b'{"active": false}'
A, B = (Share("name a", 25),), (Share("name b", 25),)


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        running.behaviour = says(BODY)
        yield running


def flow(need: Fetch, client: Shares) -> Flow[Response]:
    found: Response = yield FetchFor(need, client)
    return found


class Client:
    """Makes exchanges with one server for one client, over the same connections as the other clients."""

    def __init__(self, server: IntrospectionServer, connections: Connections, shares: Shares = A) -> None:
        self.url, self.connections, self.shares = server.url, connections, shares

    def fetch(self, seconds: float) -> Fetch:
        return Fetch(self.url, TLS, seconds, 1000, form=[("token", "x")], connections=self.connections)

    def get(self, seconds: float = 5.0) -> Response | FetchFailed:
        try:
            return BlockingDriver().run(flow(self.fetch(seconds), self.shares))
        except FetchFailed as failure:
            return failure

    async def get_async(self, seconds: float = 5.0) -> Response | FetchFailed:
        try:
            return await AwaitingDriver().run(flow(self.fetch(seconds), self.shares))
        except FetchFailed as failure:
            return failure

    def begin(self, seconds: float = 20.0) -> Fetch:
        """Begin an exchange in the background, of no client."""
        fetch = self.fetch(seconds)
        BlockingDriver().run(ask(Begin(fetch)))
        return fetch

    async def begin_async(self, seconds: float = 20.0) -> Fetch:
        fetch = self.fetch(seconds)
        await AwaitingDriver().run(ask(Begin(fetch)))
        return fetch

    def stall(self, number: int = 3) -> None:
        """Make exchanges that time out, one after the other."""
        for _ in range(number):
            found = self.get(0.2)
            assert isinstance(found, FetchFailed)
            assert found.retry_after is None, found


def is_rejected(found: Response | FetchFailed) -> bool:
    """Whether no exchange was made."""
    return isinstance(found, FetchFailed) and found.retry_after is not None


def test_after_three_stalls_requests_fail_at_once_until_the_server_responds(
    server: IntrospectionServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtls_middleware.effects.breaker.retry_delay", lambda failures: 5.0)  # time for 100 requests
    client = Client(server, Connections(TLS))
    server.stall = 30
    with caplog.at_level(logging.WARNING):
        client.stall()
        asked = len(server.questions)
        assert all(is_rejected(client.get()) for _ in range(100))
        assert len(server.questions) == asked
        server.release()
        until(lambda: client.get() == Response(200, BODY), seconds=30)
    assert [client.get() for _ in range(20)] == [Response(200, BODY)] * 20
    messages = [each.getMessage() for each in caplog.records if each.name == "mtls_middleware.exchanges"]
    assert ["stalls" in each for each in messages] == [True, False]
    assert "the next attempt is in 5 s" in messages[0]
    assert messages[1] == f"{server.url} responds again"


def test_the_failure_says_when_the_next_attempt_is(server: IntrospectionServer) -> None:
    client = Client(server, Connections(TLS))
    server.stall = 30
    client.stall()
    found = client.get()
    assert isinstance(found, FetchFailed)
    assert found.retry_after == 1


def test_a_probe_is_one_request_and_its_caller_waits_one_second_at_most(server: IntrospectionServer) -> None:
    client = Client(server, Connections(TLS))
    server.stall = 30
    client.stall()
    asked = len(server.questions)
    time.sleep(0.6)
    results: list[Response | FetchFailed] = []
    threads = [threading.Thread(target=lambda: results.append(client.get(20))) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)  # half of the timeout
    assert len(results) == 20
    assert len(server.questions) == asked + 1
    assert sum(map(is_rejected, results)) == 19


def test_a_probe_that_is_slower_than_a_second_still_ends_the_stall(server: IntrospectionServer) -> None:
    client = Client(server, Connections(TLS))
    server.stall = 30
    client.stall()
    server.stall = 1.5
    until(lambda: client.get(20) == Response(200, BODY), seconds=20)  # a caller gets it only if the circuit has closed


@pytest.mark.parametrize("gateway", ["threads", "event loop"])
def test_a_stalled_server_blocks_no_other_server(server: IntrospectionServer, gateway: str) -> None:
    with IntrospectionServer() as stalling:
        stalling.stall = 30
        client, other = Client(stalling, Connections(TLS)), Client(server, Connections(TLS))
        client.stall()
        if gateway == "threads":
            assert [other.get() for _ in range(10)] == [Response(200, BODY)] * 10
        else:
            assert asyncio.run(other.get_async()) == Response(200, BODY)


@pytest.mark.parametrize("gateway", ["threads", "event loop"])
def test_both_drivers_use_the_same_breaker(server: IntrospectionServer, gateway: str) -> None:
    client = Client(server, Connections(TLS))
    server.stall = 30
    if gateway == "threads":
        client.stall()
        assert is_rejected(asyncio.run(client.get_async()))
    else:
        for _ in range(3):
            asyncio.run(client.get_async(0.2))
        assert is_rejected(client.get())


# --- What is a stall


def error_response(status: int) -> Callable[[Any], None]:
    return lambda handler: send(handler, status, b"{}")


def drip(handler: Any) -> None:
    raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[b"x"] * 100, pause=0.1)(handler)


REACTIONS: dict[str, Callable[[Any], None]] = {
    "401": error_response(401),
    "500": error_response(500),
    "503": error_response(503),
    "a reset": die,
    "garbage": raw(b"\0\xff\r\n\r\n"),
    "a body that is too large": says(b"x" * 5_000),
}


@pytest.mark.parametrize("reaction", REACTIONS)
def test_a_server_that_reacts_does_not_stall(server: IntrospectionServer, reaction: str) -> None:
    server.behaviour = REACTIONS[reaction]
    client = Client(server, Connections(TLS))
    assert not any(is_rejected(client.get()) for _ in range(8))
    server.behaviour = says(BODY)
    assert client.get() == Response(200, BODY)


def test_a_refused_connection_is_no_stall(server: IntrospectionServer) -> None:
    with IntrospectionServer() as other:
        client = Client(other, Connections(TLS))
    assert not any(is_rejected(client.get()) for _ in range(8))
    client.url = server.url  # as if the server had been started again
    assert client.get() == Response(200, BODY)


def test_a_response_that_never_ends_is_a_stall(server: IntrospectionServer) -> None:
    server.behaviour = drip
    client = Client(server, Connections(TLS))
    client.stall()
    assert is_rejected(client.get())


def test_a_slow_connection_loss_is_a_stall(server: IntrospectionServer) -> None:
    """A proxy in front of a dead server may hold the connection for long before it closes it."""

    def wait_and_die(handler: Any) -> None:
        server.wait(0.4)
        die(handler)

    server.behaviour = wait_and_die
    client = Client(server, Connections(TLS))
    for _ in range(3):
        assert not is_rejected(client.get(0.7))
    assert is_rejected(client.get())


def test_time_in_the_queue_is_no_stall(server: IntrospectionServer) -> None:
    """One exchange at a time is allowed here. Most of them reach their timeout in the queue, or soon after it."""
    server.stall = 0.3
    client = Client(server, Connections(TLS), (Share("name a", 1),))

    async def many() -> list[Response | FetchFailed]:
        return await asyncio.gather(*(client.get_async(0.7) for _ in range(30)))

    found = asyncio.run(many())
    assert not any(map(is_rejected, found))
    assert sum(isinstance(each, FetchFailed) for each in found) >= 20
    assert client.get(5) == Response(200, BODY)


def test_exchanges_in_the_queue_fail_when_the_circuit_opens(server: IntrospectionServer) -> None:
    """They do not reach the server that stalls, and are no further stalls."""
    server.stall = 30
    client = Client(server, Connections(TLS), (Share("name a", 3),))

    async def many() -> list[Response | FetchFailed]:
        stalled = [asyncio.ensure_future(client.get_async(0.5)) for _ in range(3)]
        await asyncio.sleep(0.1)
        queued = [asyncio.ensure_future(client.get_async(20)) for _ in range(30)]
        return await asyncio.gather(*stalled, *queued)

    found = asyncio.run(many())
    started = len(server.questions)
    assert started <= 5  # the first and the second stall can each let another exchange start before the third stall
    assert [is_rejected(each) for each in found] == [False] * started + [True] * (33 - started)


# --- One client


def test_one_client_cannot_make_the_requests_of_another_client_fail(server: IntrospectionServer) -> None:
    connections = Connections(TLS)
    attacker, victim = Client(server, connections, A), Client(server, connections, B)
    server.stall = 30
    attacker.stall()
    assert is_rejected(attacker.get())
    server.stall = 0
    assert victim.get() == Response(200, BODY)
    until(lambda: attacker.get() == Response(200, BODY))  # the response to the victim admits a probe at once


def test_stalls_of_three_clients_make_all_requests_fail(server: IntrospectionServer) -> None:
    connections = Connections(TLS)
    server.stall = 30
    for name in "abc":
        Client(server, connections, (Share(f"name {name}", 25),)).stall(1)
    assert is_rejected(Client(server, connections, (Share("name d", 25),)).get())


def test_the_key_of_a_client_is_short_and_the_same_for_equal_names() -> None:
    authority = CertificateAuthority()
    names = [f"CN={each},OU={'x' * 60},O={'y' * 60}" for each in "aab"]
    keys = [client_of(shares(authority.issue(name).client_certificate(), None)) for name in names]
    assert keys[0] == keys[1] != keys[2]
    assert max(map(len, keys)) < 80
    assert client_of((Share("certificate x", 10), Share("names y", 25))) == "names y"
    assert client_of(()) == ""


def test_the_names_of_a_certificate_are_read_only_for_its_first_exchange() -> None:
    certificate = CertificateAuthority().issue("CN=a").client_certificate()
    requests = [certificate.with_verification(Verification.BY_PROXY) for _ in range(2)]
    first, second = (shares(each, None) for each in requests)
    assert first == second
    assert ["subject" in vars(each) for each in requests] == [True, False]


# --- The limit on waiting requests


def test_one_client_uses_half_of_the_limit() -> None:
    limit = WaitingLimit(5)
    assert [limit.enter("a") for _ in range(4)] == [True, True, True, False]
    assert [limit.enter("b") for _ in range(3)] == [True, True, False]
    limit.leave("a")
    assert [limit.enter("a"), limit.enter("b")] == [True, False]
    for client in "aaabb":
        limit.leave(client)
    assert limit._clients == {}
    assert WaitingLimit(1).enter("a")


def test_requests_beyond_max_waiting_fail_at_once(
    server: IntrospectionServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.stall = 30
    connections = Connections(TLS, max_waiting=4)
    client, other = Client(server, connections, A), Client(server, connections, B)
    threads = [threading.Thread(target=each.get, args=(20,)) for each in (client, client, other, other)]
    for each in threads:
        each.start()
    until(lambda: len(server.questions) == 4)
    with caplog.at_level(logging.ERROR):
        assert [is_rejected(each.get()) for each in (client, other) * 10] == [True] * 20
    (line,) = [each.getMessage() for each in caplog.records]
    assert "max_waiting=4" in line
    server.stall = 0
    server.release()
    for each in threads:
        each.join()
    assert [each.get() for each in (client, other)] == [Response(200, BODY)] * 2


def failed(fetch: Fetch) -> FetchFailed:
    found = fetch.outcome.exception(20)
    assert isinstance(found, FetchFailed)
    return found


def test_an_exchange_in_the_background_counts_as_a_request_that_waits(server: IntrospectionServer) -> None:
    server.stall = 30
    connections = Connections(TLS, max_waiting=4)
    client = Client(server, connections)
    begun = [client.begin(), asyncio.run(client.begin_async())]
    until(lambda: len(server.questions) == 2)
    assert is_rejected(failed(client.begin()))  # half of four, because they are of no client
    assert is_rejected(failed(asyncio.run(client.begin_async())))
    threads = [threading.Thread(target=client.get, args=(20,)) for _ in range(2)]
    for each in threads:
        each.start()
    until(lambda: len(server.questions) == 4)
    assert is_rejected(Client(server, connections, B).get())
    server.stall = 0
    server.release()
    assert [each.outcome.result(20) for each in begun] == [Response(200, BODY)] * 2
    for each in threads:
        each.join()
    assert client.begin().outcome.result(20) == Response(200, BODY)
    until(lambda: _current_background().upstream(connections)._waiting._total == 0)


def test_an_exchange_in_the_background_obeys_and_moves_the_breaker(server: IntrospectionServer) -> None:
    client = Client(server, Connections(TLS))
    server.stall = 30
    for _ in range(3):
        assert failed(client.begin(0.2)).retry_after is None
    asked = len(server.questions)
    assert is_rejected(failed(client.begin()))
    assert len(server.questions) == asked
    server.stall = 0
    server.release()
    until(lambda: client.begin().outcome.exception(20) is None, seconds=30)  # the probe


def test_an_exchange_in_the_background_starts_only_once(server: IntrospectionServer) -> None:
    connections = Connections(TLS)
    client = Client(server, connections)
    server.stall = 30
    fetch = client.begin()
    for _ in range(3):
        BlockingDriver().run(ask(Begin(fetch)))
    assert _current_background().upstream(connections)._waiting._total == 1
    server.release()
    assert fetch.outcome.result(20) == Response(200, BODY)
    assert len(server.questions) == 1


def test_a_caller_that_is_cancelled_waits_no_more(server: IntrospectionServer) -> None:
    server.stall = 30
    connections = Connections(TLS, max_waiting=2)
    client = Client(server, connections)

    async def cancelled() -> None:
        for _ in range(10):
            task = asyncio.ensure_future(client.get_async(20))
            await asyncio.sleep(0.02)
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    assert _current_background().upstream(connections)._waiting._total == 0


def test_a_flood_waits_in_a_bounded_queue(server: IntrospectionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stall = 30
    client = Client(server, Connections(TLS, max_waiting=200), (Share("name a", 5),))

    async def flood() -> int:
        tasks = [asyncio.ensure_future(client.get_async(20)) for _ in range(1_000)]
        while len(server.questions) < 5:  # noqa: ASYNC110 (of a server in another thread)
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        pending = sum(not each.done() for each in tasks)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return pending

    assert asyncio.run(flood()) == 100
    assert len(server.questions) == 5


def test_the_log_line_about_waiting_requests_comes_again_after_some_time(
    server: IntrospectionServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "_LOG_INTERVAL", 0.0)
    server.stall = 30
    client = Client(server, Connections(TLS, max_waiting=1))
    waiting = threading.Thread(target=client.get, args=(20,))
    waiting.start()
    until(lambda: len(server.questions) == 1)
    with caplog.at_level(logging.ERROR):
        assert is_rejected(client.get())
        assert is_rejected(client.get())
    assert len(caplog.records) == 2
    server.release()
    waiting.join()
