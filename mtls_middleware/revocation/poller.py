"""Polls the revocation list in Redis four times a second, in one thread of each process.

If an error occurs, the thread logs the error and continues to poll.
"""

import logging
import math
import os
import threading
import time
import weakref
from typing import Any

from mtls_middleware.revocation.format import RevocationListCopy, UnreadableList

logger: logging.Logger = logging.getLogger("mtls_middleware.revocation")

# Seconds between two polls. So a revocation takes effect in all processes within a second, even on a busy machine.
_INTERVAL = 0.25
_CLEANUP_INTERVAL = 60.0  # seconds between two removals of expired entries from the copy, by the clock of Redis
_PAGE = 1000  # number of members in one read, which keeps Redis busy for only a few milliseconds
_LOG_INTERVAL = 30.0  # minimum number of seconds between two log lines during an outage

# Advice for the operator, by the name of the client's exception. The message of the exception is not logged, because it
# may quote data from Redis.
_ADVICE = {
    "AuthenticationError": "check username= and password= of the client",
    "NoPermissionError": "let the user of the client read this key (ACL: ~KEY +zrange +zscan +zrangebyscore +time)",
    "ConnectionError": "check that Redis is running, and host= of the client",
    "TimeoutError": "check that Redis is running, and that socket_timeout= exceeds its response time",
}


class RevocationListPoller:
    """Keeps a copy of the revocation list up to date.

    Attributes:
        revoked: a mapping from each entry to the Unix time until which the entry is valid.
        read_at: the value of `time.monotonic()` at the start of the last successful poll; minus infinity before the
            first successful poll.
        first_poll: an event that is set after the first poll, even if this poll fails.
        created_at: the value of `time.monotonic()` when this object was created.
        process: the id of the process in which the thread runs. A forked child process does not have this thread.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client, self._key = client, key
        self._copy: RevocationListCopy | None = None
        self.read_at: float = -math.inf
        self.first_poll: threading.Event = threading.Event()
        self.process: int = os.getpid()
        self.created_at: float = time.monotonic()
        self._cleaned_at = self._logged_at = -math.inf

    @property
    def revoked(self) -> dict[bytes, float]:
        return {} if self._copy is None else self._copy.revoked

    def start(self) -> None:
        """Start the thread that polls. The thread ends when this object is garbage collected."""
        name = "mtls_middleware.revocation"
        threading.Thread(target=_poll, args=(weakref.ref(self),), name=name, daemon=True).start()

    def poll(self) -> None:
        """Update the copy from Redis. All exceptions are logged, and none is raised."""
        began = time.monotonic()
        try:
            self._update()
        except Exception as failure:  # noqa: BLE001 (any exception of the client counts as an outage)
            self._log_failure(failure, began)
        else:
            if self._logged_at > self.read_at:
                logger.warning("revocations: the list can be read again")
            self.read_at = began
        self.first_poll.set()

    def _update(self) -> None:
        copy = self._copy
        if copy is None or not copy.add_changes(self._read_changes(copy)):
            self._copy = copy = self._read_all()
        if time.monotonic() - self._cleaned_at >= _CLEANUP_INTERVAL:
            copy.drop_expired(float(self._client.time()[0]))
            self._cleaned_at = time.monotonic()

    def _read_changes(self, copy: RevocationListCopy) -> Any:
        return self._client.zrangebyscore(self._key, copy.position, "+inf")

    def _read_all(self) -> RevocationListCopy:
        """Read the whole list in pages, so that Redis is never busy for long.

        ZSCAN returns all members that exist during the whole scan. The members that are written during the scan are in
        the changes, which are read afterwards.
        """
        copy = RevocationListCopy(self._client.zrange(self._key, -1, -1))
        cursor = 0
        while True:
            cursor, pairs = self._client.zscan(self._key, cursor, count=_PAGE)
            copy.add_members(pairs)
            if int(cursor) == 0:
                break
        if not copy.add_changes(self._read_changes(copy)):
            raise UnreadableList("the list was deleted or created again during the read; the next poll reads it again")
        if self._copy is not None and not copy.merge(self._copy):
            logger.error("revocations: Redis has lost changes; the entries in the memory of this process stay revoked")
        return copy

    def _log_failure(self, failure: Exception, now: float) -> None:
        if now - self._logged_at < _LOG_INTERVAL:
            return
        self._logged_at = now
        logger.error("revocations: cannot read the list under %r in Redis: %s", self._key, reason(failure))


def reason(failure: Exception) -> str:
    """Return the reason why the list cannot be read, and advice for the operator.

    Example: `reason(redis.ConnectionError())`
    """
    if isinstance(failure, UnreadableList):
        return str(failure)
    if str(failure).startswith("WRONGTYPE"):
        return "the key contains another type of data; set key= to a name that nothing else uses"
    name = type(failure).__name__
    return f"{name}; {_ADVICE.get(name, 'see the log of Redis')}"


def _poll(reference: "weakref.ref[RevocationListPoller]") -> None:
    while (poller := reference()) is not None:
        poller.poll()
        del poller
        time.sleep(_INTERVAL)
