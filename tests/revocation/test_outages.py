"""What happens to requests while Redis cannot be had, or something else lies where the list should."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from mtls_middleware.errors import Unavailable
from mtls_middleware.revocation import RedisRevocations, poller
from mtls_middleware.revocation.poller import RevocationListPoller
from tests.key_server import until
from tests.redis_server import RedisServer
from tests.revocation.lists import AUTHORITY, BILLING, KEY, SOON, entries, following, includes, new_list


@pytest.mark.parametrize("outage", ["dead", "stalled", "flushed", "another list's type", "garbage", "renamed"])
@pytest.mark.parametrize("on_failure", ["refuse", "keep"])
def test_an_old_list_is_gone_by_for_a_while_and_then_503(
    own_redis: RedisServer, outage: str, on_failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """`keep` lasts 3 s longer: what it still knows is right, and then it is 503 too; the list back, all is well."""
    revocations = new_list(own_redis, max_age=1, on_failure=on_failure, keep_for=3)
    gone, stays = AUTHORITY.issue("CN=gone"), AUTHORITY.issue("CN=stays")
    revocations.revoke(thumbprint=gone.thumbprint, until=SOON)
    until(lambda: includes(revocations, gone) is True)
    with own_redis.client() as client:
        {
            "dead": own_redis.kill,
            "stalled": own_redis.stop,
            "flushed": client.flushall,
            "another list's type": lambda: client.set(KEY, "x"),
            "garbage": lambda: client.zadd(KEY, {"x": 10**17}),
            "renamed": lambda: client.rename(KEY, "elsewhere"),
        }[outage]()
    seen = []
    start = time.monotonic()
    while not seen or seen[-1] != "503":
        now = includes(revocations, gone), includes(revocations, stays)
        assert now[0] in (True, "503")  # never let in again
        seen.append("503" if "503" in now else now)
        time.sleep(0.02)
        assert time.monotonic() - start < 30
    assert (True, False) in seen
    assert on_failure == "refuse" or time.monotonic() - start > 1.5
    assert includes(following(own_redis, max_age=1, on_failure="keep", keep_for=3), stays) == "503"  # never saw it
    assert gone.thumbprint not in caplog.text
    assert f"cannot read the list under '{KEY}' in Redis: " in caplog.text
    if outage == "dead":
        own_redis.start()
    own_redis.go_on()
    with own_redis.client() as client:
        if outage == "renamed":
            client.rename("elsewhere", KEY)
        elif outage == "garbage":
            client.zrem(KEY, "x")
        elif outage != "stalled":  # the list is lost: made anew, from the records of whoever revoked
            client.delete(KEY)
            revocations.create([{"thumbprint": gone.thumbprint, "until": SOON}])
    until(lambda: includes(revocations, stays) is False, seconds=20)
    assert includes(revocations, gone) is True


@pytest.mark.parametrize("value", ["text", "hash", "stream", "foreign set", "earlier release"])
def test_what_another_put_under_the_key_is_neither_a_list_nor_touched(
    redis_server: RedisServer, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        {
            "text": lambda: client.set(KEY, "x"),
            "hash": lambda: client.hset(KEY, "a", "b"),
            "stream": lambda: client.xadd(KEY, {"a": "b"}),
            "foreign set": lambda: client.zadd(KEY, {"jane": 5, "john": 7}),
            "earlier release": lambda: client.zadd(KEY, {"A" * 43: 2e9, f"{'B' * 22}:1:2000000000:{'A' * 43}": 2e12}),
        }[value]()
        before = client.dump(KEY)
        revocations = following(redis_server)
        assert includes(revocations, BILLING) == "503"
        for write in (revocations.create, lambda: revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)):
            with pytest.raises(Unavailable, match="set key="):
                write()
        assert client.dump(KEY) == before
    assert (
        "another type of data" in caplog.text or "an earlier release of this library, wrote to the key" in caplog.text
    )


def test_a_process_that_cannot_keep_up_responds_503_after_max_age(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read finds more pages, as if others wrote faster than this process reads. What was read is in force."""
    monkeypatch.setattr(poller, "_PAGES", 2)
    new_list(redis_server)
    writer, floods = following(redis_server), []

    class Overtaken(redis.Redis):
        def execute_command(self, *arguments: Any, **options: Any) -> Any:
            if floods and "BYSCORE" in arguments:
                floods.append(1)
                for part in range(3):
                    ids = (f"{len(floods)} {part} {number}" for number in range(400))
                    writer.revoke_each({"token_id": each, "issuer": "i", "until": SOON} for each in ids)
            return super().execute_command(*arguments, **options)

    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    revocations = RedisRevocations(redis_server.client(Overtaken, retry=retry), max_age=1)
    assert includes(revocations, BILLING) is False
    writer.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    floods.append(1)
    seen = []
    begun = time.monotonic()
    until(lambda: seen.append(includes(revocations, BILLING)) or seen[-1] == "503", seconds=20)
    assert time.monotonic() - begun < 10
    assert True in seen
    assert len(floods) > 3
    floods.clear()
    until(lambda: includes(revocations, BILLING) is True, seconds=20)


def test_a_read_is_resumed_after_each_failure(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "_PAGES", 3)
    following(redis_server).create({"token_id": str(each), "issuer": "i", "until": SOON} for each in range(20_000))
    commands = []

    class Failing(redis.Redis):
        def execute_command(self, *arguments: Any, **options: Any) -> Any:
            commands.append(arguments)
            if len(commands) % 4 == 0:
                raise redis.ConnectionError
            return super().execute_command(*arguments, **options)

    with redis_server.client(Failing, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)) as client:
        reader = RevocationListPoller(client, KEY)
        polls = 0
        while reader.read_at == -math.inf:
            reader.poll()
            polls += 1
    assert len(entries(reader)) == 20_000
    starts = [arguments[2] for arguments in commands if "BYSCORE" in arguments]
    assert starts == sorted(starts)
    assert polls > 5
    assert len(commands) < 3 * 40  # 40 pages, two more in each read, and a failure after two reads


def test_the_age_of_a_copy_counts_from_its_last_read(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that takes longer than max_age does not make the copy too old."""
    following(redis_server).create({"token_id": str(each), "issuer": "i", "until": SOON} for each in range(20_000))
    for name, value in (("_PAGES", 2), ("_SLICE", 500), ("_PAUSE", 0.01)):
        monkeypatch.setattr(poller, name, value)
    with redis_server.client() as client:
        reader = RevocationListPoller(client, KEY)
        begun = time.monotonic()
        reader.poll()
        assert reader.read_at - begun > 40 * 0.01 / 2


def test_a_long_read_pauses_for_other_threads(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    following(redis_server).create({"token_id": str(each), "issuer": "i", "until": SOON} for each in range(20_000))
    pauses: list[float] = []
    monkeypatch.setattr(poller, "time", SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=pauses.append))
    with redis_server.client() as client:
        reader = RevocationListPoller(client, KEY)
        reader.poll()
        read = len(pauses)
        assert read >= 2 * (20_000 // 3000)  # the entries are read, and then looked through for expired ones
        monkeypatch.setattr(poller, "_CLEANUP_INTERVAL", 0.0)
        reader.poll()
        assert len(pauses) - read >= 20_000 // 3000
