"""A real HTTP server on loopback, for tests: starts, stalls and ends with its test."""

import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class LoopbackHandler(BaseHTTPRequestHandler):
    """`owner` is the server that the test has in hand."""

    owner: Any

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Silent."""


# What a server does with a request in place of a true answer.
Behaviour = Callable[[Any], None]


class LoopbackServer:
    """`with` starts and ends it; `host` is its scheme, address and port.

    Arguments:
        handler: who answers; `do_GET` or `do_POST` reads `stall` and `behaviour` of its `owner`.
        tls: a server-side context: https, else http.
        port: where it listens; 0: anywhere.
    """

    def __init__(self, handler: type[LoopbackHandler], *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.stall = 0.0  # seconds before each answer
        self.behaviour: Behaviour | None = None
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", port), type("Handler", (handler,), {"owner": self}))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.host = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self, seconds: float) -> None:
        """Stall, but never longer than the test."""
        self._released.wait(seconds)

    def release(self) -> None:
        """Every request that waits is answered now, and none waits any more."""
        self._released.set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""
