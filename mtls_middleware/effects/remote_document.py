"""`RemoteDocument`: a document behind an address, fetched on demand, remembered, and renewed as a flow.

Must never know: what is in the document. Addresses come from configuration or registration, never from a token or a
certificate.
"""

import copy
import ipaddress
import logging
import math
import re
import ssl
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import Begin, Flow, ask
from mtls_middleware.errors import ConfigurationError, Unavailable, require_extra

logger: logging.Logger = logging.getLogger("mtls_middleware.remote_documents")

T = TypeVar("T")

# A rotation is seen after ten minutes at the latest without anybody asking for it.
_LIFETIME = 600.0
# From eight minutes on it is looked for in the background, so that a busy application never waits for it.
_AHEAD = 480.0
# Documents outlive an outage of their server by an hour, then 503: nobody could revoke a key meanwhile.
_MAX_STALE = 3600.0
# Between two attempts: what a flood of unknown key ids, or a dead server, may cost.
COOL_DOWN = 30.0
# Characters of an address: clients register some.
_LONGEST = 2_048
# The host of an address, and its port: a name, or an IP address, without user, zone and percent-encoding.
_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_TIMEOUT, _LIMIT = 5.0, 262_144


class UnusableDocument(ValueError):  # noqa: N818 (an outcome, handled at once)
    """Why a document cannot be used, in words of ours that go into the log."""


class RemoteDocument(Generic[T]):
    """What `parse` makes of the document at `uri`; equal documents stay one object.

    It is renewed in the background before it is old, and the last good one is kept through an outage. At most one
    attempt per cool-down, whatever comes; those who cannot do without its outcome wait for it together. Times are
    compared by distance: a clock that is set back renews.

    Arguments:
        parse: octets to value. Raises `ValueError` for a document that is of no use, `UnusableDocument` to say why.
        tls: how the server is verified, where the system's CAs do not do.
        allow_private: connect to private and loopback addresses too; for addresses that an operator configured.
        limit, timeout: octets and seconds that one attempt may take.
        max_stale: seconds by which a value may outlive its ten minutes while its server is down.
        what: the argument that needs the extra `http`, for the message where it is missing.
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
        max_stale: float = _MAX_STALE,
        what: str = "jwks_uri",
    ) -> None:
        require_extra("httpx2", "http", what)
        self._uri = uri
        self._parse = parse
        self._tls = tls or ssl.create_default_context()
        self._allow_private = allow_private
        self._limit = _LIMIT if limit is None else limit
        self._timeout = _TIMEOUT if timeout is None else timeout
        self._max_stale = max_stale
        self._lock = threading.Lock()  # around what follows; never held while anybody waits
        self._value: T | None = None
        self._fetched_at = float("-inf")
        self._attempt: Fetch | None = None  # whose outcome nobody has taken in yet
        self._attempted_at = float("-inf")

    def current(self, now: float, *, join: bool = False) -> Flow[T]:
        """The value, fetched where there is none or it is old. Raises `Unavailable`.

        `join`: where somebody else renews an old value, wait for the new one.
        """
        age = abs(now - self._fetched_at)
        if self._value is None or age >= _LIFETIME:
            # While one asker renews an old value the others go on with it; without any they all wait.
            yield from self._renew(now, join=join or self._held(now) is None)
        elif age >= _AHEAD:
            yield from self._renew_meanwhile(now)
        value = self._held(now)
        if value is None:
            wait = max(1, math.ceil(COOL_DOWN - abs(now - self._attempted_at)))
            raise Unavailable(f"nothing from {self._uri}", retry_after=wait)
        return value

    def fresh(self, now: float) -> T | None:
        """The value, where it is there and young enough that nobody need look for another."""
        return self._value if abs(now - self._fetched_at) < _AHEAD else None

    def refreshed(self, now: float) -> Flow[T]:
        """The value after one more look, where the cool-down allows it: what was not found may be new."""
        value = yield from self.current(now)
        yield from self._renew(now, join=True)
        return value if self._value is None else self._value

    def moved(self, uri: str) -> "RemoteDocument[T]":
        """The same document at another address. What came from the former one is old at once, and serves until
        something comes from the new one, for an hour at most.
        """
        moved = copy.copy(self)
        moved._uri, moved._lock, moved._attempt = uri, threading.Lock(), None
        moved._attempted_at = float("-inf")
        with self._lock:
            moved._value, moved._fetched_at = self._value, self._fetched_at - _LIFETIME
        return moved

    def _held(self, now: float) -> T | None:
        return self._value if abs(now - self._fetched_at) < _LIFETIME + self._max_stale else None

    def _renew(self, now: float, *, join: bool) -> Flow[None]:
        """Wait for one attempt where the cool-down allows it; else, to `join`, for the one that is under way."""
        with self._lock:
            due = self._is_due(now)
            attempt = self._attempt if due or join else None
        if attempt is None:
            return
        found: Response | FetchFailed
        try:
            found = yield from ask(attempt)
        except FetchFailed as failure:
            found = failure
        with self._lock:
            if self._attempt is attempt:  # else another asker has taken it in
                self._attempt = None
                self._take_in(found)

    def _renew_meanwhile(self, now: float) -> Flow[None]:
        """Have the value renewed in the background; whoever comes later finds the outcome."""
        with self._lock:
            attempt = self._attempt if self._is_due(now) else None
        if attempt is not None:
            yield from ask(Begin(attempt))

    def _is_due(self, now: float) -> bool:
        """Take in what came back in the background; then, where the cool-down allows another attempt, make it out."""
        attempt = self._attempt
        if attempt is not None and attempt.outcome.done():
            self._attempt = None
            self._take_in(_outcome(attempt))
        if abs(now - self._attempted_at) < COOL_DOWN:
            return False
        self._attempt = Fetch(self._uri, self._tls, self._timeout, self._limit, self._allow_private)
        self._attempted_at = now
        return True

    def _take_in(self, found: Response | FetchFailed) -> None:
        try:
            if isinstance(found, FetchFailed):
                raise found
            if found.status != 200:
                raise FetchFailed(f"status {found.status}")
            value = self._parse(found.body)
        except (FetchFailed, ValueError) as failure:
            ours = isinstance(failure, FetchFailed | UnusableDocument)
            reason = failure if ours else "not the document that is expected there"
            logger.error("nothing fresh from %s: %s", self._uri, reason)
            return
        self._fetched_at = self._attempted_at
        if value != self._value:  # the same document stays the same object: see resource_server/signed.py
            self._value = value


def _outcome(attempt: Fetch) -> Response | FetchFailed:
    failure = attempt.outcome.exception()
    if failure is None:
        return attempt.outcome.result()
    return failure if isinstance(failure, FetchFailed) else FetchFailed(type(failure).__name__)


def check_address(what: str, uri: str, *, allow_http: bool, example: str = "https://as.example/jwks") -> None:
    """An address that we fetch from: https; http only where allowed, and then to a loopback address only.

    Raises `ConfigurationError`.
    """
    if isinstance(uri, str) and len(uri) > _LONGEST:
        raise ConfigurationError(
            f"{what} of {len(uri)} characters: expected at most {_LONGEST}, for example {example!r}"
        )
    try:
        # RFC 3986 2; such a one could forge lines of logs. First: `urlsplit` normalises other characters, in the square
        # of their number.
        if not (uri.isascii() and uri.isprintable()) or " " in uri:
            raise ValueError
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
        # Whether `urlsplit` accepts "[::1].a.test" depends on the Python version (CVE-2025-0938).
        if parts.netloc.startswith("["):
            ipaddress.IPv6Address(parts.netloc.partition("]")[0][1:])
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{what}={uri!r} is no address, for example {example!r}") from error
    if not host or not _HOST_AND_PORT.fullmatch(parts.netloc) or "#" in uri:
        raise ConfigurationError(f"{what}={uri!r} is no plain address, for example {example!r}")
    if parts.scheme == "https" or (parts.scheme == "http" and allow_http and _is_loopback(host)):
        return
    raise ConfigurationError(f"{what}={uri!r} must be https (allow_http=True admits http to loopback, for tests)")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    # Whether "::ffff:127.0.0.1" is a loopback address depends on the Python version.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
