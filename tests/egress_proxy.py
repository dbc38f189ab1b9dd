"""`EgressProxy`: an HTTP proxy between a client and its servers, which records what it gets."""

import contextlib
import socket
import ssl
import threading
from typing import NamedTuple

from tests.loopback import LoopbackHandler, LoopbackServer


class ProxyRequest(NamedTuple):
    """One request that the proxy got. `text`: the request line and all fields."""

    method: str
    target: str
    authorization: str | None
    text: str


class EgressProxy(LoopbackServer):
    """A proxy that only tunnels.

    Attributes:
        target: the server to which it tunnels, whatever server the client names. Default: the named server.
        refuse: the status of each response to CONNECT, instead of a tunnel.
        requests: the requests that it got.
        certificates: the certificate of the client on each connection to the proxy.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(_Handler, tls=tls)
        self.target: tuple[str, int] | None = None
        self.refuse: int | None = None
        self.requests: list[ProxyRequest] = []
        self.certificates: list[bytes | None] = []


class _Handler(LoopbackHandler):
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        self._record()
        if isinstance(self.connection, ssl.SSLSocket):
            self.owner.certificates.append(self.connection.getpeercert(binary_form=True))
        self.close_connection = True
        if self.owner.refuse is not None:
            self._refuse(self.owner.refuse)
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
        self._record()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _record(self) -> None:
        authorization = self.headers.get("Proxy-Authorization")
        text = f"{self.requestline}\n{self.headers}"
        self.owner.requests.append(ProxyRequest(self.command, self.path, authorization, text))

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Bearer error="invalid_token"')
        self.send_header("Location", "https://127.0.0.1:1/")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
