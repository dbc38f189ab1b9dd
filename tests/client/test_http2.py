"""HTTP/2: tokens stay on connections of their certificate, and out of logs."""

import asyncio
import logging
import re

import httpx2
import pytest

from mtls_middleware.client import AsyncCertificateTransport, CertificateTransport
from tests.client.conftest import World
from tests.client.http2_server import HTTP2Server
from tests.client.test_token_secrecy import values_in

BOTH = pytest.mark.parametrize("way", ["sync", "async"])
AT_EACH_CALL = pytest.mark.usefixtures("at_each_call")


@BOTH
@AT_EACH_CALL
def test_http2_sends_tokens_over_connections_of_their_certificate(world: World, way: str) -> None:
    auth = world.auth()
    with HTTP2Server(world.authority) as api:
        if way == "sync":
            with httpx2.Client(transport=CertificateTransport(world.files, roots=world.roots, http2=True)) as client:
                versions = []
                for _ in range(3):
                    versions.append(client.get(api.host, auth=auth).http_version)
                    world.renew()
        else:

            async def run() -> list[str]:
                transport = AsyncCertificateTransport(world.files, roots=world.roots, http2=True)
                async with httpx2.AsyncClient(transport=transport) as client:
                    found = []
                    for _ in range(3):
                        found.append((await client.get(api.host, auth=auth)).http_version)
                        world.renew()
                    return found

            versions = asyncio.run(run())
        assert versions == ["HTTP/2"] * 3
        assert [fields["authorization"] for _, fields in api.received] == [
            f"Bearer {each}" for each in world.server.issued
        ]
        assert len({thumbprint for thumbprint, _ in api.received}) == 3
        assert [each.thumbprint for each in world.server.token_requests] == [
            thumbprint for thumbprint, _ in api.received
        ]


def test_only_hpack_logs_fields_of_http2(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, hpack logs the encoded fields, from which a token can be decoded (docs/client.md)."""
    caplog.set_level(logging.INFO, logger="hpack")
    caplog.set_level(logging.DEBUG, logger="")
    with HTTP2Server(world.authority) as api:
        with httpx2.Client(transport=CertificateTransport(world.files, roots=world.roots, http2=True)) as client:
            client.get(api.host, auth=world.auth())
        assert api.received
    assert "send_request_headers" in caplog.text  # httpcore2 logs at DEBUG
    assert not re.search("Encoded header block|Bearer", caplog.text)
    assert world.server.issued[0] not in caplog.text


def get(world: World, way: str, url: str, times: int = 1) -> list[httpx2.Response]:
    """Send requests with a token over HTTP/2, one after the other."""
    auth = world.auth()
    if way == "sync":
        with httpx2.Client(transport=CertificateTransport(world.files, roots=world.roots, http2=True)) as client:
            return [client.get(url, auth=auth) for _ in range(times)]

    async def run() -> list[httpx2.Response]:
        transport = AsyncCertificateTransport(world.files, roots=world.roots, http2=True)
        async with httpx2.AsyncClient(transport=transport) as client:
            return [await client.get(url, auth=auth) for _ in range(times)]

    return asyncio.run(run())


@BOTH
def test_a_rejected_token_is_replaced_on_the_same_http2_connection(world: World, way: str) -> None:
    with HTTP2Server(world.authority) as api:
        api.respond = lambda fields: (
            [(":status", "200")]
            if fields["authorization"] != f"Bearer {world.server.issued[0]}"
            else [(":status", "401"), ("www-authenticate", 'Bearer error="invalid_token"')]
        )
        assert [each.status_code for each in get(world, way, api.host, 2)] == [200, 200]
        assert api.connections == 1
        first, second = world.server.issued
        assert [fields["authorization"] for _, fields in api.received] == [
            f"Bearer {each}" for each in (first, *[second] * 2)
        ]


@BOTH
def test_the_exception_of_a_stream_that_is_reset_has_no_token(world: World, way: str) -> None:
    with HTTP2Server(world.authority) as api:
        api.respond = lambda fields: None
        with pytest.raises(httpx2.RemoteProtocolError) as caught:
            get(world, way, api.host)
        assert api.received
    secret = world.server.issued[0]
    assert not [each for each in values_in(caught.value, caught.value.request) if secret in str(each)]


@BOTH
def test_a_redirect_over_http2_gets_no_token(world: World, way: str) -> None:
    with HTTP2Server(world.authority) as api:
        api.respond = lambda fields: [(":status", "302"), ("location", "/elsewhere")]
        (response,) = get(world, way, api.host)
        assert response.next_request is not None
        response.extensions.pop("network_stream")
        assert not [each for each in values_in(response) if world.server.issued[0] in str(each)]
        assert [fields[":path"] for _, fields in api.received] == ["/"]
