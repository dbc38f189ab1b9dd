"""Attacks by the HTTP proxy between the client and the servers: it must see neither tokens nor the certificate."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from mtls_middleware.client import AsyncCertificateTransport, CertificateTransport, CredentialsNotSent, TokenError
from mtls_middleware.testing import CertificateAuthority
from tests.client.conftest import World
from tests.client.servers import Server
from tests.egress_proxy import EgressProxy

BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture
def proxy() -> Iterator[EgressProxy]:
    with EgressProxy() as running:
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
def test_a_proxy_gets_no_token(world: World, way: str, proxy: EgressProxy) -> None:
    assert get(world, way, proxy.host).status_code == 200
    assert len(proxy.requests) == 1
    assert world.api.received[0].token == world.server.issued[0]
    assert "authorization" not in proxy.requests[0].text.lower()


@BOTH
def test_a_proxy_with_tls_gets_no_certificate(world: World, way: str) -> None:
    """The proxy could read the names in it. The certificate is meant for the servers behind the proxy."""
    tls = world.authority.server_context(world.authority.server(), client_certificates="optional")
    with EgressProxy(tls) as proxy:
        given = httpx2.Proxy(proxy.host, ssl_context=ssl.create_default_context(cafile=world.roots))
        assert get(world, way, given).status_code == 200
        assert proxy.certificates == [None]
    assert world.api.received[0].thumbprint == world.files.current().thumbprint


@BOTH
@pytest.mark.parametrize("status", [302, 401, 403, 407])
def test_a_proxy_that_refuses_the_tunnel_gets_no_token(world: World, way: str, status: int, proxy: EgressProxy) -> None:
    proxy.refuse = status
    with pytest.raises(httpx2.ProxyError):
        get(world, way, proxy.host)
    assert len(proxy.requests) == 1
    assert world.server.issued[0] not in proxy.requests[0].text
    assert len(world.server.token_requests) == 1


@BOTH
@pytest.mark.parametrize("authority", [None, CertificateAuthority("CN=Other CA")])
def test_a_proxy_cannot_lead_the_token_to_another_server(
    world: World, way: str, authority: CertificateAuthority | None, proxy: EgressProxy
) -> None:
    """The other server has a certificate of another CA, or one of the same CA with another name."""
    names = ["other.example"] if authority is None else []
    with Server(authority or world.authority, *names) as other:
        proxy.target = ("127.0.0.1", other.port)
        with pytest.raises(httpx2.ConnectError):
            get(world, way, proxy.host)
        assert not other.received
    assert len(proxy.requests) == 1


@BOTH
def test_a_proxy_gets_no_token_for_a_url_with_http(world: World, way: str, proxy: EgressProxy) -> None:
    with pytest.raises(CredentialsNotSent):
        get(world, way, proxy.host, url=world.api.host.replace("https", "http"))
    assert not proxy.requests


@BOTH
def test_a_proxy_cannot_lead_the_token_request_to_another_server(world: World, way: str, proxy: EgressProxy) -> None:
    with Server(CertificateAuthority("CN=Other CA")) as other:
        proxy.target = ("127.0.0.1", other.port)
        with pytest.raises(TokenError):
            world.get(way, world.auth(proxy=proxy.host))
        assert not other.received
    assert proxy.requests
    assert not world.api.received
