"""A primary with replicas, Sentinel, and Redis Cluster: what a failover loses, and how it is prevented or detected."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.cluster
import redis.sentinel

from mtls_middleware import ConfigurationError
from mtls_middleware.errors import Unavailable
from mtls_middleware.revocation import RedisRevocations
from mtls_middleware.testing import IssuedCertificate
from tests.key_server import until
from tests.live.servers import free_port
from tests.redis_server import RedisServer
from tests.revocation.lists import AUTHORITY, BILLING, SOON, following, includes

CERTIFICATES = [AUTHORITY.issue() for _ in range(4)]
OPTIONS = {"socket_timeout": 1, "socket_connect_timeout": 1}


class Pair:
    """A primary with one replica, and clients that follow the address of the primary."""

    def __init__(self, primary: RedisServer, replica: RedisServer) -> None:
        self.primary, self.replica = primary, replica
        self._clients: list[Any] = []

    def list(self, **options: Any) -> RedisRevocations:
        self._clients.append(self.primary.client(retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1)))
        return RedisRevocations(self._clients[-1], **options)

    def cut_off(self) -> None:
        """From now on, the replica gets no changes."""
        with self.replica.client() as client:
            client.replicaof("NO", "ONE")

    def fail_over(self) -> None:
        self.primary.kill()
        self.cut_off()
        for each in self._clients:
            each.connection_pool.connection_kwargs["port"] = self.replica.port
            each.connection_pool.reset()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        # A replica stores what the primary sends at first in the current folder.
        primary = stack.enter_context(RedisServer("--repl-diskless-sync-delay", 0))
        replica = stack.enter_context(RedisServer("--dir", tmp_path, "--replicaof", "127.0.0.1", primary.port))
        client = stack.enter_context(replica.client())
        until(lambda: client.info("replication")["master_link_status"] == "up", seconds=60)
        yield Pair(primary, replica)


def revoke(revocations: RedisRevocations, *certificates: IssuedCertificate) -> None:
    for each in certificates:
        revocations.revoke(thumbprint=each.thumbprint, until=SOON)


def confirmed(write: Callable[[], object]) -> None:
    """Call a method again until replicas confirm it, which takes its time on a busy machine."""

    def is_done() -> bool:
        try:
            write()
        except Unavailable:
            return False
        return True

    until(is_done, seconds=60)


def revoked_states(revocations: RedisRevocations) -> list[bool | str]:
    return [includes(revocations, each) for each in CERTIFICATES]


@pytest.mark.parametrize("again", [True, False])
def test_a_process_detects_that_a_failover_lost_revocations(
    pair: Pair, again: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """After it, another certificate takes the number of a lost one, and the last of the lost ones is revoked again."""
    writer, reader = pair.list(replicas=1), pair.list()
    confirmed(writer.create)
    confirmed(lambda: revoke(writer, CERTIFICATES[0]))
    pair.cut_off()
    careless = pair.list()
    revoke(careless, CERTIFICATES[1], CERTIFICATES[2])
    until(lambda: revoked_states(reader) == [True, True, True, False], seconds=30)
    pair.fail_over()
    if again:
        revoke(careless, CERTIFICATES[3], CERTIFICATES[2])
    until(lambda: "Redis has lost changes" in caplog.text, seconds=30)
    until(lambda: revoked_states(reader) == [True, True, True, again], seconds=30)
    revoke(careless, BILLING)
    until(lambda: includes(reader, BILLING) is True, seconds=30)
    time.sleep(0.6)
    assert caplog.text.count("Redis has lost changes") == 1
    late = following(pair.replica)
    until(lambda: revoked_states(late) == [True, False, again, again], seconds=30)


def test_a_confirmed_revocation_survives_a_failover(pair: Pair) -> None:
    writer = pair.list(replicas=1)
    one, two, three = ({"thumbprint": each.thumbprint, "until": SOON} for each in CERTIFICATES[:3])
    confirmed(lambda: writer.create([one]))
    confirmed(lambda: writer.revoke(**two))
    confirmed(lambda: writer.revoke_each([three]))
    pair.fail_over()
    reader = following(pair.replica)
    until(lambda: revoked_states(reader) == [True, True, True, False], seconds=30)


def test_a_write_that_no_replica_confirms_raises_each_time(pair: Pair) -> None:
    """Also the second time, when the primary has it already."""
    writer, reader = pair.list(replicas=1), pair.list()
    confirmed(writer.create)
    pair.replica.stop()
    for _ in range(2):
        with pytest.raises(Unavailable, match="0 of 1 replicas confirmed"):
            revoke(writer, BILLING)
        with pytest.raises(Unavailable, match="0 of 1 replicas confirmed"):
            pair.list(replicas=1).create()
    until(lambda: includes(reader, BILLING) is True)  # nevertheless
    pair.replica.go_on()
    confirmed(lambda: revoke(writer, BILLING))
    pair.fail_over()
    late = following(pair.replica)
    until(lambda: includes(late, BILLING) is True, seconds=30)


def test_two_replicas_are_not_confirmed_by_one(pair: Pair) -> None:
    pair.list().create()
    with pytest.raises(Unavailable, match=r"[01] of 2 replicas confirmed"):
        revoke(pair.list(replicas=2), BILLING)


def test_a_primary_without_enough_replicas_writes_nothing(pair: Pair) -> None:
    writer = pair.list()
    writer.create()
    with pair.primary.client() as client:
        client.config_set("min-replicas-to-write", 2)
        with pytest.raises(Unavailable, match="min-replicas-to-write"):
            revoke(writer, BILLING)
        assert writer.look().entries == 0  # type: ignore[union-attr]  # the list exists


@pytest.mark.live
def test_processes_follow_sentinel_to_the_new_primary(pair: Pair, tmp_path: Path) -> None:
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor revocations 127.0.0.1 {pair.primary.port} 1\n"
        "sentinel down-after-milliseconds revocations 500\nsentinel failover-timeout revocations 2000\n"
    )
    process = subprocess.Popen(["redis-server", str(configuration), "--sentinel"], stdout=subprocess.DEVNULL)
    with ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.kill)
        sentinel = redis.sentinel.Sentinel([("127.0.0.1", port)], **OPTIONS)

        def follow(**options: Any) -> RedisRevocations:
            once = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
            return RedisRevocations(sentinel.master_for("revocations", retry=once, **OPTIONS), **options)

        def sees_the_replica() -> bool:
            try:
                return bool(sentinel.discover_slaves("revocations"))
            except redis.RedisError:
                return False

        until(sees_the_replica, seconds=30)
        writer, reader = follow(replicas=1), follow()
        confirmed(writer.create)
        confirmed(lambda: revoke(writer, CERTIFICATES[0]))
        until(lambda: revoked_states(reader) == [True, False, False, False], seconds=30)
        pair.primary.kill()
        confirmed(lambda: revoke(follow(), CERTIFICATES[1]))
        until(lambda: revoked_states(reader) == [True, True, False, False], seconds=20)
        late = follow()
        until(lambda: revoked_states(late) == [True, True, False, False], seconds=20)


def test_a_cluster_has_the_list_in_one_slot(tmp_path: Path) -> None:
    with RedisServer("--cluster-enabled", "yes", "--dir", tmp_path) as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: client.cluster("INFO")["cluster_state"] == "ok", seconds=20)
        once = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
        client = redis.cluster.RedisCluster(host="127.0.0.1", port=server.port, retry=once, **OPTIONS)
        writer, reader = RedisRevocations(client), RedisRevocations(client)
        writer.create()
        writer.revoke_each([{"token_id": str(each), "issuer": "i", "until": SOON} for each in range(2000)])
        until(lambda: revoked_states(reader) == [False] * 4, seconds=30)
        revoke(writer, CERTIFICATES[0])
        until(lambda: revoked_states(reader) == [True, False, False, False], seconds=30)
        assert writer.look().entries == 2001  # type: ignore[union-attr]  # the list exists
        with pytest.raises(ConfigurationError, match="replicas="):
            RedisRevocations(client, replicas=1)
        client.close()
