"""HTTP/2: tokens stay on connections of their certificate, and out of logs."""

import asyncio
import logging
import re

import httpx2
import pytest

from mtls_middleware.client import AsyncCertificateTransport, CertificateTransport
from tests.client.conftest import World
from tests.client.http2_server import HTTP2Server

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
