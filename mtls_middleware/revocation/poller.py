"""One thread of this process that knows the list of what was revoked, four times a second anew.

Must never know: requests, or what follows from an old list. Whatever Redis does, it goes on trying.
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

# A revocation holds everywhere within a second: a poll, an answer, and some to spare on a busy machine.
_EVERY = 0.25
_FORGET_EVERY = 60.0  # what counts no longer, by the clock of Redis as when it is dropped there
_PAGE = 1000  # members read at once: some milliseconds of Redis
_TELL_EVERY = 30.0  # lines in the log while an outage lasts

# What an operator changes, by the name of the library's exception. Its text may quote what Redis said: not for the log.
_ADVICE = {
    "AuthenticationError": "check username= and password= of the client",
    "NoPermissionError": "let its user read this key (ACL: ~KEY +zrange +zscan +zrangebyscore +time)",
    "ConnectionError": "is it up, and is host= the right one?",
    "TimeoutError": "is it up, and near enough for socket_timeout=?",
}


class RevocationListPoller:
    """What is revoked, as this process knows it.

    Attributes:
        revoked: entry to the second up to which it counts.
        fresh_at: when the reading began that `revoked` is of: `time.monotonic()`, minus infinity before the first.
        tried: set after the first attempt, whatever came of it.
        began_at: `time.monotonic()` when this object was made.
        process: the id of the process that the thread runs in; in a fork of it there is none.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client, self._key = client, key
        self._known: RevocationListCopy | None = None
        self.fresh_at: float = -math.inf
        self.tried: threading.Event = threading.Event()
        self.process: int = os.getpid()
        self.began_at: float = time.monotonic()
        self._forgot_at = self._told_at = -math.inf

    @property
    def revoked(self) -> dict[bytes, float]:
        return {} if self._known is None else self._known.revoked

    def start(self) -> None:
        """Begin to follow, until nobody holds this object any more."""
        name = "mtls_middleware.revocation"
        threading.Thread(target=_poll, args=(weakref.ref(self),), name=name, daemon=True).start()

    def poll(self) -> None:
        """Have a look at Redis; whatever it answers, nothing is raised."""
        began = time.monotonic()
        try:
            self._take_in()
        except Exception as failure:  # noqa: BLE001 (whatever the library raises is an outage)
            self._tell(failure, began)
        else:
            if self._told_at > self.fresh_at:
                logger.warning("revocations: the list is there again")
            self.fresh_at = began
        self.tried.set()

    def _take_in(self) -> None:
        known = self._known
        if known is None or not known.take_news(self._news(known)):
            self._known = known = self._whole()
        if time.monotonic() - self._forgot_at >= _FORGET_EVERY:
            known.forget(float(self._client.time()[0]))
            self._forgot_at = time.monotonic()

    def _news(self, known: RevocationListCopy) -> Any:
        return self._client.zrangebyscore(self._key, known.position, "+inf")

    def _whole(self) -> RevocationListCopy:
        """All that is revoked, read in pages, so that Redis is never busy for long. ZSCAN gives what is there from its
        beginning to its end; what was written meanwhile is among the news.
        """
        known = RevocationListCopy(self._client.zrange(self._key, -1, -1))
        cursor = 0
        while True:
            cursor, pairs = self._client.zscan(self._key, cursor, count=_PAGE)
            known.take(pairs)
            if int(cursor) == 0:
                break
        if not known.take_news(self._news(known)):
            raise UnreadableList("it was lost, or made anew, while it was read; it is read again")
        if self._known is not None and not known.succeed(self._known):
            logger.error("revocations: Redis went back to an older list; what is known here stays revoked")
        return known

    def _tell(self, failure: Exception, now: float) -> None:
        if now - self._told_at < _TELL_EVERY:
            return
        self._told_at = now
        logger.error("revocations: no list under %r in Redis: %s", self._key, reason(failure))


def reason(failure: Exception) -> str:
    """Why there is no list to read, and what an operator does about it.

    Example: `reason(redis.ConnectionError())`
    """
    if isinstance(failure, UnreadableList):
        return str(failure)
    if str(failure).startswith("WRONGTYPE"):
        return "something else; give key= a name that nothing else uses"
    name = type(failure).__name__
    return f"{name}; {_ADVICE.get(name, 'see what Redis itself logs')}"


def _poll(reference: "weakref.ref[RevocationListPoller]") -> None:
    while (poller := reference()) is not None:
        poller.poll()
        del poller
        time.sleep(_EVERY)
