"""The introspection server fails under load, fifty threads or five hundred tasks at once: what they are answered."""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware.resource_server import IntrospectedAccessTokens, MemoryAnswers
from mtls_middleware.testing import IssuedCertificate
from tests.faults.server_process import FAULTS, ServerProcess
from tests.gateways import Outcome
from tests.key_server import until
from tests.resource_server.stack import ASGIStack, WSGIStack

# A batch of requests at once, (token, certificate) each, and their outcomes in the same order.
Batch = list[tuple[str, IssuedCertificate]]
Load = Callable[[Any, Batch], list[Outcome]]


def threads(tokens: Any, batch: Batch) -> list[Outcome]:
    """Fifty threads through the WSGI layers."""
    stack, barrier = WSGIStack(tokens), threading.Barrier(50)
    outcomes: dict[int, Outcome] = {}

    def run_part(first: int) -> None:
        barrier.wait()
        for at in range(first, len(batch), 50):
            token, certificate = batch[at]
            outcomes[at] = stack.request(f"Bearer {token}", certificate=certificate)

    running = [threading.Thread(target=run_part, args=(first,)) for first in range(50)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    return [outcomes[at] for at in range(len(batch))]


def tasks(tokens: Any, batch: Batch) -> list[Outcome]:
    """All at once through the ASGI layers."""
    stack = ASGIStack(tokens)

    async def gather_all() -> list[Outcome]:
        return await asyncio.gather(*(stack.asked(f"Bearer {token}", certificate=holder) for token, holder in batch))

    return asyncio.run(gather_all())


LOADS: dict[str, tuple[Load, int]] = {"50 threads": (threads, 100), "500 tasks": (tasks, 500)}


@pytest.fixture(params=LOADS.values(), ids=LOADS)
def load(request: pytest.FixtureRequest) -> tuple[Load, int]:
    found: tuple[Load, int] = request.param
    return found


@pytest.fixture(scope="module")
def shared() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


@pytest.fixture
def server(shared: ServerProcess) -> ServerProcess:
    shared.kill()
    shared.start()
    return shared


def asking(server: ServerProcess, **options: Any) -> IntrospectedAccessTokens:
    return IntrospectedAccessTokens(**{**server.options, "timeout": 20, **options})


def mixed(number: int, client: IssuedCertificate, other: IssuedCertificate) -> Batch:
    """In turn: good, another's, unbound, not active: every token another one."""
    kinds = itertools.cycle([f"bound.{client.thumbprint}", f"bound.{other.thumbprint}", "unbound", "revoked"])
    return [(f"{kind}.{at}", client) for at, kind in zip(range(number), kinds, strict=False)]


TRUE = [200, 401, 401, 401]  # what the four kinds are answered by a server that is well


def check_503(outcomes: list[Outcome]) -> None:
    """Nobody can say: neither yes nor no, and the client is told when to come again."""
    assert Counter((each.status, each.reached) for each in outcomes) == {(503, False): len(outcomes)}
    assert all(int(each.header("Retry-After") or 0) >= 1 for each in outcomes)


@pytest.mark.case("131", "132")
def test_a_server_that_is_well_is_asked_once_for_each_token(
    server: ServerProcess,
    load: tuple[Load, int],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
) -> None:
    run, number = load
    outcomes = run(asking(server), mixed(number, mtls_client, mtls_other_client))
    assert [each.status for each in outcomes] == TRUE * (number // 4)
    assert [each.reached for each in outcomes] == [True, False, False, False] * (number // 4)
    counts = server.counts()
    assert counts.requests == len(counts.tokens) == number
    assert counts.connections <= 50


@pytest.mark.case("133")
@pytest.mark.standard("A22", "F17")
@pytest.mark.parametrize("fault", [*FAULTS, "dead"])
def test_an_outage_rejects_all_requests_and_recovery_admits_valid_ones(
    server: ServerProcess,
    load: tuple[Load, int],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
    fault: str,
) -> None:
    run, number = load
    batch, tokens = mixed(number, mtls_client, mtls_other_client), asking(server, timeout=5)
    if fault == "dead":
        server.kill()
    else:
        server.fault(fault)
    check_503(run(tokens, batch))
    if fault == "dead":
        server.start()
    else:
        assert server.counts().requests <= 2 * number  # once more after a broken connection, and no more
        server.fault(None)
    well = run(asking(server), batch)
    assert [each.status for each in well] == TRUE * (number // 4)
    until(lambda: run(tokens, batch[:1])[0].status == 200)  # after a stall, until the next probe
    again = run(tokens, batch[:100])  # the connections of before do no harm
    assert [each.status for each in again] == TRUE * 25


@pytest.mark.case("133")
def test_faults_that_come_and_go_under_load_never_let_a_bad_one_in(
    server: ServerProcess,
    load: tuple[Load, int],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
) -> None:
    run, number = load
    tokens, stopped, batches = asking(server, timeout=1), threading.Event(), 0
    seen: Counter[tuple[int, int]] = Counter()

    def harm() -> None:
        for fault in itertools.cycle([*FAULTS, None, "dead"]):
            if stopped.wait(0.15):
                return
            if fault == "dead":
                server.kill()
                server.start()
            else:
                server.fault(fault)

    harming = threading.Thread(target=harm)
    harming.start()
    end = time.monotonic() + 6
    try:
        while time.monotonic() < end:
            batch = mixed(number, mtls_client, mtls_other_client)
            for at, outcome in enumerate(run(tokens, batch)):
                seen[at % 4, outcome.status] += 1
                assert outcome.reached == (outcome.status == 200)
            batches += 1
    finally:
        stopped.set()
        harming.join()
    print(f"{batches} batches of {number}: {dict(seen)}")
    assert set(seen) <= {(0, 200), *((kind, status) for kind in (1, 2, 3) for status in (401, 503)), (0, 503)}
    assert any(status == 503 for _, status in seen)


def test_what_is_remembered_outlives_an_outage_and_no_more_is(
    server: ServerProcess,
    load: tuple[Load, int],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
) -> None:
    run, number = load
    tokens = asking(server, cache=MemoryAnswers(), remember_active=300, remember_inactive=300)
    batch = mixed(number, mtls_client, mtls_other_client)
    assert [each.status for each in run(tokens, batch)] == TRUE * (number // 4)
    server.kill()
    assert [each.status for each in run(tokens, batch)] == TRUE * (number // 4)
    stolen = [(token, mtls_other_client) for token, _ in batch if token.startswith(f"bound.{mtls_client.thumbprint}")]
    assert {each.status for each in run(tokens, stolen[:50] * 2)} == {401}
    check_503(run(tokens, [(f"{token}.new", certificate) for token, certificate in batch]))


def test_all_who_ask_about_one_token_at_once_share_one_exchange(
    server: ServerProcess, load: tuple[Load, int], mtls_client: IssuedCertificate
) -> None:
    run, number = load
    four = [f"bound.{mtls_client.thumbprint}.{each}" for each in range(4)]
    batch = [(token, mtls_client) for token in four] * (number // 4)
    outcomes = run(asking(server, cache=MemoryAnswers()), batch)
    assert {each.status for each in outcomes} == {200}
    assert server.counts().tokens == dict.fromkeys(four, 1)
