"""One HTTP exchange: GET an address, or POST a form to it, within a time and a size, no redirect followed.

Must never know: what is fetched, or why. One client underneath (extra `http`), imported when the first exchange begins.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    import httpx2


def _pending() -> "Future[Response]":
    outcome: Future[Response] = Future()
    outcome.set_running_or_notify_cancel()  # so that nobody who stops waiting can cancel it for the others
    return outcome


@dataclass(frozen=True, slots=True, eq=False)
class Fetch:
    """GET this address, or POST `form` to it: whole answer within `timeout` seconds and `limit` bytes, no redirect
    followed.

    One object is one exchange: flows that yield the same one, in any thread or event loop, early or late, share its
    outcome, and nobody who goes away takes it from the others.
    """

    url: str
    tls: ssl.SSLContext
    timeout: float
    limit: int
    allow_private: bool = True  # else the name must lead to public addresses alone, and one of those is connected to
    form: Sequence[tuple[str, str]] | None = field(default=None, repr=False)  # may hold secrets, as headers may
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # over those that a key set is asked with
    connections: "Connections | None" = field(default=None, repr=False)  # else a connection of its own
    outcome: "Future[Response]" = field(default_factory=_pending, init=False, repr=False)
    _unclaimed: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def claim(self) -> bool:
        """Whether the caller is the first, who has to begin the exchange."""
        return self._unclaimed.acquire(blocking=False)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back; `body` is complete. `content_type`: the media type alone, lower case, `""` without one."""

    status: int
    body: bytes
    content_type: str = field(default="", compare=False)


class FetchFailed(Exception):  # noqa: N818 (an outcome that a flow handles, named like one)
    """No complete answer: refused, unreachable, too slow, too large. The text is for the operator's log.

    `again`: the connection failed before anything came back, and did not use up the time: once more is worth it.
    """

    def __init__(self, *reasons: str, again: bool = False) -> None:
        super().__init__(*reasons)
        self.again = again


def exchange(need: Fetch) -> None:
    """Make the exchange, blocking, and give `need.outcome` its result."""
    try:
        need.outcome.set_result(_get(need))
    except BaseException as failure:  # noqa: BLE001 (whoever waits is told)
        need.outcome.set_exception(failure)


async def exchange_async(need: Fetch) -> None:
    """Make the exchange on an event loop, and give `need.outcome` its result."""
    try:
        need.outcome.set_result(await _get_async(need))
    except asyncio.CancelledError:  # the event loop ends
        need.outcome.set_exception(FetchFailed("given up, the event loop ends"))
        raise
    except Exception as failure:  # noqa: BLE001 (whoever waits is told)
        need.outcome.set_exception(failure)


def _get(need: Fetch) -> Response:
    import httpx2

    deadline = time.monotonic() + need.timeout
    body = _Body(need)
    try:
        request = _request(need, () if need.allow_private else socket.getaddrinfo(*_host_and_port(need.url)))
        with _client(need) as client, client.stream(**request) as response:
            body.begun = True
            for chunk in response.iter_raw():
                body.add(chunk, late=time.monotonic() > deadline)
            return body.response(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:  # ValueError: a name that IDNA refuses
        raise FetchFailed(type(error).__name__, again=not body.begun and _is_broken(error)) from error


async def _get_async(need: Fetch) -> Response:
    import httpx2

    body = _Body(need)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(need.timeout):
            request = _request(need, () if need.allow_private else await loop.getaddrinfo(*_host_and_port(need.url)))
            async with _client_async(need) as client, client.stream(**request) as response:
                body.begun = True
                async for chunk in response.aiter_raw():
                    body.add(chunk, late=False)
                return body.response(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:  # OSError holds TimeoutError
        raise FetchFailed(type(error).__name__, again=not body.begun and _is_broken(error)) from error


def _is_broken(error: Exception) -> bool:
    """A connection that was refused, reset or closed: not one that was slow, nor an answer that cannot be read."""
    import httpx2

    closed = isinstance(error, httpx2.RemoteProtocolError) and "disconnected" in str(error)
    return closed or isinstance(error, httpx2.ConnectError | httpx2.ReadError | httpx2.WriteError)


@contextlib.contextmanager
def _client(need: Fetch) -> "Iterator[httpx2.Client]":
    import httpx2

    if need.connections is not None:
        yield need.connections.blocking()
        return
    with httpx2.Client(verify=need.tls, trust_env=False) as client:
        yield client


@contextlib.asynccontextmanager
async def _client_async(need: Fetch) -> "AsyncIterator[httpx2.AsyncClient]":
    import httpx2

    if need.connections is not None:
        client, turns = await need.connections.awaiting()
        async with turns:
            yield client
        return
    async with httpx2.AsyncClient(verify=need.tls, trust_env=False) as client:
        yield client


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _request(need: Fetch, found: Iterable[Any]) -> dict[str, Any]:
    """The request's arguments. Where private addresses are shut out, the address that was looked at is the one that is
    connected to, whatever the name leads to a moment later; TLS still demands the name.
    """
    headers = _HEADERS | dict(need.headers)
    usual: dict[str, Any] = {"method": "GET", "timeout": need.timeout}
    if need.form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        usual |= {"method": "POST", "content": urlencode(need.form).encode("ascii")}
    if need.allow_private:
        return {**usual, "url": need.url, "headers": headers}
    addresses = [ipaddress.ip_address(each[4][0]) for each in found]
    if not addresses or not all(map(_is_public, addresses)):
        raise FetchFailed("an address that is not public (allow_private=True admits it)")
    parts = urlsplit(need.url)
    literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    pinned = parts._replace(netloc=literal if parts.port is None else f"{literal}:{parts.port}").geturl()
    name = parts.hostname or ""
    return {**usual, "url": pinned, "headers": headers | {"Host": parts.netloc}, "extensions": {"sni_hostname": name}}


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or address not in _GLOBAL_UNICAST:
            return False  # an IPv4 address is inside, which may be any; the same goes for NAT64 and other old prefixes
    return address.is_global and not address.is_multicast


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")

# "identity", and the raw octets are read: a compressed answer could unfold past the limit between two looks at it.
_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class _Body:
    """The bytes of one answer while they arrive, within the limits of its `Fetch`."""

    def __init__(self, need: Fetch) -> None:
        self.begun = False  # an answer has come, if not its body
        self._need = need
        self._bytes = bytearray()

    def add(self, chunk: bytes, *, late: bool) -> None:
        self._bytes += chunk
        if len(self._bytes) > self._need.limit:
            raise FetchFailed(f"more than {self._need.limit} bytes")
        if late:
            raise FetchFailed(f"not complete within {self._need.timeout} s")

    def response(self, response: "httpx2.Response") -> Response:
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Response(response.status_code, bytes(self._bytes), content_type)


# At most so many connections to one server; who comes later waits, within its timeout.
_MOST_CONNECTIONS = 100
# Servers close what was idle for a few seconds themselves: Node.js and uvicorn after 5.
_IDLE, _MOST_IDLE = 5.0, 20
# At most so many exchanges at once on one event loop: each costs it one or two milliseconds of work, and two hundred
# that begin or end together would hold up everything else for a third of a second.
_MOST_AT_ONCE = 50


class Connections:
    """Connections to one server that are kept open between exchanges: for all threads together, and per event loop.

    They are closed when the event loop ends (`asyncio.run`, any server), or this object does, or the interpreter. A
    forked child makes its own.

    Arguments:
        tls: how the server is verified, and the client certificate that we present.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        import httpx2  # it takes a quarter of a second: not on an event loop

        self.tls = tls
        self._lock = threading.Lock()  # around what follows; never held while anybody waits
        self._blocking: httpx2.Client | None = None
        self._closing: weakref.finalize[..., Connections] | None = None
        self._process = 0
        self._awaiting: dict[asyncio.AbstractEventLoop, _Awaiting] = {}

    def blocking(self) -> "httpx2.Client":
        """The client for threads."""
        import httpx2

        with self._lock:
            if self._blocking is None or self._process != os.getpid():
                if self._closing is not None:
                    self._closing.detach()  # the parent's connections: to close them here would end them there
                    _INHERITED.append(self._blocking)
                self._blocking = httpx2.Client(**self._options())
                self._closing = weakref.finalize(self, self._blocking.close)
                self._process = os.getpid()
            return self._blocking

    async def awaiting(self) -> "tuple[httpx2.AsyncClient, asyncio.Semaphore]":
        """The client for the running event loop, and where to wait for one's turn with it."""
        loop = asyncio.get_running_loop()
        with self._lock:
            found = self._awaiting.get(loop)
            if found is None:
                for ended in [each for each in self._awaiting if each.is_closed()]:
                    del self._awaiting[ended]
        if found is None:
            # An asynchronous generator, since every event loop closes those that are left when it ends.
            keeper = _kept(self._options())
            found = _Awaiting(keeper, await anext(keeper), asyncio.Semaphore(_MOST_AT_ONCE))
            with self._lock:
                self._awaiting[loop] = found
        return found.client, found.turns

    def _options(self) -> dict[str, Any]:
        import httpx2

        limits = httpx2.Limits(
            max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_IDLE, keepalive_expiry=_IDLE
        )
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # one exchange must not colour the next
        return {"verify": self.tls, "trust_env": False, "limits": limits, "cookies": no_cookies}


@dataclass(frozen=True, slots=True)
class _Awaiting:
    keeper: AsyncGenerator[object]
    client: "httpx2.AsyncClient"
    turns: asyncio.Semaphore


_INHERITED: list[object] = []  # kept, so that nothing closes them


async def _kept(options: dict[str, Any]) -> "AsyncGenerator[httpx2.AsyncClient]":
    import httpx2

    async with httpx2.AsyncClient(**options) as client:
        yield client
