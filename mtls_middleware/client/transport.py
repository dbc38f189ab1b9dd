"""Transports of httpx2 (sync and async) with one connection pool for each certificate.

A pool is used for requests with its certificate only. After the certificate files are renewed, new requests use a new
pool, and the old pool is closed when its last response is closed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar, cast

from mtls_middleware.certificate_files import CertificateFiles, CertificateKeyPair, Roots
from mtls_middleware.errors import ConfigurationError, require_extra

require_extra("httpx2", "http", "CertificateTransport")

import httpx2  # noqa: E402 (the check before it names the extra)

from mtls_middleware.client.credentials import EXTENSION, RequestWithToken, credentials_of  # noqa: E402 (as above)
from mtls_middleware.client.pools import Pool, Pools  # noqa: E402 (as above)
from mtls_middleware.client.transport_options import Proxy, TransportOptions  # noqa: E402 (as above)

T = TypeVar("T")

_CLOSED = httpx2.ByteStream(b"")


class _Transport(Generic[T]):
    """Chooses the pool of a request, and adds its token.

    Both transports use this class, and do only the I/O themselves.
    """

    _kind: type[T]  # the class of httpx2's transport, one object of which has the connections of one certificate

    def __init__(
        self,
        certificate: CertificateFiles,
        *,
        roots: Roots = None,
        proxy: Proxy = None,
        http2: bool = False,
        limits: httpx2.Limits | None = None,
    ) -> None:
        self._options = TransportOptions(certificate, roots, proxy, http2, limits)
        self._pools: Pools[T] = Pools(certificate, self._connect)

    def _connect(self, pair: CertificateKeyPair) -> T:
        return self._kind(**self._options.arguments(pair))

    def _prepare(self, request: httpx2.Request) -> tuple[httpx2.Request, Pool[T], Sequence[Pool[T]]]:
        """Return the request to send, the pool for it, and old pools that must be closed first. Call `release` later.

        Raises `CredentialsNotSent`, or `ConfigurationError` for the extension `sni_hostname`.
        """
        _check_verified_name(request)
        credentials = credentials_of(request)
        if credentials is None:
            return request, *self._pools.acquire()
        return RequestWithToken(request, credentials), *self._pools.acquire(credentials.pair)


def _check_verified_name(request: httpx2.Request) -> None:
    """Raise `ConfigurationError` if TLS would verify a name that differs from the host of the URL.

    httpcore2 reuses such a connection for later requests to the same host and port, even if they do not choose a name.
    """
    name = request.extensions.get("sni_hostname")
    if name and name != request.url.raw_host.decode("ascii"):
        raise ConfigurationError(
            f"the extension sni_hostname={name!r} is not supported, because TLS would verify this name: expected a URL "
            "with the name of the server, for example 'https://api.example'"
        )


class CertificateTransport(_Transport[httpx2.HTTPTransport], httpx2.BaseTransport):
    """A transport for `httpx2.Client` that presents the current certificate of `certificate` to servers.

    After the files are renewed, new requests use new connections. The old connections are closed when their last
    response is closed. If more than 16 old certificates have open responses, the responses of the oldest certificate
    are closed.

    The server's certificate and the host name of the URL are always verified. So the extension `sni_hostname` of httpx2
    raises `ConfigurationError`. Environment variables such as `HTTPS_PROXY` are ignored.

    Arguments:
        certificate: the certificate and key.
        roots: a PEM file with the CAs that the server's certificate may come from. Default: the system's CAs.
        proxy: the proxy of httpx2, for example `"http://proxy.internal:3128"`. TLS ends at the server.
        http2: whether to offer HTTP/2 (needs `pip install 'httpx2[http2]'`).
        limits: the limits of httpx2, for each certificate. Default: those of httpx2.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `httpx2.Client(transport=CertificateTransport(CertificateFiles("c.pem", "c.key")))`
    """

    _kind = httpx2.HTTPTransport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request` over a connection of its certificate. Raises `CredentialsNotSent` and httpx2's exceptions."""
        sent, pool, unused = self._prepare(request)
        try:
            for old in unused:
                old.transport.close()
            response = pool.transport.handle_request(sent)
        except BaseException:
            self._release(pool)
            raise
        response.stream = _Stream(cast("httpx2.SyncByteStream", response.stream), lambda: self._release(pool))
        response.extensions[EXTENSION] = pool.pair.certificate  # without the key
        return response

    def _release(self, pool: Pool[httpx2.HTTPTransport]) -> None:
        if self._pools.release(pool):
            pool.transport.close()

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.remove_all():
            pool.transport.close()


class AsyncCertificateTransport(_Transport[httpx2.AsyncHTTPTransport], httpx2.AsyncBaseTransport):
    """A transport for `httpx2.AsyncClient`. Arguments and behaviour are those of `CertificateTransport`.

    Example: `httpx2.AsyncClient(transport=AsyncCertificateTransport(CertificateFiles("c.pem", "c.key")))`
    """

    _kind = httpx2.AsyncHTTPTransport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request` over a connection of its certificate. Raises `CredentialsNotSent` and httpx2's exceptions."""
        sent, pool, unused = self._prepare(request)
        try:
            for old in unused:
                await old.transport.aclose()
            response = await pool.transport.handle_async_request(sent)
        except BaseException:
            await self._release(pool)
            raise
        response.stream = _AsyncStream(cast("httpx2.AsyncByteStream", response.stream), lambda: self._release(pool))
        response.extensions[EXTENSION] = pool.pair.certificate  # without the key
        return response

    async def _release(self, pool: Pool[httpx2.AsyncHTTPTransport]) -> None:
        if self._pools.release(pool):
            await pool.transport.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.remove_all():
            await pool.transport.aclose()


class _Stream(httpx2.SyncByteStream):
    """The body of a response. `close` also calls `release`, and forgets the request, which has the token."""

    def __init__(self, stream: httpx2.SyncByteStream, release: Callable[[], None]) -> None:
        self._stream, self._release = stream, release

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        release, self._release = self._release, _nothing
        stream, self._stream = self._stream, _CLOSED
        try:
            stream.close()
        finally:
            release()


class _AsyncStream(httpx2.AsyncByteStream):
    """The body of a response. `aclose` also awaits `release`, and forgets the request, which has the token."""

    def __init__(self, stream: httpx2.AsyncByteStream, release: Callable[[], Awaitable[None]]) -> None:
        self._stream, self._release = stream, release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        release, self._release = self._release, _nothing_async
        stream, self._stream = self._stream, _CLOSED
        try:
            await stream.aclose()
        finally:
            await release()


def _nothing() -> None:
    """Do nothing. A stream may be closed twice."""


async def _nothing_async() -> None:
    """Do nothing. A stream may be closed twice."""
