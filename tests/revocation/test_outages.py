"""What happens to requests while Redis cannot be had, or something else lies where the list should."""

import time
from typing import Any

import pytest

from mtls_middleware.errors import Unavailable
from tests.key_server import until
from tests.redis_server import RedisServer
from tests.revocation.revoking import AUTHORITY, BILLING, KEY, SOON, following, includes, made


@pytest.mark.parametrize("outage", ["dead", "stalled", "flushed", "another list's type", "garbage", "renamed"])
@pytest.mark.parametrize("on_failure", ["refuse", "keep"])
def test_an_old_list_is_gone_by_for_a_while_and_then_503(
    own_redis: RedisServer, outage: str, on_failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """`keep` lasts 3 s longer: what it still knows is right, and then it is 503 too; the list back, all is well."""
    revocations = made(own_redis, max_age=1, on_failure=on_failure, keep_for=3)
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


@pytest.mark.parametrize("value", ["text", "hash", "stream", "foreign set"])
def test_what_another_put_under_the_key_is_neither_a_list_nor_touched(
    redis_server: RedisServer, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        {
            "text": lambda: client.set(KEY, "x"),
            "hash": lambda: client.hset(KEY, "a", "b"),
            "stream": lambda: client.xadd(KEY, {"a": "b"}),
            "foreign set": lambda: client.zadd(KEY, {"jane": 5, "john": 7}),
        }[value]()
        before = client.dump(KEY)
        revocations = following(redis_server)
        assert includes(revocations, BILLING) == "503"
        for write in (revocations.create, lambda: revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)):
            with pytest.raises(Unavailable):
                write()
        assert client.dump(KEY) == before
    assert "another type of data" in caplog.text or "unknown format" in caplog.text
