"""A client of plain HTTP/1.1 that writes whatever octets it is given, and what may be said of the answers."""

import contextlib
import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

from mtls_middleware.sources.vendors import KNOWN_HEADERS

# Nothing here takes longer on a loaded machine. A server that waits for more of a request is not waited for.
TIMEOUT = 20


@dataclass(frozen=True)
class Answer:
    """`status` 0: the connection was closed without an answer. `last`: the server says that none follows."""

    status: int
    body: bytes = b""
    last: bool = False

    @property
    def report(self) -> Any:
        """What the application says; fails where it was not reached."""
        assert self.status == 200, (self.status, self.body)
        return json.loads(self.body)

    @property
    def certificate(self) -> Any:
        return self.report["certificate"]

    @property
    def thumbprint(self) -> str | None:
        return self.certificate and self.certificate["thumbprint"]

    @property
    def refusal(self) -> tuple[int, str | None]:
        """Status and `error` of our answer; `None` for `error` where a server answered by itself."""
        with contextlib.suppress(ValueError):
            return self.status, json.loads(self.body).get("error")
        return self.status, None

    @property
    def leaks(self) -> list[str]:
        """Names of fields that speak of certificates, by name or by value, and that the application could read."""
        if self.status != 200:
            return []
        # The DER of every certificate here has 256 to 65,535 octets, so its base64 begins like this.
        return [name for name, value in self.report["seen"] if folded(name) in _KNOWN or "MII" in value]


CLOSED = Answer(0, last=True)


def folded(name: str) -> str:
    return name.strip().upper().replace("-", "_")


_KNOWN = {folded(name) for name in KNOWN_HEADERS}


def request(path: str, *lines: bytes, last: bool = True, start: bytes = b"GET") -> bytes:
    """One request. `last`: the server is to close the connection after it."""
    end = [b"Connection: close"] if last else []
    return b"\r\n".join([b"%s %s HTTP/1.1" % (start, path.encode()), b"Host: localhost", *lines, *end, b"", b""])


def ask(address: tuple[str, int] | str, data: bytes, count: int = 1) -> list[Answer]:
    """What a server answers to `data` in one write: up to `count` answers, less where it closes the connection."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(address)
        with contextlib.suppress(ConnectionError):  # it may close before it has read all
            connection.sendall(data)
        return answers(connection, count)


def converse(address: tuple[str, int], requests: list[bytes]) -> list[Answer]:
    """The answers on one connection, each awaited before the next request; less where the server closes it."""
    found: list[Answer] = []
    with socket.create_connection(address, timeout=TIMEOUT) as connection:
        for each in requests:
            with contextlib.suppress(ConnectionError):
                connection.sendall(each)
            found += answers(connection, 1)
            if found[-1].last:
                break
    return found


def answers(connection: socket.socket, count: int) -> list[Answer]:
    """The next answers on a connection; `CLOSED` where there is not even one."""
    found: list[Answer] = []
    with contextlib.suppress(http.client.BadStatusLine, ConnectionError), connection.makefile("rb") as stream:
        while len(found) < count:
            with http.client.HTTPResponse(_Reading(stream)) as response:  # closed before the stream is
                response.begin()
                found.append(Answer(response.status, response.read(), last=response.will_close))
            if response.will_close:
                break
    return found or [CLOSED]


class _Reading:
    """A socket for `HTTPResponse`, which would buffer, and lose, what comes after its answer."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> Any:
        return _Kept(self._stream)


class _Kept:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Not yet: another answer may follow."""
