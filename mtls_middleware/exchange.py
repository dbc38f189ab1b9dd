"""One HTTP exchange: GET an address, within a time and a size, no redirect followed.

Must never know: what is fetched, or why. One client underneath (extra `http`), imported when the first exchange begins.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx2


def _pending() -> "Future[Response]":
    outcome: Future[Response] = Future()
    outcome.set_running_or_notify_cancel()  # so that nobody who stops waiting can cancel it for the others
    return outcome


@dataclass(frozen=True, slots=True, eq=False)
class Fetch:
    """GET this address: whole answer within `timeout` seconds and `limit` bytes, no redirect followed.

    One object is one exchange: flows that yield the same one, in any thread or event loop, early or late, share its
    outcome, and nobody who goes away takes it from the others.
    """

    url: str
    tls: ssl.SSLContext
    timeout: float
    limit: int
    allow_private: bool = True  # else the name must lead to public addresses alone, and one of those is connected to
    outcome: "Future[Response]" = field(default_factory=_pending, init=False, repr=False)
    _unclaimed: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def claim(self) -> bool:
        """Whether the caller is the first, who has to begin the exchange."""
        return self._unclaimed.acquire(blocking=False)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back; `body` is complete."""

    status: int
    body: bytes


class FetchFailed(Exception):  # noqa: N818 (an outcome that a flow handles, named like one)
    """No complete answer: refused, unreachable, too slow, too large. The text is for the operator's log."""


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
        with (
            httpx2.Client(verify=need.tls, timeout=need.timeout, trust_env=False) as client,
            client.stream("GET", **request) as response,
        ):
            for chunk in response.iter_bytes():
                body.add(chunk, late=time.monotonic() > deadline)
            return body.response(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise FetchFailed(type(error).__name__) from error


async def _get_async(need: Fetch) -> Response:
    import httpx2

    body = _Body(need)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(need.timeout):
            request = _request(need, () if need.allow_private else await loop.getaddrinfo(*_host_and_port(need.url)))
            async with (
                httpx2.AsyncClient(verify=need.tls, timeout=need.timeout, trust_env=False) as client,
                client.stream("GET", **request) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body.add(chunk, late=False)
                return body.response(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:  # OSError holds TimeoutError
        raise FetchFailed(type(error).__name__) from error


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _request(need: Fetch, found: Iterable[Any]) -> dict[str, Any]:
    """The request's arguments. Where private addresses are shut out, the address that was looked at is the one that is
    connected to, whatever the name leads to a moment later; TLS still demands the name.
    """
    if need.allow_private:
        return {"url": need.url, "headers": _HEADERS}
    addresses = [ipaddress.ip_address(each[4][0]) for each in found]
    if not addresses or not all(map(_is_public, addresses)):
        raise FetchFailed("an address that is not public (allow_private=True admits it)")
    parts = urlsplit(need.url)
    literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    pinned = parts._replace(netloc=literal if parts.port is None else f"{literal}:{parts.port}").geturl()
    name = parts.hostname or ""
    return {"url": pinned, "headers": _HEADERS | {"Host": parts.netloc}, "extensions": {"sni_hostname": name}}


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or address in _NAT64:
            return False  # an IPv4 address is inside, which may be any
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.ip_network("64:ff9b::/96")

# "identity": a compressed answer could unfold past the limit between two looks at it.
_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class _Body:
    """The bytes of one answer while they arrive, within the limits of its `Fetch`."""

    def __init__(self, need: Fetch) -> None:
        self._need = need
        self._bytes = bytearray()

    def add(self, chunk: bytes, *, late: bool) -> None:
        self._bytes += chunk
        if len(self._bytes) > self._need.limit:
            raise FetchFailed(f"more than {self._need.limit} bytes")
        if late:
            raise FetchFailed(f"not complete within {self._need.timeout} s")

    def response(self, response: "httpx2.Response") -> Response:
        return Response(response.status_code, bytes(self._bytes))
