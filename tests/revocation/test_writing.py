"""The list as it is made, written and read, and what may go wrong meanwhile."""

import math
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import redis.asyncio

from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.revocation import RedisRevocations, poller
from mtls_middleware.revocation.poller import RevocationListPoller
from mtls_middleware.revocation.redis_list import ListStatus
from tests.key_server import until
from tests.redis_server import RedisServer
from tests.revocation.revoking import AUTHORITY, BILLING, KEY, PAGE, SOON, following, includes, made


def test_an_empty_redis_is_not_a_list_before_create(redis_server: RedisServer) -> None:
    revocations = following(redis_server)
    assert includes(revocations, BILLING) == "503"
    with pytest.raises(Unavailable, match="create"):
        revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    assert includes(revocations, BILLING) == "503"
    revocations.create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
    until(lambda: includes(revocations, BILLING) is True)


def test_create_completes_a_partial_list_and_never_empties_a_list(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client:
        client.zadd(KEY, {"A" * 43: SOON.timestamp()})  # as create() leaves it where it is cut off half way
        revocations = following(redis_server)
        assert includes(revocations, BILLING) == "503"
        with pytest.raises(Unavailable):
            revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
        revocations.create()
        revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
        until(lambda: includes(revocations, BILLING) is True)
        revocations.create([{"token_id": "1", "issuer": "https://as.test", "until": SOON}])
        revocations.create()
        assert client.zcount(KEY, "-inf", 10**11) == 3
    assert includes(following(redis_server), BILLING) is True


def test_a_look_counts_what_redis_has(redis_server: RedisServer) -> None:
    revocations = following(redis_server)
    assert revocations.look() is None
    revocations.create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
    assert revocations.look() == ListStatus(entries=1, changes=0)
    many = [{"token_id": str(n), "issuer": "i", "until": SOON} for n in range(1200)]
    revocations.revoke_each(many)
    assert revocations.look() == ListStatus(entries=1201, changes=1200)
    with redis_server.client() as client:
        client.zadd(KEY, {"theirs": 2e12})
    with pytest.raises(Unavailable, match="unknown format"):
        revocations.look()


def test_one_invalid_revocation_writes_none_of_many(redis_server: RedisServer) -> None:
    revocations = made(redis_server)
    good = {"thumbprint": BILLING.thumbprint, "until": SOON}
    for wrong, said in (({"thumbprint": "A", "until": SOON}, "43 characters"), ({"jti": "1"}, "revoke_each")):
        with pytest.raises(ConfigurationError, match=said):
            revocations.revoke_each([good, wrong])
    assert revocations.look() == ListStatus(entries=0, changes=0)


def test_redis_learns_no_token_id_and_forgets_what_is_over(redis_server: RedisServer) -> None:
    revocations = made(redis_server)
    revocations.revoke(token_id="a-secret-id", issuer="https://as.test", until=SOON)
    with redis_server.client() as client:
        assert client.keys() == [KEY.encode()]
        assert b"a-secret-id" not in b"".join(client.zrange(KEY, 0, -1))
        assert client.ttl(KEY) == -1  # nothing that expires, or is evicted where only such keys are
        client.zadd(KEY, {"B" * 43: time.time() - 1})
        for n in range(1200):
            revocations.revoke(token_id=str(n % 7), issuer="https://as.test", until=SOON)
        assert client.zscore(KEY, "B" * 43) is None
        assert client.zcard(KEY) <= 8 + 1001


def test_an_earlier_end_does_not_shorten_a_revocation(redis_server: RedisServer) -> None:
    revocations = made(redis_server)
    for hours in (5, 1):
        revocations.revoke(token_id="1", issuer="i", until=datetime.now(UTC) + timedelta(hours=hours))
    with redis_server.client() as client:
        ((_, score),) = client.zrangebyscore(KEY, "-inf", 10**11, withscores=True)
    assert score > time.time() + 4 * 3600


def test_readers_that_poll_and_readers_that_come_late_know_the_same(redis_server: RedisServer) -> None:
    """Two writers at once, and more at a time than the list keeps news of."""
    revocations = made(redis_server)
    with redis_server.client() as client:
        early = RevocationListPoller(client, KEY)
        early.poll()

        def write(name: str) -> None:
            for part in range(6):
                entries = [{"token_id": f"{name}{part}.{n}", "issuer": "i", "until": SOON} for n in range(400)]
                revocations.create(entries)

        writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for each in writers:
            each.start()
        counts = []
        while any(each.is_alive() for each in writers):
            early.poll()
            counts.append(len(early.revoked))
        early.poll()
        late = RevocationListPoller(client, KEY)
        late.poll()
    assert counts == sorted(counts)
    assert len(early.revoked) == 2 * 6 * 400
    assert early.revoked == late.revoked


def test_what_redis_loses_stays_revoked_where_it_was_known(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A replica that had not got everything is made the primary, or an older copy is loaded from disk."""
    revocations = made(redis_server)
    with redis_server.client() as client:
        older = client.dump(KEY)
        revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
        until(lambda: includes(revocations, BILLING) is True)
        client.restore(KEY, 0, older, replace=True)
    until(lambda: "Redis has lost changes" in caplog.text)
    other = AUTHORITY.issue()
    revocations.revoke(thumbprint=other.thumbprint, until=SOON)
    until(lambda: includes(revocations, other) is True)
    assert includes(revocations, BILLING) is True


def test_revoking_without_redis_raises_unavailable(own_redis: RedisServer) -> None:
    revocations = made(own_redis)
    own_redis.kill()
    for write in (revocations.create, lambda: revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)):
        with pytest.raises(Unavailable, match="not known whether"):
            write()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [False, True])
def test_every_kind_of_client_reads_the_same(redis_server: RedisServer, protocol: int, decode_responses: bool) -> None:
    client = redis_server.client(protocol=protocol, decode_responses=decode_responses)
    revocations = RedisRevocations(client)
    revocations.create([{"token_id": str(n), "issuer": "i", "until": SOON} for n in range(600)])
    assert includes(revocations, BILLING) is False
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: includes(revocations, BILLING) is True)
    again = RevocationListPoller(client, KEY)
    again.poll()
    assert len(again.revoked) == 601
    assert len(set(again.revoked.values())) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_list_that_is_lost_while_it_is_read_is_never_taken_for_whole(redis_server: RedisServer, again: bool) -> None:
    """Between two pages it is deleted; made again, with other entries, or not."""
    revocations = made(redis_server)
    revocations.create([{"token_id": str(n), "issuer": "i", "until": SOON} for n in range(5000)])
    pages = []

    class Losing(redis.Redis):
        def zscan(self, *arguments: Any, **options: Any) -> Any:
            page = super().zscan(*arguments, **options)
            if not pages:
                self.delete(KEY)
                if again:
                    revocations.create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
            pages.append(page)
            return page

    with redis_server.client(Losing, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)) as client:
        reader = RevocationListPoller(client, KEY)
        reader.poll()
        assert (reader.read_at, reader.revoked) == (-math.inf, {})
        reader.poll()
        assert len(reader.revoked) == (1 if again else 0)
        assert (reader.read_at == -math.inf) is not again
    assert len(pages) > 1


def test_what_is_over_is_forgotten_by_the_clock_of_redis(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(redis_server)
    monkeypatch.setattr(poller, "_CLEANUP_INTERVAL", 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the clock of this machine is of no account
    with redis_server.client() as client:
        client.zadd(KEY, {"B" * 43: client.time()[0] + 2, "C" * 43: client.time()[0] + 1000})
        reader = RevocationListPoller(client, KEY)
        reader.poll()
        assert len(reader.revoked) == 2
        client.zremrangebyscore(KEY, "-inf", 10**11)
        until(lambda: reader.poll() or len(reader.revoked) == 1)


def test_a_user_with_the_rights_on_the_page_reads_and_another_writes(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    reading = re.findall(r"`(\+zrange [^`]*)`", PAGE)[0].split()
    writing = [*reading, *re.findall(r"`(\+eval)`\s+and\s+`([^`]*)`\s+beside", PAGE)[0]]
    with redis_server.client() as admin:
        for name, rights in (("reads", reading), ("writes", writing), ("nothing", [])):
            admin.execute_command("ACL", "SETUSER", name, "on", ">password", f"~{KEY}", *" ".join(rights).split())

        def as_user(name: str) -> RedisRevocations:
            return RedisRevocations(redis_server.client(username=name, password="password"))

        as_user("writes").create()
        as_user("writes").revoke(thumbprint=BILLING.thumbprint, until=SOON)
        assert includes(as_user("reads"), BILLING) is True
        with pytest.raises(Unavailable):
            as_user("reads").revoke(thumbprint=BILLING.thumbprint, until=SOON)
        assert includes(as_user("nothing"), BILLING) == "503"
        assert "let the user of the client read this key" in caplog.text
        admin.execute_command("ACL", "DELUSER", "reads", "writes", "nothing")


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "allkeys-random"])
def test_a_full_redis_does_not_accept_revoked_certificates(own_redis: RedisServer, policy: str) -> None:
    """It refuses to write, and says so, or throws the whole list away, which is an outage: never a part of it."""
    revocations = made(own_redis, max_age=1)
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: includes(revocations, BILLING) is True)
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", 1)
        with pytest.raises(Unavailable):
            revocations.revoke(token_id="1", issuer="i", until=SOON)
        left = client.exists(KEY)
    fresh = following(own_redis)
    for each in (revocations, fresh):
        until(lambda each=each: includes(each, BILLING) == (True if left else "503"))
    assert policy == "allkeys-random" or left


def test_without_a_thread_it_is_503_until_there_is_one(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    made(redis_server)
    revocations = following(redis_server)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", exhausted)
        assert includes(revocations, BILLING) == "503"
    assert includes(revocations, BILLING) is False
