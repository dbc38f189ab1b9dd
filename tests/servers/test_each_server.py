"""Each server that can hand over the certificate, as a process of its own: each request has its own certificate."""

import asyncio
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.live.servers import free_port, running, tls_files
from tests.servers.clients import BILLING, CA, CHAINS, IN_TURN, expected, greeting, report_of
from tests.servers.kinds import SERVERS, WITH_ASGI, WITH_HTTP2, Kind

pytestmark = pytest.mark.live

FORGED = CA.issue("CN=forged")


@dataclass(frozen=True)
class Running:
    kind: Kind
    port: int

    def expected(self, client: IssuedCertificate | None, *, resumed: bool = False) -> Any:
        """What the application must be told. Python's `ssl` knows no chain of a resumed session, but the leaf."""
        return expected(client, chain=0 if resumed or not self.kind.chain else None)

    def connection(self, client: IssuedCertificate | None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.port, context=CA.client_context(client), timeout=10)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    files, port, kind = tls_files(CA, tmp_path_factory.mktemp("tls")), free_port(), SERVERS[request.param]
    with running(kind.command(port, files), port, program=kind.program):
        yield Running(kind, port)


def test_connections_in_turn_each_keep_their_own_certificate(server: Running) -> None:
    connections = [(client, server.connection(client)) for client in IN_TURN]
    try:
        for again in (False, True, True):
            for client, connection in connections:
                before = connection.sock
                assert report_of(connection)["certificate"] == server.expected(client)
                if again:  # the same connection was asked again, not made again
                    assert (before is not None and connection.sock is before) is server.kind.keeps_alive
    finally:
        for _, connection in connections:
            connection.close()


def test_a_client_may_send_its_leaf_twice_and_its_issuer_often(server: Running) -> None:
    """RFC 8446 4.4.2. A foreign authority stays in the chain, in which no store has looked for a path."""
    chain = (BILLING.x509, *BILLING.chain * 20, CertificateAuthority("CN=Old root").certificate)
    connection = server.connection(IssuedCertificate(BILLING.x509, BILLING.key, chain))
    with closing(connection):
        assert report_of(connection)["certificate"] == {
            "thumbprint": BILLING.thumbprint,
            "verification": "BY_SERVER",
            "chain": len(BILLING.chain) + 1 if server.kind.chain else 0,
        }


@pytest.mark.parametrize("server", WITH_HTTP2, indirect=True)
def test_over_http2_each_stream_has_its_connections_certificate(server: Running) -> None:
    url = f"https://localhost:{server.port}/"

    async def asked() -> None:  # not from threads: the client's own connection breaks now and then when they share it
        clients = [
            (each, httpx2.AsyncClient(http2=True, verify=CA.client_context(each), trust_env=False)) for each in IN_TURN
        ]
        try:
            for client, session in [*clients, *clients]:
                for response in await asyncio.gather(*(session.get(url) for _ in range(6))):  # six streams at once
                    assert response.http_version == "HTTP/2"
                    assert response.json()["certificate"] == server.expected(client)
        finally:
            for _, session in clients:
                await session.aclose()

    asyncio.run(asked())


def test_http2_is_spoken_by_these_and_by_no_other(server: Running) -> None:
    context = CA.client_context(BILLING)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert (connection.selected_alpn_protocol() == "h2") is server.kind.http2


@pytest.mark.standard("J7")
@pytest.mark.parametrize("server", WITH_ASGI, indirect=True)
def test_a_websocket_has_its_connections_certificate(server: Running) -> None:
    for client in [*IN_TURN, *IN_TURN]:
        answer = json.loads(greeting(server.port, client))
        assert answer["certificate"] == server.expected(client)
        assert len(answer["tls"]["client_cert_chain"]) == (1 + CHAINS[client] if client else 0)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_resumed_session_has_the_certificate_of_the_one_that_it_resumes(
    server: Running, version: ssl.TLSVersion
) -> None:
    for client in IN_TURN:
        context = CA.client_context(client)
        context.minimum_version = context.maximum_version = version
        session = None
        for again in (False, True):
            with (
                socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
            ):
                assert connection.session_reused is (server.kind.resumes and again)
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                with http.client.HTTPResponse(connection) as response:
                    response.begin()
                    answer = json.loads(response.read())["certificate"]
                session = connection.session  # after the answer: TLS 1.3 sends its tickets when the handshake is done
                assert session is not None
            assert answer == server.expected(client, resumed=again and server.kind.resumes)


@pytest.mark.standard("J1", "J2", "J3", "J4", "J5", "J6")
@pytest.mark.parametrize("server", WITH_ASGI, indirect=True)
@pytest.mark.parametrize(
    ("version", "suite", "numbers"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", (0x0303, 0xC02C)),
        (ssl.TLSVersion.TLSv1_3, None, (0x0304, 0x1302)),
    ],
    ids=["1.2", "1.3"],
)
def test_every_key_has_the_type_and_value_of_the_specification(
    server: Running, version: ssl.TLSVersion, suite: str | None, numbers: tuple[int, int]
) -> None:
    context = CA.client_context(BILLING)
    context.minimum_version = context.maximum_version = version
    if suite is not None:
        context.set_ciphers(suite)
    connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=10)
    with closing(connection):
        for _ in range(2):  # what the application wrote into the first is not in the second
            tls = report_of(connection)["tls"]
            assert tls.pop("server_cert").startswith("-----BEGIN CERTIFICATE-----\n")
            assert "".join(tls.pop("client_cert_chain")) == BILLING.chain_pem
            assert tls == {
                "client_cert_name": "CN=billing,OU=a\\,b,O=Acme",
                "client_cert_error": None,
                "tls_version": numbers[0],
                "cipher_suite": numbers[1],
            }


@pytest.mark.case("058")
@pytest.mark.standard("A1", "K8")
def test_no_header_is_ever_the_certificate(server: Running) -> None:
    text = FORGED.pem.replace("\n", " ").strip()
    names = ("SSL-Client-Cert", "HTTP-SSL-Client-Cert", "HTTPS-CC", "HTTPS-Client-Certificate")
    forged = {
        **FORGED.as_nginx(),
        **FORGED.as_client_cert(),
        **dict.fromkeys(names, text),
        "SSL-Client-Verify": "SUCCESS",
    }
    for client in IN_TURN:
        with closing(server.connection(client)) as connection:
            answer = report_of(connection, forged)
        assert answer["certificate"] == server.expected(client)
        assert answer["seen"] == []


def test_a_trailer_field_never_becomes_a_header_field(server: Running) -> None:
    fields = [
        "POST / HTTP/1.1",
        "Host: localhost",
        "X-SSL-Before: 1",
        "Transfer-Encoding: chunked",
        "Connection: close",
    ]
    request = "\r\n".join([*fields, "", "1", "x", "0", "X-SSL-After: 1", "Client-Cert: :AAAA:", "", ""]).encode()
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        CA.client_context(BILLING).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(request)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            body = response.read()
    assert response.status in (200, 400, 411), body
    assert b"before" in body.lower() or response.status != 200
    assert b"after" not in body.lower()


def test_a_certificate_of_another_ca_does_not_get_in(server: Running) -> None:
    stranger = CertificateAuthority("CN=Elsewhere").issue("CN=billing,O=Acme")
    with closing(server.connection(stranger)) as connection, pytest.raises((OSError, http.client.HTTPException)):
        report_of(connection)
    with closing(server.connection(BILLING)) as connection:
        assert report_of(connection)["certificate"] == server.expected(BILLING)  # the server goes on
