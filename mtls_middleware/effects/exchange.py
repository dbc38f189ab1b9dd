"""One HTTP exchange: GET an address, or POST a form to it, within a time and a size, no redirect followed.

Must never know: what is fetched, or why. One client underneath (extra `http`), imported when the first exchange begins.
"""

import ipaddress
import ssl
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from mtls_middleware.effects.public_addresses import is_public as _is_public

if TYPE_CHECKING:
    from concurrent.futures import Future

    import httpx2

    from mtls_middleware.effects.name_lookups import ClientNameLookups


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Connections:
    """Connections to one server that are kept open between exchanges, for all threads and event loops of a process.

    They are closed when this object goes, or the interpreter ends. A forked child makes its own.

    Arguments:
        tls: how the server is verified, and the client certificate that we present.
    """

    tls: ssl.SSLContext

    def __post_init__(self) -> None:
        import httpx2  # noqa: F401 (it takes a quarter of a second, which the first exchange should not)


def _pending() -> "Future[Response]":
    from concurrent.futures import Future

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
    connections: Connections | None = field(default=None, repr=False)  # else a connection of its own
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


async def exchange(need: Fetch, transport: "httpx2.AsyncHTTPTransport", names: "ClientNameLookups") -> Response:
    """Make the exchange. Raises `FetchFailed`. A transport knows no redirects, cookies or proxies."""
    import httpx2

    body = _Body(need)
    try:
        found = () if need.allow_private else await names.addresses(*_host_and_port(need.url), need.timeout)
        response = await transport.handle_async_request(_request(need, found))
        body.begun = True
        try:
            async for chunk in response.aiter_raw():
                body.add(chunk)
        finally:
            await response.aclose()
        return body.response(response)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:  # ValueError: a name that IDNA refuses
        raise FetchFailed(type(error).__name__, again=not body.begun and _is_broken(error)) from error


def _is_broken(error: Exception) -> bool:
    """A connection that was refused, reset or closed: not one that was slow, nor an answer that cannot be read."""
    import httpx2

    closed = isinstance(error, httpx2.RemoteProtocolError) and "disconnected" in str(error)
    return closed or isinstance(error, httpx2.ConnectError | httpx2.ReadError | httpx2.WriteError)


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _request(need: Fetch, found: Iterable[Any]) -> "httpx2.Request":
    """Where private addresses are shut out, the address that was looked at is the one that is connected to, whatever
    the name leads to a moment later; TLS still demands the name.
    """
    import httpx2

    method, headers, content = "GET", _HEADERS | dict(need.headers), None
    if need.form is not None:
        method, content = "POST", urlencode(need.form).encode("ascii")
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if need.allow_private:
        return httpx2.Request(method, need.url, headers=headers, content=content)
    addresses = [ipaddress.ip_address(each[4][0]) for each in found]
    if not addresses or not all(map(_is_public, addresses)):
        raise FetchFailed("an address that is not public (allow_private=True admits it)")
    parts = urlsplit(need.url)
    literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    pinned = parts._replace(netloc=literal if parts.port is None else f"{literal}:{parts.port}").geturl()
    headers["Host"] = parts.netloc
    extensions = {"sni_hostname": parts.hostname or ""}
    return httpx2.Request(method, pinned, headers=headers, content=content, extensions=extensions)


# "identity", and the raw octets are read: a compressed answer could unfold past the limit between two looks at it.
_HEADERS = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "mtls-middleware",  # some servers turn away who does not name himself
}


class _Body:
    """The bytes of one answer while they arrive, within the limits of its `Fetch`."""

    def __init__(self, need: Fetch) -> None:
        self.begun = False  # an answer has come, if not its body
        self._need = need
        self._bytes = bytearray()

    def add(self, chunk: bytes) -> None:
        self._bytes += chunk
        if len(self._bytes) > self._need.limit:
            raise FetchFailed(f"more than {self._need.limit} bytes")

    def response(self, response: "httpx2.Response") -> Response:
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Response(response.status_code, bytes(self._bytes), content_type)
