"""Threads, forks and the cost of following a list."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from mtls_middleware.revocation import RedisRevocations, RevocableTokens, poller
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.growth import assert_grows
from tests.key_server import until
from tests.live.servers import ROOT
from tests.redis_server import RedisServer
from tests.resource_server.stack import Stack
from tests.revocation.lists import BILLING, SOON, following, includes, new_list


def test_a_request_sends_nothing_to_redis(
    stack: type[Stack], redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    layers = stack(RevocableTokens(mtls_issuer.access_tokens(), new_list(redis_server)))
    bearer = f"Bearer {mtls_issuer.token(certificate=mtls_client)}"
    assert layers.request(bearer, certificate=mtls_client).status == 200
    with redis_server.client() as client:
        # Nobody else polls: those of other tests went with their objects.
        gc.collect()
        time.sleep(0.6)
        client.config_resetstat()
        start = time.monotonic()
        assert {layers.request(bearer, certificate=mtls_client).status for _ in range(1000)} == {200}
        polls = (time.monotonic() - start) / 0.25
        calls = {name: each["calls"] for name, each in client.info("commandstats").items()}
    calls.pop("cmdstat_config|resetstat", None)
    assert sum(calls.values()) <= polls + 3, calls
    assert calls.keys() <= {"cmdstat_zrange", "cmdstat_info"}


def test_a_hundred_thousand_entries_cost_a_request_no_more_than_none(redis_server: RedisServer) -> None:

    def prepare(entries: int) -> Callable[[], object]:
        revocations = following(redis_server, key=f"list of {entries}")
        revocations.create({"token_id": str(n), "issuer": "i", "until": SOON} for n in range(entries))
        until(lambda: includes(revocations, BILLING) is False, seconds=60)
        return lambda: [b"x" * 32 in revocations for _ in range(500)]

    assert_grows(prepare, 1, 100_000, at_most=20)


FORKING = """
import os, sys, time, warnings
import redis
from mtls_middleware.revocation import RedisRevocations
warnings.simplefilter("ignore")  # from Python 3.12 on: there is a thread, and that is the point
once = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
client = redis.Redis(port=int(sys.argv[1]), socket_timeout=0.5, socket_connect_timeout=0.5, retry=once)
revocations, entry = RedisRevocations(client), bytes(32)
assert entry not in revocations
child = os.fork()
end = time.monotonic() + 20
os.write(1, b"asking\\n")
while entry not in revocations and time.monotonic() < end:
    time.sleep(0.01)
assert entry in revocations
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_of_a_process_that_follows_follows_too(redis_server: RedisServer) -> None:
    revocations = new_list(redis_server)
    process = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(redis_server.port)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["asking\n"] * 2
    revocations.revoke(thumbprint="A" * 43, until=SOON)
    assert process.wait(60) == 0
    process.stdout.close()


def test_concurrent_threads_share_one_follower_that_ends_with_its_object(redis_server: RedisServer) -> None:
    new_list(redis_server)
    others = set(threading.enumerate())

    def followers() -> int:
        return sum(each.name == "mtls_middleware.revocation" for each in set(threading.enumerate()) - others)

    revocations = following(redis_server)
    asking = [threading.Thread(target=revocations.follow) for _ in range(40)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert includes(revocations, BILLING) is False
    until(lambda: followers() == 1)
    del revocations
    gc.collect()
    until(lambda: followers() == 0)


def test_the_first_request_of_a_process_waits_for_the_list(redis_server: RedisServer) -> None:
    new_list(redis_server)
    for _ in range(20):
        assert includes(following(redis_server), BILLING) is False


@pytest.mark.parametrize("entries", [100, poller._LONG_LIST + 1000])
def test_a_request_in_an_event_loop_does_not_wait_for_a_long_list(
    redis_server: RedisServer, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "_PAUSE", 0.02)
    following(redis_server).create({"token_id": str(each), "issuer": "i", "until": SOON} for each in range(entries))
    is_long = entries > 1000

    async def first_requests() -> list[bool | str]:
        revocations = following(redis_server)
        found = [includes(revocations, BILLING)]
        while found[-1] == "503":
            await asyncio.sleep(0.01)
            found.append(includes(revocations, BILLING))
        return found

    assert asyncio.run(first_requests())[0] == ("503" if is_long else False)
    assert includes(following(redis_server), BILLING) is False  # outside of an event loop

    async def following_first() -> bool | str:
        revocations = following(redis_server)
        revocations.follow()
        return includes(revocations, BILLING)

    assert asyncio.run(following_first()) is False


def test_the_first_requests_wait_a_second_at_most_in_all(redis_server: RedisServer) -> None:
    """While a name is looked up, which no timeout of the client bounds."""
    looked_up = threading.Event()

    class Slow(redis.Redis):
        def execute_command(self, *arguments: Any, **options: Any) -> Any:
            looked_up.wait(20)
            return super().execute_command(*arguments, **options)

    new_list(redis_server)
    revocations = RedisRevocations(redis_server.client(Slow, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)))
    start = time.monotonic()
    assert {includes(revocations, BILLING) for _ in range(200)} == {"503"}
    assert time.monotonic() - start < 10  # not two hundred seconds
    looked_up.set()
    until(lambda: includes(revocations, BILLING) is False)
