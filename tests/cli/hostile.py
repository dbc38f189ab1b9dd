"""TLS servers that answer a probe as no server should."""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

from mtls_middleware.testing import CertificateAuthority

FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
Serve = Callable[[ssl.SSLSocket, bytes], None]


def frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
    """An HTTP/2 frame (RFC 9113 4.1)."""
    return struct.pack(">I", len(data))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + data


def literal(name: bytes, value: bytes) -> bytes:
    """A field without indexing (RFC 7541 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


@contextlib.contextmanager
def serving(
    authority: CertificateAuthority, *, http1: Serve | None = None, http2: Serve | None = None
) -> Iterator[int]:
    """Its port. Without a function it answers 403 to HTTP/1.1, and speaks no HTTP/2.

    A function gets the connection and what arrived first. It may run for as long as it likes: the end of the block
    ends it.
    """
    context = authority.server_context(authority.server("localhost"))
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    connections: list[socket.socket] = []

    def serve(plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), context.wrap_socket(plain, server_side=True) as connection:
            connections.append(connection)
            chosen = connection.selected_alpn_protocol()
            if chosen == "h2":
                connection.sendall(frame(4, 0, 0, b""))
            received = connection.recv(65_536)
            if chosen == "h2" and http2 is not None:
                http2(connection, received)
            elif http1 is not None and http1 is not _refuse:
                http1(connection, received)
            else:
                _refuse(connection, received)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.close()


def _refuse(connection: ssl.SSLSocket, _: bytes) -> None:
    connection.sendall(FORBIDDEN)


def for_ever(data: bytes, pause: float = 0.05) -> Serve:
    """Sends the same octets again and again."""

    def serve(connection: ssl.SSLSocket, _: bytes) -> None:
        while True:
            connection.sendall(data)
            time.sleep(pause)

    return serve


def once(data: bytes) -> Serve:
    def serve(connection: ssl.SSLSocket, _: bytes) -> None:
        connection.sendall(data)

    return serve


def refusing_plain_requests(then: Serve) -> Serve:
    """403 to plain requests, so that the probe begins; `then` for what carries a forged field or asks for a tunnel."""

    def serve(connection: ssl.SSLSocket, received: bytes) -> None:
        plain = received.count(b"\r\n") == 4 and received.startswith(b"GET ")
        (_refuse if plain else then)(connection, received)

    return serve
