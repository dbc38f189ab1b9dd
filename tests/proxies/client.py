"""A client that can say what no library lets it say: raw HTTP/1.1, and HTTP/2 without any checks, over TLS."""

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

# A reader is told soon, and nothing here takes longer on a loaded machine.
TIMEOUT = 20

Field = tuple[bytes, bytes]


@dataclass(frozen=True)
class Answer:
    """`status` 0: no HTTP answer, the connection or the stream was refused."""

    status: int
    body: bytes = b""

    @property
    def report(self) -> Any:
        """What the application said; `None` where it was not reached."""
        return json.loads(self.body) if self.status == 200 else None


REFUSED = Answer(0)


def connected(port: int, context: ssl.SSLContext, protocol: str) -> ssl.SSLSocket:
    context.set_alpn_protocols([protocol])
    plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="localhost")


def over_http1(
    port: int, context: ssl.SSLContext, path: str, fields: list[bytes], trailers: list[bytes] | None = None
) -> Answer:
    """One request in one write; `fields` and `trailers` are whole lines without line end."""
    lines = [f"{'GET' if trailers is None else 'POST'} {path} HTTP/1.1".encode(), b"Host: localhost", *fields]
    request = b"\r\n".join([*lines, b"", b""])
    if trailers is not None:
        lines.append(b"Transfer-Encoding: chunked")
        request = b"\r\n".join([*lines, b"", b"1", b"x", b"0", *trailers, b"", b""])
    try:
        with connected(port, context, "http/1.1") as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return Answer(response.status, response.read())
    except (OSError, http.client.HTTPException):
        return REFUSED


def in_turn(port: int, context: ssl.SSLContext, requests: list[tuple[str, list[bytes]]]) -> list[Answer]:
    """The answers to several requests on as few connections as possible; `requests` are paths and field lines."""
    answers: list[Answer] = []
    while len(answers) < len(requests):
        begin = len(answers)
        try:
            with connected(port, context, "http/1.1") as connection:
                for path, fields in requests[begin:]:
                    lines = [f"GET {path} HTTP/1.1".encode(), b"Host: localhost", *fields, b"", b""]
                    connection.sendall(b"\r\n".join(lines))
                    response = http.client.HTTPResponse(connection)
                    response.begin()
                    answers.append(Answer(response.status, response.read()))
        except (OSError, http.client.HTTPException):
            if len(answers) == begin:
                answers.append(REFUSED)
    return answers


def over_http2(
    port: int, context: ssl.SSLContext, path: str, fields: list[Field], trailers: list[Field] | None = None
) -> Answer:
    """One request on a connection of its own; names and values go out as they are."""
    config = h2.config.H2Configuration(
        client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    state = h2.connection.H2Connection(config)
    method = b"GET" if trailers is None else b"POST"
    begin = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path.encode())]
    try:
        with connected(port, context, "h2") as connection:
            if connection.selected_alpn_protocol() != "h2":
                raise AssertionError("the proxy does not speak HTTP/2")
            state.initiate_connection()
            state.send_headers(1, [*begin, *fields], end_stream=trailers is None)
            if trailers is not None:
                state.send_data(1, b"x")
                state.send_headers(1, trailers, end_stream=True)
            connection.sendall(state.data_to_send())
            return answer_of(connection, state)
    except (OSError, h2.exceptions.ProtocolError):
        return REFUSED


def answer_of(connection: ssl.SSLSocket, state: h2.connection.H2Connection) -> Answer:
    status, body = 0, b""
    while octets := connection.recv(65_536):
        for event in state.receive_data(octets):
            match event:
                case h2.events.ResponseReceived():
                    status = int(dict(event.headers)[b":status"])
                case h2.events.DataReceived():
                    body += event.data
                    state.acknowledge_received_data(event.flow_controlled_length, 1)
                case h2.events.StreamEnded():
                    return Answer(status, body)
                case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                    return REFUSED
        connection.sendall(state.data_to_send())
    return REFUSED
