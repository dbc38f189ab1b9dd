"""A server of keys that is down, slow, too large or something else altogether: never a 200."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware import Refused
from mtls_middleware.effects.flow import Flow
from mtls_middleware.effects.remote_document import COOL_DOWN
from mtls_middleware.errors import Unavailable
from mtls_middleware.retry import retry_delay
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.jwks.key_sources import HOUR, START, fetched, fetching, protected
from tests.jwks.misbehaviour import DRIPS, MISBEHAVIOUR
from tests.key_server import KeyServer, answer, die
from tests.loopback import Behaviour
from tests.resource_server.stack import Stack


@pytest.mark.case("128")
@pytest.mark.parametrize("behaviour", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_without_keys_a_broken_key_server_means_try_later_and_never_yes(
    stack: type[Stack], behaviour: Behaviour, issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.behaviour = behaviour
    app, text = protected(stack, issuer, server), issuer.token(certificate=mtls_client)
    begun = time.monotonic()
    for _ in range(3):
        outcome = app.request(f"Bearer {text}", certificate=mtls_client)
        assert (outcome.status, outcome.challenge, outcome.reached) == (503, None, False)
        assert 1 <= int(outcome.header("Retry-After") or 0) <= COOL_DOWN
        assert outcome.header("Cache-Control") == "no-store"
    assert server.requests <= 1 + (time.monotonic() - begun) / retry_delay(1)


@pytest.mark.case("128")
@pytest.mark.parametrize("behaviour", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_with_keys_a_broken_key_server_is_borne_for_an_hour(
    behaviour: Behaviour, server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    keys = fetched(server)
    good = run(keys.current(START))
    server.behaviour = behaviour
    for late in (600, 601, 629, 630, 2000, 600 + HOUR - 1):
        assert run(keys.current(START + late)) is good
    with pytest.raises(Unavailable):
        run(keys.current(START + 600 + HOUR))
    # At 0, 600, 601, 629, 2000 and 4199. The delay is 2 s at 630, and 8 s at 4200.
    assert server.requests == 6
    server.behaviour = None
    assert run(keys.current(START + 600 + HOUR + COOL_DOWN)).keys


@pytest.mark.case("128")
def test_an_unknown_key_id_is_rejected_with_401_during_an_outage(
    server: KeyServer, issuer: TokenIssuer, run: Callable[[Flow[Any]], Any]
) -> None:
    tokens = fetching(issuer, server)
    run(tokens.validate(issuer.token(), time.time()))
    server.behaviour = die
    with pytest.raises(Refused) as refusal:
        run(tokens.validate(issuer.token(headers={"kid": "unknown"}), time.time() + COOL_DOWN))
    assert refusal.value.code == "invalid_token"
    assert run(tokens.validate(issuer.token(), time.time()))


def test_a_failure_is_tried_again_soon_and_then_less_often(
    server: KeyServer, run: Callable[[Flow[Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    server.behaviour = answer(500)
    keys, attempts = fetched(server), []
    for tenth in range(1300):
        with pytest.raises(Unavailable):
            run(keys.current(START + tenth / 10))
        if server.requests > len(attempts):
            attempts.append(tenth / 10)
    delays = [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30][: len(attempts)]
    assert len(attempts) >= 8
    for delay, (before, after) in zip(delays, itertools.pairwise(attempts), strict=False):
        assert delay <= after - before < delay + 3  # an attempt takes some time itself
    lines = [line.rpartition("after ")[2] for line in caplog.messages]
    assert lines == [f"{delay:g} s at the earliest" for delay in delays]


def test_retry_after_counts_down_to_the_next_attempt(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    server.behaviour = answer(500)
    keys = fetched(server)
    for late, expected in ((0, 0.5), (10, 1), (20, 2), (30, 4), (40, 8), (60, 16), (66, 10), (100, 30), (129.5, 1)):
        with pytest.raises(Unavailable) as refusal:
            run(keys.current(START + late))
        assert expected <= refusal.value.retry_after < expected + 3  # an attempt takes some time itself
    assert server.requests == 7
    server.behaviour = None
    assert run(keys.current(START + 135)).keys


def test_a_key_server_that_is_back_at_once_is_used_at_once(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    server.behaviour = die
    keys = fetched(server)
    with pytest.raises(Unavailable):
        run(keys.current(START))
    server.behaviour = None
    assert run(keys.current(START + 0.6)).keys
    server.behaviour = die  # the success counts: the next failure is a first failure again
    assert run(keys.current(START + 700)).keys
    server.behaviour = None
    renewed = server.requests
    assert run(keys.current(START + 700.6)).keys
    assert server.requests == renewed + 1


def test_unknown_key_ids_do_not_hammer_a_key_server_that_is_down(
    server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    keys = fetched(server)
    run(keys.current(START))
    server.behaviour = die
    for tenth in range(1200):
        run(keys.refreshed(START + COOL_DOWN + tenth / 10, "unknown"))
    assert server.requests == 1 + 9  # after 0.5, 1, 2, 4, 8, 16, 30 and 30 s


@pytest.mark.parametrize("late", [-20, -5, 0.2, 0.4])
def test_a_request_with_an_older_time_does_not_shorten_the_delay(
    late: float, server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    server.behaviour = die
    keys = fetched(server)
    for moment in (START, START + late):
        with pytest.raises(Unavailable) as refusal:
            run(keys.current(moment))
        assert 1 <= refusal.value.retry_after <= COOL_DOWN
    assert server.requests == 1


def test_an_unreachable_key_server_causes_503(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    issuer = TokenIssuer()
    with KeyServer(issuer.jwks) as server:
        app = protected(stack, issuer, server)
    outcome = app.request(f"Bearer {issuer.token(certificate=mtls_client)}", certificate=mtls_client)
    assert (outcome.status, outcome.reached) == (503, False)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    status: int, issuer: TokenIssuer, server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    with KeyServer(issuer.jwks) as elsewhere:
        server.behaviour = answer(status, Location=elsewhere.url)
        with pytest.raises(Unavailable):
            run(fetched(server).current(START))
        assert elsewhere.requests == 0


@pytest.mark.case("128")
def test_a_hundred_megabytes_are_not_read_to_their_end(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    sent = 0

    def endless(handler: Any) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Length", "100000000")
        handler.end_headers()
        while sent < 100_000_000:
            sent += handler.wfile.write(b" " * 65_536)

    server.behaviour = endless
    with pytest.raises(Unavailable):
        run(fetched(server).current(START))
    assert sent < 20_000_000  # most of it in the buffers of two sockets


@pytest.mark.case("128")
@pytest.mark.parametrize("behaviour", DRIPS.values(), ids=DRIPS)
def test_the_whole_answer_has_to_be_there_in_time(
    behaviour: Behaviour, server: KeyServer, run: Callable[[Flow[Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtls_middleware.effects.remote_document._TIMEOUT", 1.5)
    server.behaviour = behaviour
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        run(fetched(server).current(START))
    assert time.monotonic() - begun < 20  # of sixty seconds


def test_proxies_of_the_environment_are_not_used(
    issuer: TokenIssuer, server: KeyServer, run: Callable[[Flow[Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with KeyServer(issuer.jwks) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert run(fetched(server).current(START)).keys
        assert (server.requests, proxy.requests) == (1, 0)
