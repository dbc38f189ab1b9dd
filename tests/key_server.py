"""A real key server on loopback, for tests: serves a JWKS, counts, and misbehaves on demand."""

import json
import ssl
import threading
import time
from collections.abc import Callable, MutableSequence
from typing import Any

from tests.loopback import Behaviour, LoopbackHandler, LoopbackServer


class KeyServer(LoopbackServer):
    """`with KeyServer(issuer.jwks) as server:` then `server.url`, `server.requests`, `server.behaviour = die`.

    Arguments:
        jwks: what is served; may be replaced at any time (`server.jwks = ...`), or be bytes to send as they are.
        tls: a server-side context: https, else http.
        port: where it listens; 0: anywhere.
    """

    def __init__(self, jwks: dict[str, Any] | bytes, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        super().__init__(_Handler, tls=tls, port=port)
        self.jwks = jwks
        self.behaviours: dict[str, Behaviour] = {}  # for these paths; `behaviour` for all others
        self.documents: dict[str, Any] = {}  # by path; every other one has the JWKS
        self.asked: MutableSequence[str] = []  # the paths
        self.url = f"{self.host}/jwks"

    @property
    def requests(self) -> int:
        return len(self.asked)


class _Handler(LoopbackHandler):
    def do_GET(self) -> None:
        self.owner.asked.append(self.path)
        self.owner.wait(self.owner.stall)
        (self.owner.behaviours.get(self.path) or self.owner.behaviour or answer())(self)


def answer(
    status: int = 200, body: bytes | None = None, content_type: str = "application/json", **headers: str
) -> Behaviour:
    """A plain answer; without `body` the document of this path, or the JWKS."""

    def behave(handler: _Handler) -> None:
        found = handler.owner.documents.get(handler.path, handler.owner.jwks) if body is None else body
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
            handler.owner.wait(pause)

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
