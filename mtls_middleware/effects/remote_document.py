"""`RemoteDocument`: a flow that fetches the document at a URL when it is needed, caches the document and renews it.

URLs come from configuration, discovery or client registration, and never from a token or a certificate.
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

from mtls_middleware.dependencies import Event, report
from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import Begin, Flow, ask
from mtls_middleware.errors import ConfigurationError, Unavailable, require_extra

logger: logging.Logger = logging.getLogger("mtls_middleware.remote_documents")

T = TypeVar("T")

# Age in seconds from which a cached document is old and must be renewed. So a new key is found within ten minutes.
_LIFETIME = 600.0
# Age in seconds from which a document is renewed in the background, so that requests do not wait for the renewal.
_RENEWAL_AGE = 480.0
# Maximum number of seconds that an old document is still used while its server is down. A higher value would delay the
# revocation of a key.
_MAX_STALE = 3600.0
# Minimum number of seconds between two attempts. This limits the requests that unknown key ids or a server that is down
# can cause.
COOL_DOWN = 30.0
# Maximum number of characters in a URL. OAuth clients register such URLs.
_MAX_LENGTH = 2_048
# Matches the host and the port of a URL. The host is a name or an IP address, without user name, zone id and
# percent-encoding.
_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_TIMEOUT, _LIMIT = 5.0, 262_144


class UnusableDocument(ValueError):  # noqa: N818 (not an error: the caller logs it)
    """Raised with the reason why a document is unusable. The message is logged, so it must not quote the document."""


class RemoteDocument(Generic[T]):
    """Fetches and caches the document at `uri`, converted to a value by `parse`.

    The document is renewed in the background after 8 minutes, and is old after 10 minutes. If its server is down, the
    last usable document is used for at most `max_stale` seconds more. There is at most one attempt every 30 seconds
    (`COOL_DOWN`), and all callers that need the result wait for the same attempt. If the new value equals the old
    value, the old object is kept. If the clock is set back, the document is renewed.

    Arguments:
        parse: a function that converts the body to the value. It raises `ValueError` for an unusable document, or
            `UnusableDocument` with the reason for the log.
        tls: verifies the server. Default: the CAs of the system.
        allow_private: also connect to private and loopback addresses. Use this only for URLs that an operator
            configured.
        limit, timeout: the maximum bytes of the body (default: 262,144), and the maximum seconds of one attempt
            (default: 5).
        max_stale: maximum number of seconds that an old value is still used while its server is down.
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
        max_stale: float = _MAX_STALE,
        what: str = "jwks_uri",
    ) -> None:
        require_extra("httpx2", "http", what)
        self._uri = uri
        self._parse = parse
        self._failure: Event = "revocation_list_failed" if what == "urls" else "keys_failed"
        self._tls = tls or ssl.create_default_context()
        self._allow_private = allow_private
        self._limit = _LIMIT if limit is None else limit
        self._timeout = _TIMEOUT if timeout is None else timeout
        self._max_stale = max_stale
        self._lock = threading.Lock()  # protects the following attributes; it is not held during I/O
        self._value: T | None = None
        self._fetched_at = float("-inf")
        self._attempt: Fetch | None = None  # the attempt whose result is not applied yet
        self._attempted_at = float("-inf")

    def current(self, now: float, *, join: bool = False) -> Flow[T]:
        """Return the value. If no value is cached, or if it is old, fetch the document first. Raises `Unavailable`.

        `join`: if another caller is renewing an old value, wait for the new value instead of using the old value.
        """
        age = abs(now - self._fetched_at)
        if self._value is None or age >= _LIFETIME:
            # While one caller renews an old value, the others use the old value. Without an old value, all wait.
            yield from self._renew(now, join=join or self._usable_value(now) is None)
        elif age >= _RENEWAL_AGE:
            yield from self._renew_in_background(now)
        value = self._usable_value(now)
        if value is None:
            wait = max(1, math.ceil(COOL_DOWN - abs(now - self._attempted_at)))
            raise Unavailable(f"the document at {self._uri} is unavailable", retry_after=wait)
        return value

    def fresh(self, now: float) -> T | None:
        """Return the cached value, or `None` if no value is cached or the cached value must be renewed."""
        return self._value if abs(now - self._fetched_at) < _RENEWAL_AGE else None

    def refreshed(self, now: float) -> Flow[T]:
        """Fetch the document again if the last attempt is old enough (`COOL_DOWN`), and return the value.

        Use this, for example, for an unknown key id. Raises `Unavailable`.
        """
        value = yield from self.current(now)
        yield from self._renew(now, join=True)
        return value if self._value is None else self._value

    def with_uri(self, uri: str) -> "RemoteDocument[T]":
        """Return a copy that fetches from `uri`.

        The cached value counts as old, so the next call of `current` fetches the document. If this fetch fails, the
        cached value is used for at most `max_stale` seconds.
        """
        document = copy.copy(self)
        document._uri, document._lock, document._attempt = uri, threading.Lock(), None
        document._attempted_at = float("-inf")
        with self._lock:
            document._value, document._fetched_at = self._value, self._fetched_at - _LIFETIME
        return document

    def _usable_value(self, now: float) -> T | None:
        """Return the cached value, or `None` if its age exceeds the sum of the lifetime and `max_stale`."""
        return self._value if abs(now - self._fetched_at) < _LIFETIME + self._max_stale else None

    def _renew(self, now: float, *, join: bool) -> Flow[None]:
        """Make one attempt if the last attempt is old enough. If not, and `join` is true, wait for the last attempt."""
        with self._lock:
            started = self._start_if_due(now)
            attempt = self._attempt if started or join else None
        if attempt is None:
            return
        found: Response | FetchFailed
        try:
            found = yield from ask(attempt)
        except FetchFailed as failure:
            found = failure
        with self._lock:
            if self._attempt is attempt:  # if not, another caller has applied the result
                self._attempt = None
                self._apply(found)

    def _renew_in_background(self, now: float) -> Flow[None]:
        """Start a renewal if the last attempt is old enough. A later call of a method applies the result."""
        with self._lock:
            attempt = self._attempt if self._start_if_due(now) else None
        if attempt is not None:
            yield from ask(Begin(attempt))

    def _start_if_due(self, now: float) -> bool:
        """Apply the result of a finished attempt. Then create a new attempt if the last attempt is old enough.

        Returns whether a new attempt was created.
        """
        attempt = self._attempt
        if attempt is not None and attempt.outcome.done():
            self._attempt = None
            self._apply(_outcome(attempt))
        if abs(now - self._attempted_at) < COOL_DOWN:
            return False
        self._attempt = Fetch(self._uri, self._tls, self._timeout, self._limit, self._allow_private)
        self._attempted_at = now
        return True

    def _apply(self, found: Response | FetchFailed) -> None:
        """Store the value of a response, or log why it cannot be used."""
        try:
            if isinstance(found, FetchFailed):
                raise found
            if found.status != 200:
                raise FetchFailed(f"status {found.status}")
            value = self._parse(found.body)
        except (FetchFailed, ValueError) as failure:
            is_safe_to_log = isinstance(failure, FetchFailed | UnusableDocument)
            reason = failure if is_safe_to_log else "not the expected document"
            logger.error("fetching %s failed: %s", self._uri, reason)
            report(self._failure, f"fetching {self._uri} failed: {reason}")
            return
        self._fetched_at = self._attempted_at
        if value != self._value:  # keep the old object if the document is unchanged: caches compare by identity
            self._value = value


def _outcome(attempt: Fetch) -> Response | FetchFailed:
    failure = attempt.outcome.exception()
    if failure is None:
        return attempt.outcome.result()
    return failure if isinstance(failure, FetchFailed) else FetchFailed(type(failure).__name__)


def check_address(what: str, uri: str, *, allow_http: bool, example: str = "https://as.example/jwks") -> None:
    """Check that the library may fetch a URL: https, or http to a loopback address if `allow_http` is true.

    `what`: the name of the argument that contains the URL, for the message. Raises `ConfigurationError`.
    """
    if isinstance(uri, str) and len(uri) > _MAX_LENGTH:
        raise ConfigurationError(
            f"{what} of {len(uri)} characters: expected at most {_MAX_LENGTH}, for example {example!r}"
        )
    try:
        # RFC 3986 2. A line break could forge a log line. This check comes first, because `urlsplit` takes quadratic
        # time to normalise non-ASCII characters.
        if not (uri.isascii() and uri.isprintable()) or " " in uri:
            raise ValueError
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
        # Whether `urlsplit` accepts "[::1].a.test" depends on the Python version (CVE-2025-0938).
        if parts.netloc.startswith("["):
            ipaddress.IPv6Address(parts.netloc.partition("]")[0][1:])
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{what}={uri!r} is not a URL: expected for example {example!r}") from error
    if not host or not _HOST_AND_PORT.fullmatch(parts.netloc) or "#" in uri:
        raise ConfigurationError(
            f"{what}={uri!r}: expected a URL without a user name or a fragment, for example {example!r}"
        )
    if parts.scheme == "https" or (parts.scheme == "http" and allow_http and _is_loopback(host)):
        return
    raise ConfigurationError(
        f"{what}={uri!r}: expected https (allow_http=True allows http to loopback addresses, for tests)"
    )


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    # Whether "::ffff:127.0.0.1" is a loopback address depends on the Python version.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
