"""Attacks by the HTTP proxy between the client and the servers: it must see neither tokens nor the certificate."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from mtls_middleware.client import AsyncCertificateTransport, CertificateTransport, CredentialsNotSent, TokenError
from mtls_middleware.testing import CertificateAuthority
from tests.client.conftest import World
from tests.client.servers import Server
from tests.loopback import LoopbackHandler, LoopbackServer

BOTH = pytest.mark.parametrize("way", ["sync", "async"])


class Proxy(LoopbackServer):
    """A proxy that tunnels to `target`, whatever server it is asked for. `refuse`: a status for each CONNECT instead.

    Attributes:
        seen: the request line and the fields of each request.
        certificates: the certificate of the client on each connection to the proxy.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(_Handler, tls=tls)
        self.target: tuple[str, int] | None = None
        self.refuse: int | None = None
        self.seen: list[str] = []
        self.certificates: list[bytes | None] = []


class _Handler(LoopbackHandler):
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        self.owner.seen.append(f"{self.requestline}\n{self.headers}")
        if isinstance(self.connection, ssl.SSLSocket):
            self.owner.certificates.append(self.connection.getpeercert(binary_form=True))
        self.close_connection = True
        if self.owner.refuse is not None:
            self.send_response(self.owner.refuse)
            self.send_header("WWW-Authenticate", 'Bearer error="invalid_token"')
            self.send_header("Location", "https://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection(self.owner.target or (host, int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_copy, args=(upstream, self.connection))
            back.start()
            _copy(self.connection, upstream)
            back.join()

    def do_GET(self) -> None:
        self.owner.seen.append(f"{self.requestline}\n{self.headers}")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as running:
        yield running


def get(world: World, way: str, proxy: Any, url: str | None = None) -> httpx2.Response:
    """Send a request with a token through `proxy`. The token itself is obtained without it."""
    url, auth = url or world.api.host, world.auth()
    if way == "sync":
        transport = CertificateTransport(world.files, roots=world.roots, proxy=proxy)
        with httpx2.Client(transport=transport, auth=auth) as client:
            return client.get(url)

    async def run() -> httpx2.Response:
        transport = AsyncCertificateTransport(world.files, roots=world.roots, proxy=proxy)
        async with httpx2.AsyncClient(transport=transport, auth=auth) as client:
            return await client.get(url)

    return asyncio.run(run())


@BOTH
def test_a_proxy_gets_no_token(world: World, way: str, proxy: Proxy) -> None:
    assert get(world, way, proxy.host).status_code == 200
    assert len(proxy.seen) == 1
    assert world.api.received[0].token == world.server.issued[0]
    assert "authorization" not in proxy.seen[0].lower()


@BOTH
def test_a_proxy_with_tls_gets_no_certificate(world: World, way: str) -> None:
    """The proxy could read the names in it. The certificate is meant for the servers behind the proxy."""
    tls = world.authority.server_context(world.authority.server(), client_certificates="optional")
    with Proxy(tls) as proxy:
        given = httpx2.Proxy(proxy.host, ssl_context=ssl.create_default_context(cafile=world.roots))
        assert get(world, way, given).status_code == 200
        assert proxy.certificates == [None]
    assert world.api.received[0].thumbprint == world.files.current().thumbprint


@BOTH
@pytest.mark.parametrize("status", [302, 401, 403, 407])
def test_a_proxy_that_refuses_the_tunnel_gets_no_token(world: World, way: str, status: int, proxy: Proxy) -> None:
    proxy.refuse = status
    with pytest.raises(httpx2.ProxyError):
        get(world, way, proxy.host)
    assert len(proxy.seen) == 1
    assert world.server.issued[0] not in proxy.seen[0]
    assert len(world.server.token_requests) == 1


@BOTH
@pytest.mark.parametrize("authority", [None, CertificateAuthority("CN=Other CA")])
def test_a_proxy_cannot_lead_the_token_to_another_server(
    world: World, way: str, authority: CertificateAuthority | None, proxy: Proxy
) -> None:
    """The other server has a certificate of another CA, or one of the same CA with another name."""
    names = ["other.example"] if authority is None else []
    with Server(authority or world.authority, *names) as other:
        proxy.target = ("127.0.0.1", other.port)
        with pytest.raises(httpx2.ConnectError):
            get(world, way, proxy.host)
        assert not other.received
    assert len(proxy.seen) == 1


@BOTH
def test_a_proxy_gets_no_token_for_a_url_with_http(world: World, way: str, proxy: Proxy) -> None:
    with pytest.raises(CredentialsNotSent):
        get(world, way, proxy.host, url=world.api.host.replace("https", "http"))
    assert not proxy.seen


@BOTH
def test_a_proxy_cannot_lead_the_token_request_to_another_server(world: World, way: str, proxy: Proxy) -> None:
    with Server(CertificateAuthority("CN=Other CA")) as other:
        proxy.target = ("127.0.0.1", other.port)
        with pytest.raises(TokenError):
            world.get(way, world.auth(proxy=proxy.host))
        assert not other.received
    assert proxy.seen
    assert not world.api.received
