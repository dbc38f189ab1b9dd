"""Makes one HTTP exchange: a GET of a URL, or a POST of a form or of bytes to a URL, with a timeout and a size limit.

Redirects are not followed. The HTTP client is httpx2 (extra `http`), which is imported when the first exchange starts.
"""

import ipaddress
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from mtls_middleware.effects.public_addresses import is_public as _is_public

if TYPE_CHECKING:
    from concurrent.futures import Future

    import httpx2

    from mtls_middleware.effects.name_lookups import ClientNameLookups


# Default of `max_waiting`. A waiting request needs about 20 kB of memory under ASGI.
MAX_WAITING = 2_000


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Connections:
    """Connections to one server that stay open between exchanges, shared by all threads and event loops of a process.

    The connections are closed when this object is garbage collected or the interpreter exits. A forked child process
    opens new connections.

    Arguments:
        tls: verifies the server, and contains the client certificate to present.
        max_waiting: maximum number of requests of this process that wait for the server at the same time.
        proxy: the URL of an HTTP proxy between this process and the server.
    """

    tls: ssl.SSLContext
    max_waiting: int = MAX_WAITING
    proxy: str | None = field(default=None, repr=False)  # the URL may contain a password

    def __post_init__(self) -> None:
        import httpx2  # noqa: F401 (the import takes 0.25 s, which would delay the first exchange)


@lru_cache(maxsize=1)
def default_context() -> ssl.SSLContext:
    """Return the TLS context with the CAs of the system. Do not change it: all objects share it.

    A context of its own for each object would need memory for each CA.
    """
    return ssl.create_default_context()


def _pending() -> "Future[Response]":
    from concurrent.futures import Future

    outcome: Future[Response] = Future()
    # A running exchange cannot be cancelled, so a caller that stops waiting does not affect other callers.
    outcome.set_running_or_notify_cancel()
    return outcome


@dataclass(frozen=True, slots=True, eq=False)
class Fetch:
    """An HTTP exchange: a GET of `url`, or a POST of `form` or `content` to `url` if one is not `None`.

    The complete response must arrive within `timeout` seconds, and its body may have at most `limit` bytes. Redirects
    are not followed.

    One object is one exchange. All flows that yield the same object, in any thread or event loop, share its result. If
    one of these flows is cancelled, the exchange continues for the other flows.
    """

    url: str
    tls: ssl.SSLContext
    timeout: float
    limit: int
    allow_private: bool = True  # if False, the exchange fails unless the host name resolves only to public addresses
    # Not in the repr, because `form` and `headers` may contain secrets.
    form: Sequence[tuple[str, str]] | None = field(default=None, repr=False)
    # Returns further parameters of the form. It is called when the exchange starts, because a signature takes
    # milliseconds.
    late_form: Callable[[], Sequence[tuple[str, str]]] | None = field(default=None, repr=False)
    # These fields are added to the default fields. A field with the same name replaces the default field.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)  # give its type in `headers`
    connections: Connections | None = field(default=None, repr=False)  # if None, the exchange uses a new connection
    proxy: str | None = field(default=None, repr=False)  # the URL of an HTTP proxy, for an exchange on a new connection
    outcome: "Future[Response]" = field(default_factory=_pending, init=False, repr=False)
    _claim_lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def claim(self) -> bool:
        """Return `True` for the first caller, which must start the exchange, and `False` for all other callers."""
        return self._claim_lock.acquire(blocking=False)

    def end_unstarted(self, failure: BaseException) -> None:
        """If no caller has started the exchange, end it with this failure for all callers."""
        if self.claim():
            self.outcome.set_exception(fetch_failed(failure))

    def result(self) -> "Response | FetchFailed":
        """Return the result of an exchange that has ended: a response or a failure, which is not raised."""
        failure = self.outcome.exception()
        return self.outcome.result() if failure is None else fetch_failed(failure)


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response with its complete body.

    `content_type`: the media type in lower case, without parameters. `""` if there is no `Content-Type` field.
    """

    status: int
    # Not in the repr: the body may contain a token, and some tools log the local variables of a traceback.
    body: bytes = field(repr=False)
    content_type: str = field(default="", compare=False)


class Stopwatch:
    """Measures how long an exchange takes. It starts when it is created, and uses its own clock, not the callers'."""

    def __init__(self, fetch: Fetch) -> None:
        self._began, self._ended = time.monotonic(), math.inf
        fetch.outcome.add_done_callback(self.stop)

    def stop(self, _: object = None) -> None:
        """Set the end of the measured time to now.

        The exchange calls this method when it ends, and the owner may call it again later.
        """
        self._ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds until the exchange ended, or until now if it is in progress."""
        return min(self._ended, time.monotonic()) - self._began


class FetchFailed(Exception):  # noqa: N818 (a result that a flow handles)
    """Raised if the server is unreachable or too slow, or if its response is too large.

    The message is for the log of the operator. `again`: whether a retry is useful, because the connection was refused,
    reset or closed before a response arrived. `retry_after`: if the exchange did not take place because the server
    stalls or too many requests wait for it, the number of seconds until the next attempt. This state is already in
    the log.
    """

    def __init__(self, *reasons: str, again: bool = False, retry_after: int | None = None) -> None:
        super().__init__(*reasons)
        self.again = again
        self.retry_after = retry_after

    def copy(self) -> "FetchFailed":
        """Return a new exception without traceback and cause.

        The traceback of an exception keeps the data of all its frames in memory, and grows each time it is raised.
        """
        return FetchFailed(*self.args, again=self.again, retry_after=self.retry_after)


def fetch_failed(failure: BaseException) -> FetchFailed:
    """Return the failure of an exchange as a `FetchFailed`, for example if no thread could be started for it."""
    return failure.copy() if isinstance(failure, FetchFailed) else FetchFailed(type(failure).__name__)


async def exchange(fetch: Fetch, transport: "httpx2.AsyncHTTPTransport", names: "ClientNameLookups") -> Response:
    """Make the exchange `fetch`, and return the response. Raises `FetchFailed`.

    It uses the transport of httpx2 without a client: a client would add redirects, cookies and proxies.
    """
    import httpx2

    body = _Body(fetch)
    try:
        resolved = () if fetch.allow_private else await names.addresses(*_host_and_port(fetch.url), fetch.timeout)
        response = await transport.handle_async_request(_request(fetch, resolved))
        body.begun = True
        try:
            async for chunk in response.aiter_raw():
                body.add(chunk)
        finally:
            await response.aclose()
        return body.response(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:  # ValueError: IDNA rejects the name
        raise FetchFailed(type(error).__name__, again=not body.begun and _is_broken(error)) from error


def _is_broken(error: Exception) -> bool:
    """Return whether the connection was refused, reset or closed, and not, for example, whether a timeout expired."""
    import httpx2

    closed = isinstance(error, httpx2.RemoteProtocolError) and "disconnected" in str(error)
    return closed or isinstance(error, httpx2.ConnectError | httpx2.ReadError | httpx2.WriteError)


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _request(fetch: Fetch, resolved: Iterable[Any]) -> "httpx2.Request":
    """Create the request. Unless private addresses are allowed, its URL contains the address that was checked.

    So DNS rebinding has no effect, because the name is resolved only once. TLS still verifies the name of the server.
    """
    import httpx2

    method, headers, content = "GET", _HEADERS | dict(fetch.headers), None
    if fetch.form is not None:
        late = () if fetch.late_form is None else fetch.late_form()
        method, content = "POST", urlencode([*fetch.form, *late]).encode("ascii")
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    elif fetch.content is not None:
        method, content = "POST", fetch.content
    if fetch.allow_private:
        return httpx2.Request(method, fetch.url, headers=headers, content=content)
    addresses = [ipaddress.ip_address(each[4][0]) for each in resolved]
    if not addresses or not all(map(_is_public, addresses)):
        raise FetchFailed("the host name resolves to an address that is not public (allow_private=True allows it)")
    parts = urlsplit(fetch.url)
    literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    pinned = parts._replace(netloc=literal if parts.port is None else f"{literal}:{parts.port}").geturl()
    headers["Host"] = parts.netloc
    extensions = {"sni_hostname": parts.hostname or ""}
    return httpx2.Request(method, pinned, headers=headers, content=content, extensions=extensions)


# Default header fields. Compression is disabled, because a small compressed body could expand beyond the size limit.
_HEADERS = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "mtls-middleware",  # some servers reject requests without the field User-Agent
}


class _Body:
    """Collects the body of one response. Raises `FetchFailed` if the body is larger than the limit of the `Fetch`."""

    def __init__(self, fetch: Fetch) -> None:
        self.begun = False  # whether a response has arrived, even if its body is not complete
        self._fetch = fetch
        self._bytes = BytesIO()  # not a `bytearray`, because the contents of a BytesIO become `bytes` without a copy

    def add(self, chunk: bytes) -> None:
        self._bytes.write(chunk)
        if self._bytes.tell() > self._fetch.limit:
            raise FetchFailed(f"the response has more than {self._fetch.limit} bytes")

    def response(self, response: "httpx2.Response") -> Response:
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Response(response.status_code, self._bytes.getvalue(), content_type)
