"""`RevocationListWriter`: writes entries to the revocation list in Redis, and waits for replicas."""

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from mtls_middleware.errors import Unavailable
from mtls_middleware.revocation.format import ID_SIZE, units_of
from mtls_middleware.revocation.redis_errors import failure_reason
from mtls_middleware.revocation.write_script import NOT_CREATED, OTHER_DATA, WRITTEN, write_script

_BATCH = 500  # maximum number of entries in one command, which keeps Redis busy for only a few milliseconds
_RETRY_AFTER = 1
_SCRIPT = write_script()
_REASONS = {
    NOT_CREATED: "call create() first, because there is no complete list of revocations under",
    OTHER_DATA: "set key= to a name that nothing else uses, because another program, or an earlier release, wrote to",
}

Mode = Literal["revoke", "create", "complete"]


class RevocationListWriter:
    """Writes entries to the list of revocations in Redis. See `RedisRevocations` for the arguments."""

    def __init__(self, client: Any, key: str, replicas: int) -> None:
        self._client, self._key, self._replicas = client, key, replicas

    def write(self, mode: Mode, entries: Sequence[tuple[bytes, int]]) -> None:
        """Write entries in batches. Raises `Unavailable` if the outcome is unknown, or if replicas did not confirm it.

        Example: `writer.write("revoke", [(digest, 1_900_000_000)])`
        """
        for batch in _batches(entries):
            done, confirmed = self._call(mode, secrets.token_hex(ID_SIZE // 2), units_of(batch), int(time.time()))
            if done != WRITTEN:
                raise Unavailable(f"nothing was written: {_REASONS[done]} {self._key!r}", retry_after=_RETRY_AFTER)
            if confirmed < self._replicas:
                raise Unavailable(
                    f"the revocation was written, but {confirmed} of {self._replicas} replicas confirmed it in time, "
                    "so a failover may lose it: revoke again, and check the replicas of Redis",
                    retry_after=_RETRY_AFTER,
                )

    def _call(self, *arguments: object) -> tuple[int, int]:
        """Run the script. Returns the result of the script, and the number of replicas that confirmed the write."""
        try:
            if not self._replicas:
                return int(self._client.eval(_SCRIPT, 1, self._key, *arguments)), 0
            # WAIT refers to the writes of its own connection. A pipeline uses one connection for all its commands.
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.eval(_SCRIPT, 1, self._key, *arguments)
                pipeline.execute_command("WAIT", self._replicas, self._timeout())
                done, confirmed = pipeline.execute()
            return int(done), int(confirmed)
        except Exception as failure:
            text = f"Redis: {failure_reason(failure)}; it is not known whether the revocation was written"
            raise Unavailable(text, retry_after=_RETRY_AFTER) from failure

    def _timeout(self) -> int:
        """Return the milliseconds for which Redis waits for replicas.

        The client must get the response before its own timeout.
        """
        return max(1, int(self._client.get_connection_kwargs()["socket_timeout"] * 500))


def _batches(entries: Sequence[tuple[bytes, int]]) -> Iterator[Sequence[tuple[bytes, int]]]:
    """Yield the entries in batches. Without entries, yield one empty batch."""
    for start in range(0, len(entries) or 1, _BATCH):
        yield entries[start : start + _BATCH]
