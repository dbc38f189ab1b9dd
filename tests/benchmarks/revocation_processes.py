"""The processes of measure 12: one follows the shared list of revocations, and one writes to it.

`python -m tests.benchmarks.revocation_processes follow PORT` follows the list. It prints the seconds until it can
answer, and when its standard input ends, what it has seen, as JSON.

`python -m tests.benchmarks.revocation_processes write PORT NAME RATE SECONDS BATCH` revokes `RATE` tokens a second,
`BATCH` of them at once. Twice a second, one of them is a probe. It prints when it began to write each probe, as JSON.

The times are those of `time.monotonic()`, which on Linux is the same in all processes.
"""

import asyncio
import json
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from mtls_middleware.errors import Unavailable
from mtls_middleware.revocation import RedisRevocations
from mtls_middleware.revocation.entries import token_entry

ISSUER = "https://as.example"
_UNTIL = datetime.now(UTC) + timedelta(days=1)
_TICK = 0.001


def connected(port: int) -> RedisRevocations:
    once = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
    return RedisRevocations(redis.Redis(port=port, socket_timeout=1, socket_connect_timeout=1, retry=once))


def revoked(token_id: str) -> dict[str, Any]:
    return {"token_id": token_id, "issuer": ISSUER, "until": _UNTIL}


def probe(name: str, number: int) -> str:
    """A token id. The probes of one name are written in the order of their numbers."""
    return f"probe {number} of {name}"


class Follower:
    """Looks up the next probe of each name once a millisecond, in an event loop.

    Attributes:
        stops: the longest time for which the event loop was stopped while this process used the processor, before it
            could answer for the first time, and after that. Other programs on the machine stop it, too.
        unavailable: seconds after that for which the response would be 503.
        age: the largest age of the copy after that.
        seen: when each probe was found.
    """

    def __init__(self, port: int, names: list[str]) -> None:
        self._revocations = connected(port)
        self._next = dict.fromkeys(names, 0)
        self.stops = [0.0, 0.0]
        self.unavailable = self.age = 0.0
        self.seen: dict[str, float] = {}

    async def run(self) -> None:
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        begun = last = time.monotonic()
        processor = time.process_time()
        following = asyncio.create_task(asyncio.to_thread(self._revocations.follow))
        is_started = False
        while not ended.is_set():
            await asyncio.sleep(_TICK)
            now, used = time.monotonic(), time.process_time()
            self.stops[is_started] = max(self.stops[is_started], min(now - last - _TICK, used - processor))
            found = self._is_revoked("none") if following.done() else None
            if is_started:
                self._note(now, last, is_available=found is not None)
            elif found is not None:
                is_started = True
                print(json.dumps(now - begun), flush=True)
            last, processor = now, used

    def _note(self, now: float, last: float, *, is_available: bool) -> None:
        self.unavailable += 0 if is_available else now - last
        self.age = max(self.age, self._revocations._poller.age())  # type: ignore[union-attr]  # it has started
        for name, number in self._next.items():
            if self._is_revoked(probe(name, number)):
                self.seen[probe(name, number)] = now
                self._next[name] += 1

    def _is_revoked(self, token_id: str) -> bool | None:
        """`None` if the response would be 503."""
        try:
            return token_entry(ISSUER, token_id) in self._revocations
        except Unavailable:
            return None


def write(port: int, name: str, rate: int, seconds: float, batch: int) -> dict[str, float]:
    """Returns when each probe began to be written, and the rate under `"rate"`."""
    revocations = connected(port)
    begun = time.monotonic()
    written: dict[str, float] = {}
    total = int(rate * seconds)
    for done in range(0, total, batch):
        time.sleep(max(0.0, begun + done / rate - time.monotonic()))
        ids = [f"{name} {each}" for each in range(done, done + batch)]
        now = time.monotonic()
        if now - begun >= len(written) / 2:
            ids[-1] = probe(name, len(written))
            written[ids[-1]] = now
        revocations.revoke_each(map(revoked, ids))
    return {**written, "rate": total / max(seconds, time.monotonic() - begun)}


if __name__ == "__main__":
    action, port, *rest = sys.argv[1:]
    if action == "follow":
        follower = Follower(int(port), rest)
        asyncio.run(follower.run())
        print(json.dumps({name: value for name, value in vars(follower).items() if not name.startswith("_")}))
    else:
        print(json.dumps(write(int(port), rest[0], int(rest[1]), float(rest[2]), int(rest[3]))))
