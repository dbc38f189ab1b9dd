"""Sends HTTP/1.1 and HTTP/2 requests to the probed address, and reads the statuses of the responses.

Each connection has one deadline for everything that is sent and received.
"""

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult

from mtls_middleware.cli.spoofs import Field, Spoof
from mtls_middleware.effects.name_lookups import NameLookupThreads

if TYPE_CHECKING:
    import h2.connection

_NAME_LOOKUPS = NameLookupThreads()
_LONGEST_HEAD = 65_536
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |$)")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_STATUS = re.compile(rb"[1-5][0-9][0-9]")


class ProtocolNotSupported(Exception):  # noqa: N818 (an outcome, not an error)
    """Raised if the server does not support the protocol of an attempt."""


class MalformedResponseError(ConnectionError):
    """Raised if the server sends octets that are not a valid response."""


class NoResponseError(ConnectionError):
    """Raised if the server closes the connection or the stream before it sends a status."""


@dataclass(frozen=True, slots=True)
class Target:
    """The address to probe.

    Attributes:
        url: the URL that the operator gave. Nothing is sent to another address.
        context: the TLS context, with or without the operator's certificate.
        seconds: the maximum duration of each connection, in seconds.
        pause: the minimum time from the start of one connection to the start of the next connection, in seconds.
    """

    url: SplitResult
    context: ssl.SSLContext
    seconds: float
    pause: float = 0.0
    _opened: list[float] = field(default_factory=list)

    @property
    def authority(self) -> str:
        """The host and the port, as they are written in the URL."""
        return self.url.netloc.rpartition("@")[2]

    @property
    def path(self) -> str:
        """The path and the query of the URL, as the request line contains them."""
        return (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")

    def connection(self, alpn: str) -> "Connection":
        """Open a new TLS connection, at least `pause` seconds after the previous one. Raises `OSError`."""
        if self._opened:
            time.sleep(max(0.0, self._opened.pop() + self.pause - time.monotonic()))
        self._opened.append(time.monotonic())
        return Connection(self, alpn)


class Connection:
    """A TLS connection whose operations raise `TimeoutError` after its deadline."""

    def __init__(self, target: Target, alpn: str) -> None:
        self._until = time.monotonic() + target.seconds
        self._received = b""
        self.target = target
        target.context.set_alpn_protocols([alpn])
        plain = self._connect(target.url.hostname or "", target.url.port or 443)
        try:
            # The request follows the last write of the handshake, so Nagle's algorithm would delay it by 40 ms.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(self._remaining())
            self._socket = target.context.wrap_socket(plain, server_hostname=target.url.hostname)
        except BaseException:
            plain.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection without a TLS alert, because the server may not read the alert."""
        self._socket.close()

    @property
    def alpn(self) -> str | None:
        """The protocol that the handshake negotiated."""
        return self._socket.selected_alpn_protocol()

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        This method does not use `sendall`, which could exceed the deadline if the server reads slowly: `ssl` applies
        its timeout to each write.
        """
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(self._remaining())
            rest = rest[self._socket.send(rest) :]

    def receive(self) -> bytes:
        """Return the next octets that arrive, or empty bytes at the end of the connection."""
        if self._received:
            data, self._received = self._received, b""
            return data
        self._socket.settimeout(self._remaining())
        return self._socket.recv(65_536)

    def give_back(self, data: bytes) -> None:
        """Make the next `receive` return these octets first."""
        self._received = data + self._received

    def shorten(self, seconds: float) -> None:
        """Move the deadline to `seconds` from now, if that is earlier."""
        self._until = min(self._until, time.monotonic() + seconds)

    def _connect(self, host: str, port: int) -> socket.socket:
        """Return a TCP connection to the first address of `host` that accepts it. All addresses share one deadline."""
        # `getaddrinfo` has no timeout, so it runs in a thread. Its exception, `gaierror`, is an `OSError`.
        found = _NAME_LOOKUPS.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM).result(self._remaining())
        failure: OSError = OSError(f"{host} has no address")
        for number, (family, kind, protocol, _, address) in enumerate(found):
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._remaining() / (len(found) - number))
                plain.connect(address)
            except OSError as error:
                plain.close()
                failure = error
            else:
                return plain
        raise failure

    def _remaining(self) -> float:
        remaining = self._until - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the time limit of the connection was exceeded")
        return remaining

    def head(self) -> tuple[int, dict[str, str]]:
        """Return the status and header fields of the next HTTP/1.1 response. Raises `OSError`.

        Interim responses (1xx) are skipped, except 101.
        """
        while True:
            received = b""
            while b"\r\n\r\n" not in received:
                more = self.receive()
                if not more and not received:
                    raise NoResponseError("the connection closed without a response")
                if not more or len(received) > _LONGEST_HEAD:
                    break
                received += more
            head, _, rest = received.partition(b"\r\n\r\n")
            first, *lines = head.split(b"\r\n")
            found = _STATUS_LINE.match(first)
            if found is None:
                raise MalformedResponseError("the server did not send an HTTP/1.1 response")
            self.give_back(rest)
            status = int(found[1])
            if status >= 200 or status == 101:
                pairs = (line.decode("latin-1").partition(":") for line in lines)
                return status, {name.strip().lower(): value.strip() for name, _, value in pairs}

    def skip_body(self, status: int, fields: dict[str, str]) -> None:
        """Read and discard the body of an HTTP/1.1 response, so that the next response follows. Raises `OSError`."""
        length = fields.get("content-length", "")
        if status in (204, 304):  # these responses never have a body, even with Content-Length (RFC 9112 6.3)
            return
        if "chunked" in fields.get("transfer-encoding", "").lower():
            self._skip_chunks()
        elif length.isascii() and length.isdigit():
            self._skip(int(length[:18]))
        else:  # otherwise, the body ends when the connection closes (RFC 9112 6.3)
            while self.receive():
                pass

    def _skip(self, count: int) -> None:
        while count:
            data = self.receive()
            if not data:
                raise NoResponseError("the connection closed within a body")
            self.give_back(data[count:])
            count -= min(count, len(data))

    def _skip_chunks(self) -> None:
        size = -1
        while size:
            digits = self._line().partition(b";")[0].strip()
            if _CHUNK_SIZE.fullmatch(digits) is None:
                raise MalformedResponseError("a chunk has no valid size")
            size = int(digits, 16)
            self._skip(size + 2 if size else 0)
        while self._line():
            pass

    def _line(self) -> bytes:
        line = b""
        while b"\r\n" not in line:
            data = self.receive()
            if not data or len(line) > _LONGEST_HEAD:
                raise MalformedResponseError("a line does not end")
            line += data
        line, _, rest = line.partition(b"\r\n")
        self.give_back(rest)
        return line


def http1(target: Target, spoof: Spoof) -> int:
    """Send an HTTP/1.1 request, and return the status of the response. Raises `OSError`."""
    with target.connection("http/1.1") as connection:
        connection.send(http1_request(target, spoof))
        return connection.head()[0]


def http1_request(target: Target, spoof: Spoof) -> bytes:
    """Return the octets of an HTTP/1.1 request with the fields of `spoof`."""
    fields = "".join(f"{name}{spoof.joiner}{value}\r\n" for name, value in spoof.fields)
    start = f" {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n"
    own_connection = any(name.lower() == "connection" for name, _ in spoof.fields)
    close = "" if own_connection else "Connection: close\r\n"
    if spoof.trailers:
        names = ", ".join(name for name, _ in spoof.fields)
        head = f"POST{start}{close}Transfer-Encoding: chunked\r\nTrailer: {names}\r\n\r\n"
        return f"{head}1\r\nx\r\n0\r\n{fields}\r\n".encode("latin-1")
    return f"GET{start}{close}{fields}\r\n".encode("latin-1")


def http2(target: Target, spoof: Spoof) -> int:
    """Send an HTTP/2 request, and return the status of the response. Raises `OSError` or `ProtocolNotSupported`.

    The extra `probe` must be installed.
    """
    pseudo = [
        (":method", "POST" if spoof.trailers else "GET"),
        (":scheme", "https"),
        (":authority", target.authority),
        (":path", target.path),
    ]
    fields = pseudo if spoof.trailers else [*pseudo, *spoof.fields]
    body, trailers = (b"x", spoof.fields) if spoof.trailers else (None, ())
    with http2_stream(target, fields, body, trailers=trailers) as status:
        return status


@contextlib.contextmanager
def http2_stream(
    target: Target, fields: list[Field], body: bytes | None = None, *, trailers: tuple[Field, ...] = ()
) -> Iterator[int]:
    """Send one HTTP/2 request with exactly these fields, and yield the status of the response.

    The connection stays open until the end of the `with` block. Raises `OSError` or `ProtocolNotSupported`.
    """
    protocol = http2_state()
    with target.connection("h2") as connection:
        if connection.alpn != "h2":
            raise ProtocolNotSupported
        protocol.initiate_connection()
        protocol.send_headers(1, fields, end_stream=body is None)
        if body is not None:
            protocol.send_data(1, body, end_stream=not trailers)
        if trailers:
            protocol.send_headers(1, list(trailers), end_stream=True)
        connection.send(protocol.data_to_send())
        status = next((status for _, status in http2_statuses(connection, protocol)), None)
        if status is None:
            raise NoResponseError("the connection closed without a response")
        yield status


def http2_state() -> "h2.connection.H2Connection":
    """Return the client side of a new HTTP/2 connection. It does not validate the fields that it sends."""
    import h2.config
    import h2.connection

    config = h2.config.H2Configuration(
        client_side=True,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
    )
    return h2.connection.H2Connection(config)


def http2_statuses(connection: Connection, protocol: Any) -> Iterator[tuple[int, int | None]]:
    """Yield the stream id and the status of each response until the server closes the connection.

    The status is `None` for a stream that was reset. Raises `OSError`.
    """
    import h2.events
    import h2.exceptions

    while more := connection.receive():
        try:
            events = protocol.receive_data(more)
        except (h2.exceptions.H2Error, ValueError, KeyError, IndexError) as error:
            raise MalformedResponseError("the server did not send valid HTTP/2") from error
        for event in events:
            if isinstance(event, h2.events.ResponseReceived):
                yield event.stream_id or 0, _status(event.headers or [])
            if isinstance(event, h2.events.StreamReset):
                yield event.stream_id or 0, None
            if isinstance(event, h2.events.ConnectionTerminated):
                return
        with contextlib.suppress(h2.exceptions.H2Error):
            connection.send(protocol.data_to_send())


def _status(fields: Any) -> int:
    values = [bytes(value) for name, value in fields if name == b":status"]
    if len(values) != 1 or _STATUS.fullmatch(values[0]) is None:
        raise MalformedResponseError("a response does not have exactly one :status of three digits")
    return int(values[0])
