"""Debian's redis-server on a port of its own, for tests: started, stalled, killed."""

import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Self

import pytest
import redis

from tests.live.servers import free_port


class RedisServer:
    """`with RedisServer() as server:` then `server.port`, `server.client()`. Nothing is written to disk.

    `options`: more options of redis-server.
    """

    def __init__(self, *options: object) -> None:
        self.port = free_port()
        self._options = [*map(str, options)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 20
        with self.client() as client:
            while not _answers(client):
                assert time.monotonic() < end, "redis-server did not start"
                time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stall: connections are accepted, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self, kind: Any = redis.Redis, **options: Any) -> Any:
        """A client that gives up as late as the library allows, because the machine may be busy."""
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0) if kind is redis.Redis else None
        usual = {"socket_timeout": 1, "socket_connect_timeout": 1, **({"retry": retry} if retry else {})}
        return kind(host="127.0.0.1", port=self.port, **{**usual, **options})


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """An empty one, for tests that leave it running."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis
