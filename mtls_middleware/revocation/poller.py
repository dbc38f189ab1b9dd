"""Polls the revocation list in Redis four times a second, in one thread of each process.

If an error occurs, the thread logs the error and continues to poll.
"""

import logging
import math
import os
import sys
import threading
import time
from typing import Any

from mtls_middleware.effects.supervision import RepeatingThread
from mtls_middleware.revocation.format import Head, parse_head, parse_page
from mtls_middleware.revocation.list_copy import HistoryChanged, RevocationListCopy, Shards, new_shards
from mtls_middleware.revocation.redis_errors import failure_reason
from mtls_middleware.revocation.write_script import SWEEP_WINDOW

logger: logging.Logger = logging.getLogger("mtls_middleware.revocation")

# Seconds between two polls. So a revocation takes effect in all processes within a second, even on a busy machine.
_INTERVAL = 0.25
_CLEANUP_INTERVAL = 60.0  # the number of seconds between two removals of expired entries from the copy
_PAGES = 32  # maximum number of pages in one read, which keeps Redis busy for less than a millisecond
# Number of entries between two pauses of the thread, and seconds of a pause. These entries take about a millisecond, as
# long as the pause. One thread holds Python's global lock for 5 ms if another thread needs it
# (sys.setswitchinterval), and an event loop needs the lock several times for each request.
_SLICE = 2048
_PAUSE = 0.001
# Maximum number of seconds that the first requests of a process wait for the first poll. If they did not wait, they
# would be rejected with 503.
_FIRST_WAIT = 1.0
# In an event loop, requests do not wait for a list with more changes than this, because reading so many changes takes
# 50 ms or more.
_LONG_LIST = 40_000
_FIRST_WAIT_STEP = 0.02
# Seconds since the last successful poll after which a request checks that the thread runs.
_OVERDUE = 2.0
_LOG_INTERVAL = 30.0  # minimum number of seconds between two log lines during an outage


class RevocationListPoller:
    """Keeps a copy of the revocation list up to date.

    Attributes:
        revoked: the entries, and the Unix time until which each entry is valid. They are not complete before the first
            successful poll.
        read_at: the value of `time.monotonic()` when the copy was equal to the list in Redis; minus infinity before the
            first successful poll.
        first_poll: an event that is set after the first poll, even if this poll fails.
        created_at: the value of `time.monotonic()` when this object was created.
        process: the id of the process in which the thread runs. A forked child process does not have this thread.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client, self._key = client, key
        self._copy: RevocationListCopy | None = None
        self.revoked: Shards = new_shards()
        self.read_at: float = -math.inf
        self.first_poll: threading.Event = threading.Event()
        self.process: int = os.getpid()
        self.created_at: float = time.monotonic()
        self._cleaned_at = self._logged_at = self._loss_logged_at = -math.inf
        self._is_long = False
        self._units = 0  # the number of entries that were read since the last pause
        self._thread = RepeatingThread(self.poll, name=logger.name, interval=_INTERVAL, logger=logger)

    def start(self) -> bool:
        """Start the thread that polls. Returns `False` if the system cannot start a thread.

        The thread ends when this object is garbage collected.
        """
        return self._thread.ensure_running()

    def wait(self, *, in_event_loop: bool) -> None:
        """Wait for the first poll, until a second after this object was created.

        `in_event_loop`: whether to wait for a list that takes long to read if an event loop runs in this thread.
        """
        end = self.created_at + _FIRST_WAIT
        while not self.first_poll.is_set() and (left := end - time.monotonic()) > 0:
            if self._is_long and not in_event_loop and _is_event_loop_running():
                return
            self.first_poll.wait(min(left, _FIRST_WAIT_STEP))

    def age(self) -> float:
        """Return the seconds since the copy was last equal to the list in Redis; infinity if the list was never read.

        If the thread has ended, this method starts it again.
        """
        age = time.monotonic() - self.read_at
        if age > _OVERDUE:
            self._thread.ensure_running()
        return age

    def poll(self) -> None:
        """Update the copy from Redis. An exception of the client is logged, and not raised."""
        try:
            self._update()
        except Exception as failure:  # noqa: BLE001 (any exception of the client counts as an outage)
            self._log_failure(failure)
        finally:
            self.first_poll.set()

    def _update(self) -> None:
        asked_at = time.monotonic()
        head = parse_head(self._read(-1, -1))
        copy = self._copy
        if copy is None or copy.list != head.list:
            copy = self._copy = RevocationListCopy(head)
        self._is_long = head.units > _LONG_LIST
        is_end = copy.is_current(head)
        while not is_end:
            asked_at = time.monotonic()
            try:
                is_end = self._read_pages(copy)
            except HistoryChanged:
                self._begin_again(copy, head)
                return
        self._publish(copy, asked_at)
        if asked_at - self._cleaned_at >= _CLEANUP_INTERVAL:
            # An entry is dropped only if it has expired by this process's clock and before the last write to Redis.
            for number in copy.drop_expired(min(head.time, int(time.time()))):
                self._pause_after(number)
            self._cleaned_at = asked_at

    def _read_pages(self, copy: RevocationListCopy) -> bool:
        """Read the next pages. Returns whether these were the last pages of the list."""
        pages = [parse_page(member) for member in self._read(*copy.scores, "BYSCORE", "LIMIT", 0, _PAGES)]
        is_end = len(pages) < _PAGES
        for number in copy.add_pages(pages, is_end=is_end):
            self._pause_after(number)
        return is_end

    def _read(self, *arguments: object) -> Any:
        # The members are bytes, also for a client with decode_responses=True.
        return self._client.execute_command("ZRANGE", self._key, *arguments, NEVER_DECODE=True)

    def _pause_after(self, number: int) -> None:
        """Count entries, and pause after each slice, so that other threads get Python's global lock."""
        self._units += number
        if self._units >= _SLICE:
            self._units = 0
            time.sleep(_PAUSE)

    def _publish(self, copy: RevocationListCopy, asked_at: float) -> None:
        """Let requests use the copy, which is now complete."""
        is_created_again = copy.shards is not self.revoked and self.read_at > -math.inf
        if copy.shards is not self.revoked:
            for number, shard in enumerate(copy.shards):
                self.revoked[number] = shard
            copy.shards = self.revoked
        was_outage = self._logged_at > self.read_at
        self.read_at = asked_at
        if was_outage:
            logger.warning("revocations: the list can be read again")
        if is_created_again:
            logger.warning("revocations: the list was created again. Entries that only the former list had are dropped")

    def _begin_again(self, copy: RevocationListCopy, head: Head) -> None:
        """Read the whole list again from the next poll on. The entries of the copy stay revoked in this process."""
        missed = head.changes - copy.changes
        copy.begin(head)
        # After a longer stall, a sweep may have removed the last page of the copy, although Redis has lost no data.
        is_lost = copy.shards is self.revoked and missed <= SWEEP_WINDOW
        if is_lost and time.monotonic() - self._loss_logged_at >= _LOG_INTERVAL:
            self._loss_logged_at = time.monotonic()
            logger.error(
                "revocations: Redis has lost changes, by a failover or by loading older data. This process keeps them, "
                "but processes that start from now on do not know them: revoke again what was revoked last. To prevent "
                "a loss, set replicas= (docs/revocations.md)"
            )

    def _log_failure(self, failure: Exception) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOG_INTERVAL or self._logged_at < self.read_at:
            self._logged_at = now
            logger.error("revocations: cannot read the list under %r in Redis: %s", self._key, failure_reason(failure))


def _is_event_loop_running() -> bool:
    asyncio = sys.modules.get("asyncio")  # a process without an event loop does not need to import asyncio
    return asyncio is not None and asyncio._get_running_loop() is not None
