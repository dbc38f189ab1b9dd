"""A server on loopback that speaks only HTTP/2 with TLS, and records the requests."""

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self

import h2.config
import h2.connection
import h2.events

from mtls_middleware.testing import CertificateAuthority


class HTTP2Server:
    """Responds with `respond(fields)`: the fields of the response, or `None`, which resets the stream.

    `received`: the thumbprint of the connection's certificate and the fields of each request.
    """

    def __init__(self, authority: CertificateAuthority) -> None:
        self._context = authority.server_context(authority.server(), client_certificates="optional")
        self._context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received: list[tuple[str | None, dict[str, str]]] = []
        self.connections = 0
        self.respond: Callable[[dict[str, str]], list[tuple[str, str]] | None] = lambda fields: [(":status", "200")]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as connection:
            self.connections += 1
            self._exchange(connection, connection.getpeercert(binary_form=True))

    def _exchange(self, connection: ssl.SSLSocket, der: bytes | None) -> None:
        thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode() if der else None
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http.initiate_connection()
        connection.sendall(http.data_to_send())
        while data := connection.recv(65_536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    pairs: Any = event.headers
                    fields = {name.decode(): value.decode() for name, value in pairs}
                    self.received.append((thumbprint, fields))
                    response = self.respond(fields)
                    if response is None:
                        http.reset_stream(event.stream_id)
                    else:
                        http.send_headers(event.stream_id, response, end_stream=True)
            connection.sendall(http.data_to_send())
