"""`RemoteDocument`: a flow that fetches the document at a URL when it is needed, caches the document and renews it.

URLs come from configuration, discovery or client registration, and never from a token or a certificate.
"""

import contextlib
import copy
import logging
import math
import ssl
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from mtls_middleware.dependencies import Event, report
from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response, Stopwatch, default_context, fetch_failed
from mtls_middleware.effects.flow import Begin, Flow, Wait, ask
from mtls_middleware.errors import Unavailable, require_extra
from mtls_middleware.forks import reset_after_fork
from mtls_middleware.retry import LONGEST, retry_delay

logger: logging.Logger = logging.getLogger("mtls_middleware.remote_documents")

T = TypeVar("T")

# Age in seconds from which a cached document is old and must be renewed. So a new key is found within ten minutes.
_LIFETIME = 600.0
# Age in seconds from which a document is renewed in the background, so that requests do not wait for the renewal.
_RENEWAL_AGE = 480.0
# Maximum number of seconds that an old document is still used while its server is down. A higher value would delay the
# revocation of a key.
_MAX_STALE = 3600.0
# Minimum number of seconds between a successful attempt and the next attempt. This limits the requests that unknown key
# ids can cause.
COOL_DOWN = LONGEST
_TIMEOUT, _LIMIT = 5.0, 262_144
# Maximum number of seconds that a request waits for the first attempt, or for an attempt after a successful attempt.
# The server may stall, and each waiting request can occupy a thread. The attempt itself goes on.
_FIRST_WAIT = 2.0
# Maximum number of seconds that a request waits for an attempt after a failed attempt.
_LATER_WAIT = 1.0
# Maximum number of seconds that a request waits for the thread that parses a large document.
_READ_TIMEOUT = 30.0


class UnusableDocument(ValueError):  # noqa: N818 (not an error: the caller logs it)
    """Raised with the reason why a document is unusable. The message is logged, so it must not quote the document."""


class RemoteDocument(Generic[T]):
    """Fetches and caches the document at `uri`, converted to a value by `parse`.

    The document is renewed in the background after 8 minutes, and is old after 10 minutes. If its server is down, the
    last usable document is used for at most `max_stale` seconds more. Only one attempt is in progress at a time. All
    callers that need the result wait for this attempt, for at most `first_wait` seconds.

    After a successful attempt, the next attempt begins at least 30 seconds later (`COOL_DOWN`). After a failed
    attempt, the next attempt begins at least 0.5 seconds after the failure. This time doubles with each further
    failure, up to 30 seconds. Only the caller that begins an attempt after a failure waits for it, at most a second.

    If the new value equals the old value, the old object is kept. If the clock is set back, the document is renewed.

    Arguments:
        parse: a function that converts the body to the value. It raises `ValueError` for an unusable document, or
            `UnusableDocument` with the reason for the log.
        tls: verifies the server. Default: the CAs of the system.
        allow_private: also connect to private and loopback addresses. Use this only for URLs that an operator
            configured.
        limit, timeout: the maximum bytes of the body (default: 262,144), and the maximum seconds of one attempt
            (default: 5).
        first_wait: the maximum seconds that a request waits for the first attempt, and for an attempt after a
            successful attempt (default: 2). Under WSGI, each waiting request occupies a thread. The attempt itself goes
            on.
        max_inline: a thread parses a body of more bytes. Requests that have no old value wait for it.
        max_stale: maximum number of seconds that an old value is still used while its server is down.
        proxy: the URL of an HTTP proxy between this process and the server.
        what: the name of the argument that needs the extra `http`, for the message if the extra is missing.
    """

    def __init__(
        self,
        uri: str,
        parse: Callable[[bytes], T],
        *,
        tls: ssl.SSLContext | None = None,
        allow_private: bool = True,
        limit: int | None = None,
        timeout: float | None = None,
        first_wait: float = _FIRST_WAIT,
        max_inline: int = _LIMIT,
        max_stale: float = _MAX_STALE,
        what: str = "jwks_uri",
        proxy: str | None = None,
    ) -> None:
        require_extra("httpx2", "http", what)
        self._uri = uri
        self._parse = parse
        self._failure: Event = "revocation_list_failed" if what == "urls" else "keys_failed"
        self._tls = tls or default_context()
        self._allow_private, self._proxy = allow_private, proxy
        self._limit = _LIMIT if limit is None else limit
        self._timeout = _TIMEOUT if timeout is None else timeout
        self._first_wait, self._max_inline, self._max_stale = first_wait, max_inline, max_stale
        self._lock = threading.Lock()  # the lock protects the following attributes, and is not held during I/O
        self._value: T | None = None
        self._fetched_at = float("-inf")
        self._attempt: _Attempt[T] | None = None  # the last attempt, until its result is applied
        self._attempted_at = float("-inf")
        self._failures = 0  # the number of failed attempts since the last successful attempt
        self._failed_after = 0.0  # the number of seconds from the beginning of the last failed attempt to its failure
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent process may hold while it parses a document."""
        self._lock = threading.Lock()

    def current(self, now: float, *, join: bool = False) -> Flow[T]:
        """Return the value. If no value is cached, or if it is old, fetch the document first. Raises `Unavailable`.

        `join`: if another caller is renewing an old value, wait for the new value instead of using the old value.
        """
        age = abs(now - self._fetched_at)
        if self._value is None or age >= _LIFETIME:
            # While one caller renews an old value, the other callers use it. Without an old value, all callers wait.
            yield from self._renew(now, join=join or self._usable_value(now) is None)
        elif age >= _RENEWAL_AGE:
            yield from self._renew_in_background(now)
        value = self._usable_value(now)
        if value is None:
            raise Unavailable(f"the document at {self._uri} is unavailable", retry_after=self.retry_after(now))
        return value

    def fresh(self, now: float) -> T | None:
        """Return the cached value, or `None` if no value is cached or the cached value must be renewed."""
        return self._value if abs(now - self._fetched_at) < _RENEWAL_AGE else None

    def renewal(self, now: float, *, is_due: bool = False) -> Flow[None]:
        """Begin to fetch the document if it must be renewed, and store the result of a finished attempt. Never waits.

        `is_due`: fetch the document even if it is not old. In any case, the last attempt must be old enough.
        """
        if is_due or self.fresh(now) is None:
            yield from self._renew_in_background(now)

    def refreshed(self, now: float) -> Flow[T]:
        """Fetch the document again if the last attempt is old enough, and return the value.

        Use this, for example, for an unknown key id. Raises `Unavailable`.
        """
        value = yield from self.current(now)
        yield from self._renew(now, join=True)
        return value if self._value is None else self._value

    def retry_after(self, now: float) -> int:
        """Return the number of whole seconds after which a request can cause the next attempt, at least 1."""
        wait = 0.0 if self._attempt is not None else self._pause() - (now - self._attempted_at)
        return math.ceil(max(1.0, min(wait, self._pause())))

    def with_uri(self, uri: str, parse: Callable[[bytes], T]) -> "RemoteDocument[T]":
        """Return a copy that fetches from `uri`, and converts the body with `parse`.

        The cached value counts as old, so the next call of `current` fetches the document. If this fetch fails, the
        cached value is used for at most `max_stale` seconds.
        """
        document = copy.copy(self)
        document._parse = parse
        document._uri, document._lock, document._attempt = uri, threading.Lock(), None
        document._attempted_at, document._failures = float("-inf"), 0
        reset_after_fork(document)
        with self._lock:
            document._value, document._fetched_at = self._value, self._fetched_at - _LIFETIME
        return document

    def _usable_value(self, now: float) -> T | None:
        """Return the cached value, or `None` if its age exceeds the sum of the lifetime and `max_stale`."""
        return self._value if abs(now - self._fetched_at) < _LIFETIME + self._max_stale else None

    def _renew(self, now: float, *, join: bool) -> Flow[None]:
        """Make an attempt and wait for it, if the last attempt is old enough.

        If `join` is true, also wait for the attempt of another caller.
        """
        with self._lock:
            started = self._start_if_due(now)
            attempt = self._attempt if started or join else None
            wait = 0.0 if attempt is None else self._wait(attempt, started=started)
        if attempt is None:
            return
        found: Response | FetchFailed
        try:
            yield from ask(Begin(attempt.fetch))
            if wait > 0 and not attempt.fetch.outcome.done():
                with contextlib.suppress(TimeoutError):
                    yield from ask(Wait(attempt.is_fetched, wait))
            if not attempt.fetch.outcome.done():
                return  # a later call of a method stores the result
            found = attempt.fetch.result()
        except Exception as failure:  # noqa: BLE001 (for example, no thread can be started: a failed attempt)
            found = fetch_failed(failure)
        with self._lock:
            self._read(attempt, found)
        if join and not attempt.value.done():
            with contextlib.suppress(TimeoutError):
                yield from ask(Wait(attempt.value, _READ_TIMEOUT))
            with self._lock:
                self._finish(attempt)

    def _renew_in_background(self, now: float) -> Flow[None]:
        """Start a renewal if the last attempt is old enough. A later call of a method applies the result."""
        with self._lock:
            attempt = self._attempt if self._start_if_due(now) else None
        if attempt is None:
            return
        try:
            yield from ask(Begin(attempt.fetch))
        except Exception as failure:  # noqa: BLE001 (as in `_renew`)
            with self._lock:
                self._read(attempt, fetch_failed(failure))

    def _start_if_due(self, now: float) -> bool:
        """Apply the result of a finished attempt. Then create a new attempt if the last attempt is old enough.

        Returns whether a new attempt was created.
        """
        attempt = self._attempt
        if attempt is not None and attempt.fetch.outcome.done():
            self._read(attempt, attempt.fetch.result())
        # The `now` of this flow may be older than the `now` of the flow that made the last attempt. If it is at least
        # 30 seconds older, the clock was set back.
        if -COOL_DOWN < now - self._attempted_at < self._pause() or (attempt is not None and attempt.is_being_read):
            return False
        self._attempt = _Attempt(
            Fetch(self._uri, self._tls, self._timeout, self._limit, self._allow_private, proxy=self._proxy)
        )
        self._attempted_at = now
        return True

    def _wait(self, attempt: "_Attempt[T]", *, started: bool) -> float:
        """Return the maximum number of seconds that a caller waits for the attempt in progress."""
        if self._failures:
            return _LATER_WAIT if started else 0.0
        return self._first_wait - attempt.seconds

    def _pause(self) -> float:
        """Return the minimum number of seconds between the beginning of the last attempt and of the next attempt."""
        if self._attempt is not None or not self._failures:
            return COOL_DOWN
        return self._failed_after + retry_delay(self._failures)

    def _read(self, attempt: "_Attempt[T]", found: Response | FetchFailed) -> None:
        """Parse the response of an attempt, unless another caller does this, and store the value. The lock is held."""
        if attempt.begin_to_read():
            if isinstance(found, Response) and len(found.body) > self._max_inline:
                attempt.read_in_thread(found, self._parse)
            else:
                attempt.read(found, self._parse)
        self._finish(attempt)

    def _finish(self, attempt: "_Attempt[T]") -> None:
        """Store the value of an attempt if it is known, or log why the attempt failed. The lock is held."""
        if self._attempt is not attempt or not attempt.value.done():
            return  # another caller has already stored the value, or a thread is parsing the document
        self._attempt = None
        found = attempt.value.result()
        if isinstance(found, FetchFailed):
            self._failures += 1
            self._failed_after = attempt.seconds
            reason = f"fetching {self._uri} failed: {found}"
            logger.error("%s; the next attempt is after %g s at the earliest", reason, retry_delay(self._failures))
            report(self._failure, reason)
            return
        self._failures = 0
        self._fetched_at = self._attempted_at
        if found != self._value:  # keep the old object if the document is unchanged: caches compare by identity
            self._value = found


class _Attempt(Generic[T]):
    """One attempt to fetch and parse a document. `value`: the parsed value, or the failure (which is not raised)."""

    def __init__(self, fetch: Fetch) -> None:
        from concurrent.futures import Future

        self.fetch = fetch
        self._stopwatch = Stopwatch(fetch)
        # Unlike the outcome of `fetch`, it never has an exception: if many callers raised the same object, its
        # traceback would grow.
        self.is_fetched: Future[None] = Future()
        self.is_fetched.set_running_or_notify_cancel()
        fetch.outcome.add_done_callback(lambda _: self.is_fetched.set_result(None))
        self.value: Future[T | FetchFailed] = Future()
        self._thread: threading.Thread | None = None

    @property
    def seconds(self) -> float:
        """The seconds that the attempt has taken so far, or until it ended."""
        return self._stopwatch.seconds

    @property
    def is_being_read(self) -> bool:
        """Whether a thread parses the document. `False` in a forked child process, which does not have this thread."""
        return self._thread is not None and self._thread.is_alive()

    def begin_to_read(self) -> bool:
        """Return `True` for the first caller, which must call `read`. Then no caller can cancel `value`."""
        return not self.value.running() and not self.value.done() and self.value.set_running_or_notify_cancel()

    def read(self, found: Response | FetchFailed, parse: Callable[[bytes], T]) -> None:
        """Parse the response, and set the value. Raises no exception."""
        try:
            if isinstance(found, Response):
                if found.status != 200:
                    raise FetchFailed(f"status {found.status}")
                self.value.set_result(parse(found.body))
            else:
                self.value.set_result(found)
        except FetchFailed as failure:
            self.value.set_result(failure)
        except UnusableDocument as failure:
            self.value.set_result(FetchFailed(str(failure)))
        except ValueError:
            self.value.set_result(FetchFailed("not the expected document"))
        except BaseException as failure:  # noqa: BLE001 (for example, `MemoryError`: the next attempt may succeed)
            self.value.set_result(FetchFailed(type(failure).__name__))

    def read_in_thread(self, found: Response, parse: Callable[[bytes], T]) -> None:
        """Let a thread call `read`. If no thread can be started, the attempt has failed."""
        arguments = (found, parse)
        # Parsing a large document in a thread takes seconds, which count as part of the attempt.
        self.value.add_done_callback(self._stopwatch.stop)
        self._thread = threading.Thread(target=self.read, args=arguments, name="mtls-middleware document", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as failure:
            self.value.set_result(FetchFailed(f"no thread can be started to read it ({failure})"))
