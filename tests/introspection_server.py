"""A real introspection server on loopback (RFC 7662), for tests: knows tokens, counts, and misbehaves on demand.

`die` and `raw` of `key_server.py` will do as its behaviours too.
"""

import base64
import json
import socket
import ssl
from collections.abc import MutableSequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from tests.loopback import Behaviour, LoopbackHandler, LoopbackServer

CLIENT_ID, CLIENT_SECRET = "api:1", "s3cret & : % of the API"


@dataclass(frozen=True)
class Question:
    """One request as it came: `caller` is who it says that it is, by Basic, or by a certificate's CN."""

    path: str
    headers: dict[str, str]
    form: list[tuple[str, str]]
    caller: str | None

    @property
    def token(self) -> str:
        (found,) = [value for name, value in self.form if name == "token"]
        return found


class IntrospectionServer(LoopbackServer):
    """`with IntrospectionServer({"token": {"active": True}}) as server:` then `server.url`, `server.questions`.

    Arguments:
        tokens: what is said of each token, a JSON value or bytes to send as they are; others are not active.
        tls: a server-side context: https, and callers may come by certificate; else http.
        port: where it listens; 0: anywhere.
    """

    def __init__(
        self, tokens: dict[str, Any] | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        super().__init__(_Handler, tls=tls, port=port)
        self.tokens: dict[str, Any] = {} if tokens is None else tokens
        self.behaviours: list[Behaviour] = []  # for the next requests, one each; `behaviour` for all others
        self.questions: MutableSequence[Question] = []
        self.connections: MutableSequence[socket.socket] = []
        self.url = f"{self.host}/introspect"

    def __exit__(self, *given: object) -> None:
        super().__exit__(*given)
        self.hang_up()

    def hang_up(self) -> None:
        """Close all connections, as a server does with idle ones."""
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(LoopbackHandler):
    question: Question
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self.owner.connections.append(self.connection)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # the client has gone away meanwhile
            self.close_connection = True
            return
        form = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        self.question = Question(self.path, dict(self.headers), form, self._caller(dict(form)))
        self.owner.questions.append(self.question)
        self.owner.wait(self.owner.stall)
        behaviours = self.owner.behaviours
        behave = behaviours.pop(0) if behaviours else self.owner.behaviour or truthful
        behave(self)

    def _caller(self, form: dict[str, str]) -> str | None:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            name, _, secret = base64.b64decode(value).decode("ascii").partition(":")
            return unquote_plus(name) if unquote_plus(secret) == CLIENT_SECRET else None
        if isinstance(self.connection, ssl.SSLSocket):
            subject = dict(pair for (pair,) in (self.connection.getpeercert() or {}).get("subject", ()))
            return form.get("client_id") if subject.get("commonName") == form.get("client_id") else None
        return None


def truthful(handler: _Handler) -> None:
    """What the server knows of the token; 401 for a caller that it does not know (RFC 7662 2.3)."""
    question = handler.question
    if question.caller != CLIENT_ID:
        send(handler, 401, b'{"error": "invalid_client"}')
        return
    known = handler.owner.tokens.get(question.token, {"active": False})
    send(handler, 200, known if isinstance(known, bytes) else json.dumps(known).encode())


def send(handler: _Handler, status: int, body: bytes, content_type: str = "application/json") -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def says(body: Any, content_type: str = "application/json") -> Behaviour:
    """200 and this body: bytes as they are, else as JSON."""
    return lambda handler: send(
        handler, 200, body if isinstance(body, bytes) else json.dumps(body).encode(), content_type
    )


def endless(handler: _Handler) -> None:
    """100 MB, which nobody should read to the end."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(100_000_000))
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" " * 1_000_000)


def moved(handler: _Handler) -> None:
    """To itself, where a request that follows would be asked for for ever."""
    handler.send_response(307)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
