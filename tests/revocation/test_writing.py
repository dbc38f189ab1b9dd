"""The list as it is made, written and read, and what may go wrong meanwhile."""

import math
import threading
import time
from typing import Any

import pytest
import redis
import redis.asyncio

from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.revocation import RedisRevocations
from mtls_middleware.revocation.poller import RevocationListPoller
from mtls_middleware.revocation.redis_list import ListStatus
from mtls_middleware.revocation.writer import RevocationListWriter
from tests.key_server import until
from tests.redis_server import RedisServer
from tests.revocation.lists import AUTHORITY, BILLING, KEY, SOON, entries, following, includes, new_list


def test_an_empty_redis_is_not_a_list_before_create(redis_server: RedisServer) -> None:
    revocations = following(redis_server)
    assert includes(revocations, BILLING) == "503"
    with pytest.raises(Unavailable, match="create"):
        revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    assert includes(revocations, BILLING) == "503"
    revocations.create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
    until(lambda: includes(revocations, BILLING) is True)


def test_create_completes_a_partial_list_and_never_empties_a_list(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        RevocationListWriter(client, KEY, 0).write("create", [(bytes(32), 2_000_000_000)])  # create() is cut off here
        revocations = following(redis_server)
        assert includes(revocations, BILLING) == "503"
        assert revocations.look() is None
        with pytest.raises(Unavailable, match="create"):
            revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    revocations.create()
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: includes(revocations, BILLING) is True)
    revocations.create([{"token_id": "1", "issuer": "https://as.test", "until": SOON}])
    revocations.create()
    assert revocations.look() == ListStatus(entries=3, changes=3)
    assert includes(following(redis_server), BILLING) is True


def test_a_look_counts_what_redis_has(redis_server: RedisServer) -> None:
    revocations = following(redis_server)
    assert revocations.look() is None
    revocations.create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
    assert revocations.look() == ListStatus(entries=1, changes=1)
    many = [{"token_id": str(n), "issuer": "i", "until": SOON} for n in range(1200)]
    revocations.revoke_each(many)
    assert revocations.look() == ListStatus(entries=1201, changes=1201)
    revocations.revoke_each(many)  # as a program does that does not know whether the first attempt was written
    assert revocations.look() == ListStatus(entries=1201, changes=1201)
    with redis_server.client() as client:
        client.zadd(KEY, {"theirs": 2e16})
    with pytest.raises(Unavailable, match="unknown format"):
        revocations.look()


def test_one_invalid_revocation_writes_none_of_many(redis_server: RedisServer) -> None:
    revocations = new_list(redis_server)
    good = {"thumbprint": BILLING.thumbprint, "until": SOON}
    for wrong, said in (({"thumbprint": "A", "until": SOON}, "43 characters"), ({"jti": "1"}, "revoke_each")):
        with pytest.raises(ConfigurationError, match=said):
            revocations.revoke_each([good, wrong])
    assert revocations.look() == ListStatus(entries=0, changes=0)


def test_redis_learns_no_token_id(redis_server: RedisServer) -> None:
    revocations = new_list(redis_server)
    revocations.revoke(token_id="a-secret-id", issuer="https://as.test", until=SOON)
    with redis_server.client() as client:
        assert client.keys() == [KEY.encode()]
        assert b"a-secret-id" not in b"".join(client.zrange(KEY, 0, -1))
        assert client.ttl(KEY) == -1  # nothing that expires, or is evicted where only such keys are


def test_readers_that_poll_and_readers_that_come_late_know_the_same(redis_server: RedisServer) -> None:
    """Two writers at once."""
    revocations = new_list(redis_server)
    with redis_server.client() as client:
        early = RevocationListPoller(client, KEY)
        early.poll()

        def write(name: str) -> None:
            for part in range(6):
                revocations.revoke_each(
                    [{"token_id": f"{name}{part}.{n}", "issuer": "i", "until": SOON} for n in range(400)]
                )

        writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for each in writers:
            each.start()
        counts = []
        while any(each.is_alive() for each in writers):
            early.poll()
            counts.append(len(entries(early)))
        early.poll()
        late = RevocationListPoller(client, KEY)
        late.poll()
    assert counts == sorted(counts)
    assert len(entries(early)) == 2 * 6 * 400
    assert early.revoked == late.revoked


def test_what_redis_loses_stays_revoked_where_it_was_known(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A replica that had not got everything is made the primary, or an older copy is loaded from disk."""
    revocations = new_list(redis_server)
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


def test_a_list_that_is_created_again_replaces_the_former_one(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """So a revocation can be taken back, by hand. Nothing is accepted before the new list is complete."""
    revocations, other = new_list(redis_server), AUTHORITY.issue()
    for each in (BILLING, other):
        revocations.revoke(thumbprint=each.thumbprint, until=SOON)
    until(lambda: includes(revocations, BILLING) is True)
    with redis_server.client() as client:
        client.delete(KEY)
        RevocationListWriter(client, KEY, 0).write("create", [(bytes(32), 2_000_000_000)])
    time.sleep(0.6)
    assert [includes(revocations, each) for each in (BILLING, other)] == [True, True]
    assert "was created again" not in caplog.text
    revocations.create([{"thumbprint": other.thumbprint, "until": SOON}])
    until(lambda: includes(revocations, BILLING) is False)
    assert includes(revocations, other) is True
    until(lambda: caplog.text.count("the list was created again. Entries that only the former list had") == 1)


def test_revoking_without_redis_raises_unavailable(own_redis: RedisServer) -> None:
    revocations = new_list(own_redis)
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
    assert len(entries(again)) == 601
    assert len(set(entries(again).values())) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_list_that_is_lost_during_a_read_is_not_complete(redis_server: RedisServer, again: bool) -> None:
    """Between two reads it is deleted; and created again, with other entries, or not."""
    revocations = new_list(redis_server)
    revocations.create([{"token_id": str(n), "issuer": "i", "until": SOON} for n in range(40_000)])
    reads = []

    class Losing(redis.Redis):
        def execute_command(self, *arguments: Any, **options: Any) -> Any:
            found = super().execute_command(*arguments, **options)
            reads.append(arguments)
            if len(reads) == 2:
                super().execute_command("DEL", KEY)
                if again:
                    revocations.create([{"thumbprint": BILLING.thumbprint, "until": SOON}])
            return found

    with redis_server.client(Losing, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)) as client:
        reader = RevocationListPoller(client, KEY)
        reader.poll()
        assert (reader.read_at, entries(reader)) == (-math.inf, {})
        reader.poll()
        assert len(entries(reader)) == (1 if again else 0)
        assert (reader.read_at == -math.inf) is not again
    assert len(reads) > 3


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "allkeys-random"])
def test_a_full_redis_does_not_accept_revoked_certificates(own_redis: RedisServer, policy: str) -> None:
    """It refuses to write, and says so, or throws the whole list away, which is an outage: never a part of it."""
    revocations = new_list(own_redis, max_age=1)
    revocations.revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: includes(revocations, BILLING) is True)
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", 1)
        with pytest.raises(Unavailable, match="maxmemory" if policy == "noeviction" else "Redis|create"):
            revocations.revoke(token_id="1", issuer="i", until=SOON)
        left = client.exists(KEY)
    fresh = following(own_redis)
    for each in (revocations, fresh):
        until(lambda each=each: includes(each, BILLING) == (True if left else "503"))
    assert policy == "allkeys-random" or left
