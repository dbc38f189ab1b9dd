"""How long five hundred exchanges at once hold up the event loop of the application: the figures in docs/tokens.md.

`python -m pytest tests/faults/test_event_loop.py -s` shows them.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware.resource_server import IntrospectedAccessTokens
from mtls_middleware.testing import IssuedCertificate
from tests.faults.server_process import ServerProcess
from tests.resource_server.stack import ASGIStack


async def longest(work: Any) -> tuple[float, float]:
    """Seconds between two turns of a task that does nothing but come again, while `work` goes on: how long the loop was
    away, and for how long of it its thread was at work. The first counts the machine's other business too.
    """
    away, busy, running = 0.0, 0.0, asyncio.ensure_future(work)
    clock, thread = time.monotonic(), time.thread_time()
    while not running.done():
        await asyncio.sleep(0.001)
        away, clock = max(away, time.monotonic() - clock), time.monotonic()
        busy, thread = max(busy, time.thread_time() - thread), time.thread_time()
    await running
    return away, busy


@contextlib.contextmanager
def only_what_an_application_has() -> Iterator[None]:
    """The garbage collector leaves the test run's own objects alone: to look through them takes longer than that."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("arriving", [10, 500], ids=["as a server reads them", "in one turn of the loop"])
def test_five_hundred_exchanges_do_not_hold_up_the_event_loop(arriving: int, mtls_client: IssuedCertificate) -> None:
    with ServerProcess() as server:
        stack = ASGIStack(IntrospectedAccessTokens(**server.options, timeout=30))
        bearers = [f"Bearer bound.{mtls_client.thumbprint}.{at}" for at in range(500)]
        requests = [stack.asked(bearer, certificate=mtls_client) for bearer in bearers]

        async def gather_all() -> None:
            tasks = []
            for at, request in enumerate(requests):
                tasks.append(asyncio.create_task(request))
                if at % arriving == 0:
                    await asyncio.sleep(0)
            assert {each.status for each in await asyncio.gather(*tasks)} == {200}

        begun = time.monotonic()
        with only_what_an_application_has():
            away, busy = asyncio.run(longest(gather_all()))
        print(
            f"500 exchanges in {time.monotonic() - begun:.2f} s; between two turns the event loop was away for "
            f"{away * 1000:.0f} ms, and at work for {busy * 1000:.0f} ms at the longest"
        )
        assert server.counts().requests == 500
