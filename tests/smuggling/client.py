"""The attacker's connection, which writes any octets or HTTP/2 frames, and the innocent client's ordinary requests."""

import contextlib
import http.client
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from functools import cache

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.proxies import matrix
from tests.smuggling.attack import INNOCENT, INNOCENT_BODY
from tests.smuggling.payload import Data, Frame, Headers

# Seconds. The application's log decides, so no attack waits for an answer that may not come.
FIRST_ANSWER, NEXT_ANSWER, BETWEEN_SEGMENTS, INNOCENT_TIMEOUT = 0.25, 0.04, 0.1, 1.0
BETWEEN_FRAMES, MAXIMUM = 0.03, 1.0


@cache
def context(kind: str, protocol: str) -> ssl.SSLContext:
    """A client's TLS context with this certificate, which offers this protocol by ALPN."""
    made = matrix.servers().client_context(matrix.certificate(kind))
    made.set_alpn_protocols([protocol])
    return made


def connected(port: int, kind: str, protocol: str) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        made = context(kind, protocol).wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise
    made.settimeout(FIRST_ANSWER)
    return made


def write_segments(connection: ssl.SSLSocket, segments: Sequence[bytes]) -> bytes:
    """Write each segment after the answer to the one before it. Returns what the attacker reads until it is quiet."""
    octets = b""
    for number, segment in enumerate(segments):
        if number:
            octets += read_once(connection, BETWEEN_SEGMENTS)
        connection.sendall(segment)
    return octets + read_all(connection)


def write_frames(connection: ssl.SSLSocket, frames: Sequence[Frame]) -> bytes:
    """Write the frames on stream 1 without any check. Returns what the attacker reads until the connection is quiet."""
    config = h2.config.H2Configuration(
        client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    state = h2.connection.H2Connection(config)
    state.initiate_connection()
    for number, frame in enumerate(frames):
        if number == len(frames) - 1 and number > 1:
            time.sleep(BETWEEN_FRAMES)
        if isinstance(frame, Headers):
            state.send_headers(1, frame.fields, end_stream=frame.end)
        elif isinstance(frame, Data):
            write_data(connection, state, frame)
        else:
            state.reset_stream(1)
        connection.sendall(state.data_to_send())
    return read_all(connection)


def write_data(connection: ssl.SSLSocket, state: h2.connection.H2Connection, frame: Data) -> None:
    """Send the octets as the peer's window permits, and drop the rest if the window does not open."""
    rest, until = memoryview(frame.octets), time.monotonic() + MAXIMUM
    while rest and time.monotonic() < until:
        length = min(len(rest), state.max_outbound_frame_size, state.local_flow_control_window(1))
        if length:
            state.send_data(1, bytes(rest[:length]), end_stream=frame.end and length == len(rest))
            rest = rest[length:]
        connection.sendall(state.data_to_send())
        if rest and not length:
            octets = connection.recv(65_536)
            if not octets:
                return
            state.receive_data(octets)


def read_once(connection: ssl.SSLSocket, timeout: float) -> bytes:
    """What arrives first, for example 101; nothing if nothing arrives in time."""
    connection.settimeout(timeout)
    try:
        return connection.recv(65_536)
    except TimeoutError:
        return b""
    finally:
        connection.settimeout(FIRST_ANSWER)


def read_all(connection: ssl.SSLSocket) -> bytes:
    octets, until = b"", time.monotonic() + MAXIMUM
    with contextlib.suppress(OSError):
        while time.monotonic() < until and (more := connection.recv(65_536)):
            octets += more
            connection.settimeout(NEXT_ANSWER)
    return octets


class InnocentClient:
    """Sends ordinary requests with its own certificate, on one connection for as long as the proxy keeps it open."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._connection: ssl.SSLSocket | None = None
        self._numbers = itertools.count()
        self._name = f"{threading.get_ident()}-{id(self)}"

    def request(self) -> str:
        """Send one request. Returns the answer if it belongs to another request, else an empty string."""
        number = next(self._numbers)
        path = f"/{self._key}/innocent/{self._name}-{number}/x"
        body = b"z" * INNOCENT_BODY if number % 2 == 0 else b""
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            if self._connection is None:
                self._connection = connected(self._port, INNOCENT, "http/1.1")
                self._connection.settimeout(INNOCENT_TIMEOUT)
            self._connection.sendall(head.encode() + body)
            response = http.client.HTTPResponse(self._connection)
            response.begin()
            answer = response.read()
            if response.will_close:
                self.close()
        except (OSError, http.client.HTTPException):
            self.close()
            return ""
        return "" if response.status != 200 or answer == path.encode() else answer.decode("latin-1")[:200]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
