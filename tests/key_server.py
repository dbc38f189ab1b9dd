"""A real key server on loopback, for tests: serves a JWKS, counts, and misbehaves on demand."""

import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

# What the server does with a request, beside answering with its JWKS.
Behaviour = Callable[["_Handler"], None]


class KeyServer:
    """`with KeyServer(issuer.jwks) as server:` then `server.url`, `server.requests`, `server.behave(...)`.

    Arguments:
        jwks: what is served; may be replaced at any time (`server.jwks = ...`), or be bytes to send as they are.
        tls: a server-side context: https, else http.
    """

    def __init__(self, jwks: dict[str, Any] | bytes, *, tls: ssl.SSLContext | None = None) -> None:
        self.jwks = jwks
        self.stall = 0.0  # seconds before each answer
        self.behaviour: Behaviour | None = None
        self.behaviours: dict[str, Behaviour] = {}  # for these paths
        self.documents: dict[str, Any] = {}  # by path; every other one has the JWKS
        self.asked: list[str] = []  # the paths
        self._released = threading.Event()
        handler = type("Handler", (_Handler,), {"keys": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.host = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.host}/jwks"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def requests(self) -> int:
        return len(self.asked)

    def wait(self, seconds: float) -> None:
        """Stall, but never longer than the test."""
        self._released.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    keys: KeyServer

    def do_GET(self) -> None:
        self.keys.asked.append(self.path)
        self.keys.wait(self.keys.stall)
        (self.keys.behaviours.get(self.path) or self.keys.behaviour or answer())(self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Silent."""


def answer(
    status: int = 200, body: bytes | None = None, content_type: str = "application/json", **headers: str
) -> Behaviour:
    """A plain answer; without `body` the document of this path, or the JWKS."""

    def behave(handler: _Handler) -> None:
        found = handler.keys.documents.get(handler.path, handler.keys.jwks) if body is None else body
        sent = found if isinstance(found, bytes) else json.dumps(found).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(sent)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(sent)

    return behave


def die(handler: _Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


def raw(*pieces: bytes, pause: float = 0.0) -> Behaviour:
    """Bytes as they are, with a pause after each: garbage, or an answer that drips."""

    def behave(handler: _Handler) -> None:
        handler.close_connection = True
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            handler.keys.wait(pause)

    return behave


def gated(gate: threading.Event) -> Behaviour:
    """Answer when the gate opens, or so late that nobody waits any more."""

    def behave(handler: _Handler) -> None:
        gate.wait(10)
        answer()(handler)

    return behave


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until `condition` holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
