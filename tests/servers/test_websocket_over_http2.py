"""hypercorn: a websocket that is one stream of an HTTP/2 connection (RFC 8441) has that connection's certificate."""

import json
import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from mtls_middleware.testing import IssuedCertificate
from tests.live.servers import free_port, running, tls_files
from tests.servers.clients import CA, IN_TURN, expected
from tests.servers.kinds import SERVERS, Kind

pytestmark = [pytest.mark.live, pytest.mark.standard("J7")]


@pytest.fixture(scope="module", params=[name for name, kind in SERVERS.items() if kind.package == "hypercorn"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    files, port = tls_files(CA, tmp_path_factory.mktemp("tls")), free_port()
    kind: Kind = SERVERS[request.param]
    with running(kind.command(port, files), port, program=kind.program):
        yield port


def first_message(port: int, client: IssuedCertificate | None) -> bytes:
    """The payload of the first frame that the server sends on a websocket over HTTP/2."""
    context = CA.client_context(client)
    context.set_alpn_protocols(["h2"])
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    received, asked = b"", False
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        connection.initiate_connection()
        while len(received) < 4 or len(received) < 4 + int.from_bytes(received[2:4]):
            secured.sendall(connection.data_to_send())
            data = secured.recv(65536)
            assert data, "the server closed the connection"
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RemoteSettingsChanged) and not asked:
                    assert connection.remote_settings.enable_connect_protocol == 1
                    connection.send_headers(1, [*CONNECT, ("sec-websocket-version", "13")])
                    asked = True
                elif isinstance(event, h2.events.ResponseReceived):
                    assert (b":status", b"200") in event.headers
                elif isinstance(event, h2.events.DataReceived):
                    received += event.data
    assert received[0] == 0x81  # the last frame of a text
    assert received[1] == 126  # its length is in the next two octets (RFC 6455 5.2)
    return received[4 : 4 + int.from_bytes(received[2:4])]


CONNECT = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":path", "/"),
    (":authority", "localhost"),
]


def test_a_websocket_over_http2_has_its_connections_certificate(port: int) -> None:
    for client in [*IN_TURN, *IN_TURN]:
        assert json.loads(first_message(port, client))["certificate"] == expected(client)
