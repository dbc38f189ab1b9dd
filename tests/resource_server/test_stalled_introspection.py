"""The introspection server stalls, or no thread can be started: the responses of both gateways, and the log."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware.effects import background
from mtls_middleware.resource_server import MemoryAnswers
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from tests.introspection_server import IntrospectionServer
from tests.key_server import KeyServer, until
from tests.resource_server.introspection import BEARER, TOKEN, active, asking
from tests.resource_server.stack import Stack


def test_an_open_circuit_is_503_at_once_and_closes_after_a_response(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    server.tokens = {TOKEN: active(mtls_client), "cached": active(mtls_client)}
    layers = stack(asking(server, cache=MemoryAnswers(), timeout=1))
    assert layers.request("Bearer cached", certificate=mtls_client).status == 200
    server.stall = 30
    for number in range(3):
        assert layers.request(f"Bearer {number}", certificate=mtls_client).status == 503
    asked = len(server.questions)
    with caplog.at_level(logging.INFO, "mtls_middleware.introspection"):
        caplog.clear()
        for number in range(30):
            outcome = layers.request(f"Bearer {number}", certificate=mtls_client)
            assert (outcome.status, outcome.reached) == (503, False)
            assert int(outcome.header("Retry-After") or 0) >= 1
            assert layers.request("Bearer cached", certificate=mtls_client).status == 200
    assert len(server.questions) <= asked + 3
    failures = [each for each in caplog.records if each.name == "mtls_middleware.introspection"]
    assert len(failures) <= 3  # of the probes, and none for each of thirty requests
    server.release()
    until(lambda: layers.request(BEARER, certificate=mtls_client).status == 200, seconds=30)


def test_one_clients_stalls_do_not_affect_another_client(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    """Two hundred certificates of the attacker with the same names are one client."""
    authority = CertificateAuthority()
    server.tokens = {TOKEN: active(mtls_client)}
    layers = stack(asking(server, timeout=1))
    server.stall = 30
    for number in range(4):
        attacker = authority.issue("CN=attacker")
        assert layers.request(f"Bearer {number}", certificate=attacker).status == 503
    server.stall = 0
    assert layers.request(BEARER, certificate=mtls_client).status == 200


class ThreadLimit:
    """As `ulimit -u`: while `reached`, the thread for exchanges cannot be started."""

    def __init__(self) -> None:
        self.reached = True
        self._start = threading.Thread.start

    def start(self, thread: threading.Thread) -> None:
        if self.reached and thread.name == "mtls-middleware exchanges":
            raise RuntimeError("can't start new thread")
        self._start(thread)


@pytest.fixture
def thread_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadLimit]:
    limit = ThreadLimit()
    monkeypatch.setattr(background, "_backgrounds", [])

    def start(thread: threading.Thread) -> None:
        limit.start(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    yield limit
    for each in background._backgrounds:
        each.end()


def check_without_a_thread(
    layers: Stack, bearer: str, client: IssuedCertificate, limit: ThreadLimit, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        outcome = layers.request(bearer, certificate=client)
        assert (outcome.status, outcome.reached) == (503, False)
        assert int(outcome.header("Retry-After") or 0) >= 1
    assert "no thread can be started" in caplog.text
    assert "ulimit -u" in caplog.text
    limit.reached = False
    until(lambda: layers.request(bearer, certificate=client).status == 200)


def test_introspection_without_a_thread_is_503_and_the_next_request_works(
    server: IntrospectionServer, stack: type[Stack], thread_limit: ThreadLimit, caplog: pytest.LogCaptureFixture
) -> None:
    client = CertificateAuthority().issue("CN=client")
    server.tokens = {TOKEN: active(client)}
    check_without_a_thread(stack(asking(server)), BEARER, client, thread_limit, caplog)


def test_keys_without_a_thread_are_503_and_the_next_request_works(
    stack: type[Stack], thread_limit: ThreadLimit, caplog: pytest.LogCaptureFixture
) -> None:
    issuer, client = TokenIssuer(), CertificateAuthority().issue("CN=client")
    with KeyServer(issuer.jwks) as keys:
        layers = stack(issuer.access_tokens(jwks_uri=keys.url, jwks=None, allow_http=True))
        check_without_a_thread(layers, f"Bearer {issuer.token(certificate=client)}", client, thread_limit, caplog)


def test_a_full_limit_is_503_at_once(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    server.stall = 30
    layers, found = stack(asking(server, max_waiting=1, timeout=30)), []
    first = threading.Thread(target=lambda: found.append(layers.request(BEARER, certificate=mtls_client).status))
    first.start()
    until(lambda: len(server.questions) == 1)
    for number in range(5):
        outcome = layers.request(f"Bearer {number}", certificate=mtls_client)
        assert (outcome.status, outcome.header("Retry-After")) == (503, "1")
    assert len(server.questions) == 1
    server.release()
    first.join()
    assert found == [200]


def test_the_introspection_event_is_reported_for_each_503(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    from mtls_middleware import dependencies

    events: list[Any] = []
    stop = dependencies.observe(lambda event, reason: events.append((event, reason)))
    server.stall = 30
    layers = stack(asking(server, timeout=0.3))
    try:
        for number in range(6):
            assert layers.request(f"Bearer {number}", certificate=mtls_client).status == 503
    finally:
        stop()
    assert [event for event, _ in events] == ["introspection_failed"] * 6
    assert "stalls" in events[-1][1]
