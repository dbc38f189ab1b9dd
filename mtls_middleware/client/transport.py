"""Transports of httpx2 (sync and async) with one connection pool for each certificate.

A pool is used for requests with its certificate only. After the certificate files are renewed, new requests use a new
pool, and the old pool is closed when its last response is closed.
"""

import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from mtls_middleware.certificate_files import CertificateFiles, CertificateKeyPair, Roots, trust_context
from mtls_middleware.client.errors import CredentialsNotSent
from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.options import boolean

require_extra("httpx2", "http", "CertificateTransport")

import httpx2  # noqa: E402 (the check before it names the extra)

logger: logging.Logger = logging.getLogger("mtls_middleware.client")

T = TypeVar("T")

# The key of a request's extensions with its `Credentials`, and of a response's extensions with its certificate.
EXTENSION = "mtls_middleware"
# Maximum number of old pools that wait for the end of their responses. With files that are renewed every minute, a
# response may take a quarter of an hour.
_MAX_OLD_POOLS = 16


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """The certificate with which a request must be sent, its token, and the URL for which both are meant.

    The transport adds the token to the request. So no other transport can send the token.
    """

    pair: CertificateKeyPair
    token: str
    url: httpx2.URL


class _Pool(Generic[T]):
    """The connections that present one certificate. `responses`: the number of requests and responses in progress."""

    def __init__(self, pair: CertificateKeyPair, transport: T) -> None:
        self.pair, self.transport, self.responses = pair, transport, 0


class _Pools(Generic[T]):
    """The pool of the current certificate, and old pools until their responses are closed. Thread-safe; no I/O."""

    def __init__(self, certificate: CertificateFiles, connect: Callable[[CertificateKeyPair], T]) -> None:
        self._certificate, self._connect = certificate, connect
        self._lock = threading.Lock()  # protects the following attributes
        self._pools: list[_Pool[T]] = []  # the last one has the current certificate

    def acquire(self, request: httpx2.Request) -> tuple[_Pool[T], list[_Pool[T]]]:
        """Return the pool for `request`, and the old pools that must be closed now. Adds the token to the request."""
        credentials = _credentials(request)
        current = self._certificate.current()
        with self._lock:
            if not self._pools or not _is_same(self._pools[-1].pair, current):
                self._pools.append(_Pool(current, self._connect(current)))
            pool = self._pools[-1] if credentials is None else self._pool_of(credentials.pair)
            pool.responses += 1
            unused = self._remove_unused()
        if credentials is not None:
            request.headers["Authorization"] = f"Bearer {credentials.token}"
        return pool, unused

    def release(self, pool: _Pool[T]) -> bool:
        """Count the end of a response. Returns whether the pool must be closed now."""
        with self._lock:
            pool.responses -= 1
            if pool.responses or pool not in self._pools[:-1]:
                return False
            self._pools.remove(pool)
            return True

    def remove_all(self) -> list[_Pool[T]]:
        """Remove all pools, and return them."""
        with self._lock:
            pools, self._pools = self._pools, []
            return pools

    def _pool_of(self, pair: CertificateKeyPair) -> _Pool[T]:
        """Return the pool of `pair`. A new one is old at once, if the files were renewed since the request began."""
        for pool in reversed(self._pools):
            if _is_same(pool.pair, pair):
                return pool
        pool = _Pool(pair, self._connect(pair))
        self._pools.insert(-1, pool)
        return pool

    def _remove_unused(self) -> list[_Pool[T]]:
        *old, current = self._pools
        used = [pool for pool in old if pool.responses]
        if len(used) > _MAX_OLD_POOLS:
            logger.warning("%d old certificates have open responses; the oldest connections are closed", len(used))
            used = used[-_MAX_OLD_POOLS:]
        self._pools = [*used, current]
        return [pool for pool in old if pool not in used] if len(used) < len(old) else []


class CertificateTransport(httpx2.BaseTransport):
    """A transport for `httpx2.Client` that presents the current certificate of `certificate` to servers.

    After the files are renewed, new requests use new connections. The old connections are closed when their last
    response is closed. At most 16 old certificates have open responses; then those of the oldest are closed.

    The server's certificate and name are always verified. Environment variables such as `HTTPS_PROXY` are ignored.

    Arguments:
        certificate: the certificate and key.
        roots: a PEM file with the CAs that the server's certificate may come from. Default: the system's CAs.
        proxy: the proxy of httpx2, for example `"http://proxy.internal:3128"`. TLS ends at the server.
        http2: whether to offer HTTP/2 (needs `pip install 'httpx2[http2]'`).
        limits: the limits of httpx2, for each certificate. Default: those of httpx2.

    Raises `ConfigurationError`.

    Example: `httpx2.Client(transport=CertificateTransport(CertificateFiles("c.pem", "c.key")))`
    """

    def __init__(
        self,
        certificate: CertificateFiles,
        *,
        roots: Roots = None,
        proxy: "str | httpx2.URL | httpx2.Proxy | None" = None,
        http2: bool = False,
        limits: httpx2.Limits | None = None,
    ) -> None:
        options = _Options(certificate, roots, proxy, http2, limits)
        self._pools: _Pools[httpx2.HTTPTransport] = _Pools(certificate, options.blocking)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request` over a connection of its certificate. Raises `CredentialsNotSent`, and those of httpx2."""
        pool, unused = self._pools.acquire(request)
        try:
            for old in unused:
                old.transport.close()
            response = pool.transport.handle_request(request)
        except BaseException:
            self._release(pool)
            raise
        response.stream = _Stream(cast("httpx2.SyncByteStream", response.stream), lambda: self._release(pool))
        response.extensions[EXTENSION] = pool.pair
        return response

    def _release(self, pool: _Pool[httpx2.HTTPTransport]) -> None:
        if self._pools.release(pool):
            pool.transport.close()

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.remove_all():
            pool.transport.close()


class AsyncCertificateTransport(httpx2.AsyncBaseTransport):
    """A transport for `httpx2.AsyncClient`. Arguments and behaviour are those of `CertificateTransport`.

    Example: `httpx2.AsyncClient(transport=AsyncCertificateTransport(CertificateFiles("c.pem", "c.key")))`
    """

    def __init__(
        self,
        certificate: CertificateFiles,
        *,
        roots: Roots = None,
        proxy: "str | httpx2.URL | httpx2.Proxy | None" = None,
        http2: bool = False,
        limits: httpx2.Limits | None = None,
    ) -> None:
        options = _Options(certificate, roots, proxy, http2, limits)
        self._pools: _Pools[httpx2.AsyncHTTPTransport] = _Pools(certificate, options.awaiting)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request` over a connection of its certificate. Raises `CredentialsNotSent`, and those of httpx2."""
        pool, unused = self._pools.acquire(request)
        try:
            for old in unused:
                await old.transport.aclose()
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            await self._release(pool)
            raise
        response.stream = _AsyncStream(cast("httpx2.AsyncByteStream", response.stream), lambda: self._release(pool))
        response.extensions[EXTENSION] = pool.pair
        return response

    async def _release(self, pool: _Pool[httpx2.AsyncHTTPTransport]) -> None:
        if self._pools.release(pool):
            await pool.transport.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.remove_all():
            await pool.transport.aclose()


@dataclass(frozen=True, slots=True)
class _Options:
    """The arguments of both transports, which are checked at construction."""

    certificate: CertificateFiles
    roots: Roots
    proxy: "str | httpx2.URL | httpx2.Proxy | None"
    http2: bool
    limits: httpx2.Limits | None

    def __post_init__(self) -> None:
        if not isinstance(self.certificate, CertificateFiles):
            expected = "for example CertificateFiles('c.pem', 'c.key')"
            raise ConfigurationError(f"certificate={self.certificate!r}: expected {expected}")
        trust_context(self.roots)
        boolean("http2", self.http2)

    def blocking(self, pair: CertificateKeyPair) -> httpx2.HTTPTransport:
        return httpx2.HTTPTransport(verify=pair.ssl_context(self.roots), **self._others())

    def awaiting(self, pair: CertificateKeyPair) -> httpx2.AsyncHTTPTransport:
        return httpx2.AsyncHTTPTransport(verify=pair.ssl_context(self.roots), **self._others())

    def _others(self) -> dict[str, Any]:
        limits = {} if self.limits is None else {"limits": self.limits}
        return {"trust_env": False, "http2": self.http2, "proxy": self.proxy, **limits}


class _Stream(httpx2.SyncByteStream):
    """The body of a response. `close` also calls `release`."""

    def __init__(self, stream: httpx2.SyncByteStream, release: Callable[[], None]) -> None:
        self._stream, self._release = stream, release

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        release, self._release = self._release, _nothing
        try:
            self._stream.close()
        finally:
            release()


class _AsyncStream(httpx2.AsyncByteStream):
    """The body of a response. `aclose` also awaits `release`."""

    def __init__(self, stream: httpx2.AsyncByteStream, release: Callable[[], Awaitable[None]]) -> None:
        self._stream, self._release = stream, release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        release, self._release = self._release, _nothing_async
        try:
            await self._stream.aclose()
        finally:
            await release()


def _nothing() -> None:
    """A stream may be closed twice."""


async def _nothing_async() -> None:
    """A stream may be closed twice."""


def _credentials(request: httpx2.Request) -> Credentials | None:
    """Return the credentials of `request`, or `None`. Raises `CredentialsNotSent` if they are not meant for its URL."""
    credentials = request.extensions.get(EXTENSION)
    if credentials is None:
        return None
    url = request.url
    if not isinstance(credentials, Credentials) or (url is not credentials.url and url != credentials.url):
        raise CredentialsNotSent(
            "the request is a redirect, which must not carry the token: send a new request to an address that you trust"
        )
    if url.scheme != "https":
        raise CredentialsNotSent(f"a token is sent only over https, and not to a URL of the scheme {url.scheme!a}")
    return credentials


def _is_same(one: CertificateKeyPair, other: CertificateKeyPair) -> bool:
    return one is other or one == other
