"""Makes the attempts of `tunnels`, and says from the responses whether one got onto the proxy's connection.

What counts as a sign: 101 or a 2xx to CONNECT; a response without a request of the probe; and responses to
identical requests that differ after half a request was hidden in a body, because the server joined it to the next one.
"""

import contextlib
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from mtls_middleware.cli import exchanges
from mtls_middleware.cli.exchanges import Connection, Target
from mtls_middleware.cli.spoofs import Field, Spoof
from mtls_middleware.cli.tunnels import PADDING, Body, Framing, Stream, Upgrade

# Half a request is sent this often, each time with plain requests behind it.
_TRIES = 5
# Plain requests at the same time.
_TOGETHER = 4
# One response may differ by chance, and one because of the attempt before.
_ENOUGH = 2
# What overloaded or rate-limited services send, with or without an attack (RFC 9110 15, RFC 6585 4).
_PASSING = frozenset({0, 408, 429, 499, 500, 502, 503, 504})
# How long to wait for a second response, in seconds.
_SECOND = 0.5
# The body follows the head after this time, in seconds, so that the proxy forwards the head on its own.
_GAP = 0.02
# A proxy may take this long, in seconds, until it has put the connection back among its idle ones.
_IDLE = 0.03

# Each header with its forged fields.
Forged = dict[str, tuple[Field, ...]]
# Sends the outer request of an attempt, and yields its status.
Outer = Callable[[], contextlib.AbstractContextManager[int]]

PLAIN = Spoof("none", "none", ())


@dataclass(frozen=True, slots=True)
class Usual:
    """The statuses of plain requests without any forgery."""

    get: int
    post: int


@dataclass(frozen=True, slots=True)
class Sign:
    """What one attempt got: `answer` in words, and whether it reached the proxy's own connection."""

    answer: str
    got_in: bool


def upgrade(attempt: Upgrade, forged: Forged, target: Target, _: Usual) -> Sign:
    """Ask for HTTP/2 in clear text; then send each forged field over it. Raises `OSError`."""
    protocol = exchanges.http2_state()
    settings = (protocol.initiate_upgrade_connection() or b"").decode("ascii")
    lines = "".join(f"{name}: {value.format(settings=settings)}\r\n" for name, value in attempt.fields)
    with target.connection("http/1.1") as connection:
        connection.send(f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n{lines}\r\n".encode("latin-1"))
        status, fields = connection.head()
        if status != 101:
            return Sign(str(status), got_in=status < 400)
        chosen = fields.get("upgrade", "")
        if chosen.lower() == "websocket":  # what some attempts offer beside h2c
            return Sign("101 (websocket)", got_in=True)
        spoken = "; ".join(_over_http2(connection, protocol, target, forged))
        return Sign(f"101 ({chosen[:20]})" + (f", then {spoken}" if spoken else ""), got_in=True)


def _over_http2(connection: Connection, protocol: Any, target: Target, forged: Forged) -> Iterator[str]:
    """Which forged fields got which status on the upgraded connection; nothing where HTTP/2 is not spoken."""
    plain = [(":method", "GET"), (":scheme", "https"), (":authority", target.authority), (":path", target.path)]
    streams = dict(zip(range(3, 1000, 2), forged, strict=False))
    statuses: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for number, header in streams.items():
            fields = [(name.lower(), value.replace("\n", " ")) for name, value in forged[header]]
            protocol.send_headers(number, [*plain, *fields], end_stream=True)
        connection.send(protocol.data_to_send())
        missing = {*streams}
        for number, status in exchanges.http2_statuses(connection, protocol):
            statuses[number] = status or 0
            missing.discard(number)
            if not missing:
                break
    found = Counter(status for number, status in statuses.items() if number in streams)
    for status in sorted(found):
        names = [header for number, header in streams.items() if statuses.get(number) == status]
        which = ", ".join(names) if status and status < 400 else f"{len(names)} forged requests"
        yield f"{status or 'reset'} to {which}"


def body(attempt: Body, forged: Forged, target: Target, usual: Usual) -> Sign:
    """Hide a request in a body. Raises `OSError`."""
    sender = _Sender(target, attempt, _hidden(target, forged, complete=attempt.complete))
    # The outer request itself is let in: a 2xx to CONNECT is a tunnel, and a POST should be refused as ever.
    let_in = range(200, 300) if sender.connect else range(200, 400) if usual.post >= 400 else range(0)
    if attempt.complete:
        return _second(sender, let_in)
    return _joined(target, sender.outer, usual.get, let_in)


def stream(attempt: Stream, forged: Forged, target: Target, usual: Usual) -> Sign:
    """Hide a request in the DATA of an HTTP/2 CONNECT. Raises `OSError` and `NotSpoken`."""
    hidden = _hidden(target, forged, complete=attempt.complete)
    fields = [*attempt.fields]
    if attempt.framing == "length":
        fields.append(("content-length", str(len(hidden))))

    outer = partial(exchanges.http2_stream, target, fields, hidden)
    let_in = range(200, 300)
    if attempt.complete:
        with outer() as status:
            return Sign(_words(status, let_in), got_in=status in let_in)
    return _joined(target, outer, usual.get, let_in)


def _hidden(target: Target, forged: Forged, *, complete: bool) -> bytes:
    """A request with every forged field; or one that ends within a field's name.

    No request can follow the second kind: a server that joins it to the next one sees a blank in a field's name, and
    rejects both (RFC 9112 5.1). A client that is hit by chance gets 400, and nothing of its request is kept.
    """
    start = f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n"
    if not complete:
        return f"{start}X-Probe".encode("latin-1")
    lines = "".join(
        f"{name}: {value.replace(chr(10), ' ')}\r\n" for fields in forged.values() for name, value in fields
    )
    return f"{start}{lines}\r\n".encode("latin-1")


class _Sender:
    """Sends one `Body` on a connection of its own."""

    def __init__(self, target: Target, attempt: Body, hidden: bytes) -> None:
        self._target = target
        self.connect = attempt.method == "CONNECT"
        where = {
            "path": target.path,
            "authority": _with_port(target),
            "absolute": f"https://{target.authority}{target.path}",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in attempt.fields)
        content = (b"\r\n" * (PADDING // 2) if attempt.padded else b"") + hidden
        length, self._body = _framed(content, attempt.framing)
        start = f"{attempt.method} {where[attempt.target]} HTTP/1.1\r\nHost: {target.authority}\r\n"
        self._head = f"{start}{lines}{length}\r\n".encode("latin-1")

    def connection(self) -> Connection:
        """A connection on which everything has been sent."""
        connection = self._target.connection("http/1.1")
        try:
            connection.send(self._head)
            time.sleep(_GAP)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a response may come before the end
                connection.send(self._body)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def outer(self) -> Iterator[int]:
        """The status of the outer request. Its connection stays open in the block."""
        with self.connection() as connection:
            yield connection.head()[0]


def _with_port(target: Target) -> str:
    host = target.url.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{target.url.port or 443}"


def _framed(content: bytes, framing: Framing) -> tuple[str, bytes]:
    match framing:
        case "length":
            return f"Content-Length: {len(content)}\r\n", content
        case "chunked":
            return "Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        case _:
            return "", content


def _second(sender: _Sender, let_in: range) -> Sign:
    """The outer request's response, and whether another one follows on the same connection."""
    with sender.connection() as connection:
        first, fields = connection.head()
        if first == 101 or first in let_in:
            return Sign(_words(first, let_in), got_in=True)
        try:
            connection.skip_body(first, fields)
            connection.shorten(_SECOND)
            second, _ = connection.head()
        except OSError:
            return Sign(str(first), got_in=False)
    # A proxy that ends CONNECT itself may serve what follows as its client's next request, and clean it as ever.
    return Sign(f"{first}, then {second}", got_in=second < 400 or not sender.connect)


def _words(status: int, let_in: range) -> str:
    return f"{status}: a tunnel" if status == 101 or status in let_in else str(status)


def _joined(target: Target, outer: Outer, usual: int, let_in: range) -> Sign:
    """Whether half a request changes the response to a later one."""
    first: list[int] = []
    later: list[int] = []
    for _ in range(_TRIES):
        try:
            with outer() as status:
                first.append(status)
                if status == 101 or status in let_in:
                    return Sign(_words(status, let_in), got_in=True)
                time.sleep(_IDLE)
                later += _plain(target)  # while the outer connection is open: some proxies end both together
        except (TimeoutError, exchanges.NotSpoken):
            raise
        except OSError:
            first.append(0)
            later += _plain(target)
        if sum(map(partial(_differs, usual), later)) >= _ENOUGH:
            break
    answer = "/".join(str(status) if status else "closed" for status in dict.fromkeys(first))
    changed = [status for status in later if _differs(usual, status)]
    known = [status for status in first if status not in _PASSING]
    # Once from one status to another is a change of the service's. Back and forth is a request that was joined.
    back_and_forth = sum(one != other for one, other in pairwise(known)) >= _ENOUGH
    if len(changed) < _ENOUGH and not back_and_forth:
        return Sign(answer, got_in=False)
    if usual not in _plain(target):
        return Sign(f"{answer}; plain requests no longer get {usual}: cannot tell", got_in=False)
    sign = f"plain requests behind it got {changed[0]}" if changed else "the same request got both"
    return Sign(f"{answer}; {sign}", got_in=True)


def _differs(usual: int, status: int) -> bool:
    return status not in _PASSING and status != usual


def _plain(target: Target) -> list[int]:
    """The statuses of plain requests that wait at the same time, 0 for a connection that ends without one.

    A proxy takes its idle connections last in, first out. Requests at the same time reach more than the last one.
    Raises `TimeoutError`.
    """
    statuses: list[int] = []
    with contextlib.ExitStack() as stack:
        waiting: list[Connection] = []
        for _ in range(_TOGETHER):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                waiting.append(stack.enter_context(target.connection("http/1.1")))
        request = exchanges.http1_request(target, PLAIN)
        for connection in waiting:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                connection.send(request)
        for connection in waiting:
            try:
                statuses.append(connection.head()[0])
            except TimeoutError:
                raise
            except OSError:
                statuses.append(0)
    return statuses
