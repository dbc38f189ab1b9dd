"""A client that sends one payload to a server, and what it learns from the answer and from the application."""

import contextlib
import http.client
import io
import itertools
import json
import os
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.servers.recorder import digest
from tests.servers.upgrades import TAG, Expect, Payload

PATIENCE = 20.0  # seconds without an octet after which the connection counts as kept open, on a loaded machine too
_TAGS = itertools.count()


@dataclass(frozen=True)
class Attempt:
    """`raw`: all octets of the server. `seen`: what the application has read, in order."""

    tag: bytes
    raw: bytes
    closed: bool
    seen: list[dict[str, Any]]

    @property
    def status(self) -> int:
        """Of the first response that is not 100; 0 without one."""
        rest = self.raw
        while rest.startswith(b"HTTP/1.1 100"):
            rest = rest.partition(b"\r\n\r\n")[2]
        line = rest.partition(b"\r\n")[0].split(b" ")
        return int(line[1]) if line[0].startswith(b"HTTP/1.") else 0

    @property
    def fields(self) -> http.client.HTTPMessage:
        rest = self.raw
        while rest.startswith(b"HTTP/1.1 100"):
            rest = rest.partition(b"\r\n\r\n")[2]
        return http.client.parse_headers(io.BytesIO(rest.partition(b"\r\n")[2]))

    @property
    def says_close(self) -> bool:
        return "close" in (self.fields.get("Connection") or "").lower() or self.raw.startswith(b"HTTP/1.0")

    @property
    def smuggled(self) -> int:
        """How often the application has read the second request of the payload."""
        return sum(each["path"].startswith("/smuggled/") for each in self.seen)

    @property
    def speaks_http2(self) -> bool:
        """Whether a frame of type SETTINGS on stream 0 follows the last response's head, or stands alone."""
        last = self.raw.rpartition(b"\r\n\r\n")[2]
        return len(last) >= 9 and last[3] == 4 and last[5:9] == b"\0\0\0\0"

    def problems(self, payload: Payload, *, websockets: bool, ends: bool = True) -> list[str]:
        """Everything in which this is not what the payload's expectation says.

        `ends`: the server closes the connection; else it may serve the request behind the payload as the next one.
        """
        expect = payload.expect
        if expect is Expect.WEBSOCKET and not websockets:
            expect = Expect.ANSWERED
        found = ["HTTP/2"] if self.speaks_http2 else []
        if expect is Expect.NOTHING_SMUGGLED:
            return found + ([f"smuggled requests: {self.smuggled}"] if self.smuggled and ends else [])
        if expect is Expect.WEBSOCKET:
            found += [] if self.status == 101 else [f"status {self.status}, expected 101"]
            found += [] if [each["method"] for each in self.seen] == ["websocket"] else [f"seen {self.seen}"]
            return found
        found += ["101"] if self.status == 101 else []
        found += [] if self.smuggled <= (payload.following and not ends) else [f"smuggled requests: {self.smuggled}"]
        if ends:
            found += [] if self.closed else ["the connection stays open"]
            found += [] if len(self.seen) <= 1 else [f"several requests: {self.seen}"]
        if expect is Expect.ANSWERED:
            found += [] if self.status == 200 else [f"status {self.status}, expected 200"]
            found += [] if self.says_close or not ends else ["no Connection: close"]
            found += [] if self.report(payload) else [f"the application was told {self.seen[:1]}"]
        return found

    def report(self, payload: Payload) -> bool:
        """Whether the first request that the application read is the payload's, with its body."""
        body = digest((payload.body or b"").replace(TAG, self.tag))
        return [(each["method"], each["body"]) for each in self.seen[:1]] == [(payload.method, body)]


def connected(port: int, context: ssl.SSLContext | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return plain if context is None else context.wrap_socket(plain, server_hostname="localhost")


def attempt(
    port: int, payload: Payload, *, context: ssl.SSLContext | None = None, patience: float = PATIENCE
) -> Attempt:
    """Send one payload on a connection of its own, read until the server closes it, and ask the application."""
    tag = f"{os.getpid() % 4096:03x}{next(_TAGS):05x}".encode()
    raw, closed = b"", False
    with connected(port, context) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A websocket stays open, and what is not read shows at once.
        connection.settimeout(min(patience, 2) if payload.expect is Expect.NOTHING_SMUGGLED else patience)
        with contextlib.suppress(OSError):
            sent = b""
            for segment in payload.segments:
                if payload.expect is Expect.WEBSOCKET and sent.endswith(b"\r\n\r\n"):
                    # A client sends no octet between its handshake and the response (RFC 6455 section 4.1).
                    while b"\r\n\r\n" not in raw and (data := connection.recv(65536)):
                        raw += data
                elif sent:
                    time.sleep(payload.pause)
                connection.sendall(segment.replace(TAG, tag))
                sent += segment
        try:
            while not (raw.startswith(b"HTTP/1.1 101") and payload.expect is Expect.WEBSOCKET):
                data = connection.recv(65536)
                raw += data
                if not data:
                    closed = True
                    break
        except TimeoutError:
            pass
        except OSError:
            closed = True
    return Attempt(tag, raw, closed, seen(port, tag.decode(), context))


def seen(port: int, tag: str, context: ssl.SSLContext | None) -> list[dict[str, Any]]:
    connection = (
        http.client.HTTPConnection("localhost", port, timeout=20)
        if context is None
        else http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    )
    with contextlib.closing(connection):
        connection.request("GET", f"/seen/{tag}", headers={"Connection": "close"})
        found: list[dict[str, Any]] = json.loads(connection.getresponse().read())
        return found


def attempts(
    port: int,
    payloads: list[Payload],
    *,
    context: ssl.SSLContext | None = None,
    threads: int = 24,
    patience: float = PATIENCE,
) -> dict[str, Attempt]:
    """Each payload's outcome, by its name."""
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda payload: attempt(port, payload, context=context, patience=patience), payloads)
        return {payload.name: outcome for payload, outcome in zip(payloads, done, strict=True)}
