"""Makes the attempts of `tunnels`, and decides from the responses whether an attempt reached the proxy's connection.

An attempt got in if the status is 101, or 2xx in response to CONNECT. It also got in if a second response follows,
although the probe sent one request. An attempt with half a request got in if identical requests get different
responses: the server then joined the half to the next request.
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

# The maximum number of times that half a request is sent, each time followed by plain requests.
_ATTEMPTS = 5
# The number of plain requests that are sent at the same time.
_SIMULTANEOUS = 4
# The minimum number of different responses for a verdict. One response may differ by chance, or because of the previous
# attempt.
_MIN_DIFFERENT = 2
# Statuses that overloaded or rate-limited services send without any attack (RFC 9110 15, RFC 6585 4). The status 0
# stands for a missing response.
_TRANSIENT = frozenset({0, 408, 429, 499, 500, 502, 503, 504})
# The maximum time to wait for a second response, in seconds.
_SECOND_RESPONSE_TIMEOUT = 0.5
# The pause between the head and the body, in seconds, so that the proxy forwards the head separately.
_BODY_DELAY = 0.02
# The time that a proxy may need to return a connection to its pool of idle connections, in seconds.
_POOL_DELAY = 0.03

# Header (as in `Spoof.header`) -> the forged fields of this header.
Forged = dict[str, tuple[Field, ...]]
# A function that sends the outer request of an attempt. Its context manager yields the status of the response.
Outer = Callable[[], contextlib.AbstractContextManager[int]]

PLAIN = Spoof("none", "none", ())


@dataclass(frozen=True, slots=True)
class Baseline:
    """The statuses of plain requests, which have no forged field.

    Attributes:
        get: the status of a GET request.
        post: the status of a POST request with a body; 0 if the server sent no response.
    """

    get: int
    post: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one attempt.

    Attributes:
        answer: a description of the responses.
        got_in: whether the attempt reached the proxy's own connection to the server.
    """

    answer: str
    got_in: bool


def upgrade(attempt: Upgrade, forged: Forged, target: Target, _: Baseline) -> Verdict:
    """Request an upgrade to HTTP/2 in clear text, and return the verdict. Raises `OSError`.

    If the server accepts the upgrade, send each forged header over HTTP/2.
    """
    protocol = exchanges.http2_state()
    settings = (protocol.initiate_upgrade_connection() or b"").decode("ascii")
    lines = "".join(f"{name}: {value.format(settings=settings)}\r\n" for name, value in attempt.fields)
    with target.connection("http/1.1") as connection:
        connection.send(f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n{lines}\r\n".encode("latin-1"))
        status, fields = connection.head()
        if status != 101:
            return Verdict(str(status), got_in=status < 400)
        chosen = fields.get("upgrade", "")
        # Some attempts offer websocket in addition to h2c, so the server may choose websocket.
        if chosen.lower() == "websocket":
            return Verdict("101 (websocket)", got_in=True)
        statuses = "; ".join(_over_http2(connection, protocol, target, forged))
        return Verdict(f"101 ({chosen[:20]})" + (f", then {statuses}" if statuses else ""), got_in=True)


def _over_http2(connection: Connection, protocol: Any, target: Target, forged: Forged) -> Iterator[str]:
    """Send each forged header on the upgraded connection, and yield a description of each status.

    Yields nothing if the server does not support HTTP/2.
    """
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


def body(attempt: Body, forged: Forged, target: Target, baseline: Baseline) -> Verdict:
    """Hide a request in the body of another request, and return the verdict. Raises `OSError`."""
    sender = _Sender(target, attempt, _hidden_request(target, forged, complete=attempt.complete))
    # If the outer request gets one of these statuses, the attempt succeeded. A 2xx response to CONNECT opens a tunnel.
    # If the plain POST was rejected, a POST with a body that hides a request must be rejected, too.
    success = range(200, 300) if sender.connect else range(200, 400) if baseline.post >= 400 else range(0)
    if attempt.complete:
        return _second_response(sender, success)
    return _join_verdict(target, sender.outer, baseline.get, success)


def stream(attempt: Stream, forged: Forged, target: Target, baseline: Baseline) -> Verdict:
    """Hide a request in the DATA frames of an HTTP/2 CONNECT, and return the verdict.

    Raises `OSError` or `ProtocolNotSupported`.
    """
    hidden = _hidden_request(target, forged, complete=attempt.complete)
    fields = [*attempt.fields]
    if attempt.framing == "length":
        fields.append(("content-length", str(len(hidden))))

    outer = partial(exchanges.http2_stream, target, fields, hidden)
    success = range(200, 300)
    if attempt.complete:
        with outer() as status:
            return Verdict(_description(status, success), got_in=status in success)
    return _join_verdict(target, outer, baseline.get, success)


def _hidden_request(target: Target, forged: Forged, *, complete: bool) -> bytes:
    """Return a complete request with every forged field, or an incomplete request that ends within a field name.

    If a server joins the incomplete request to the next request, it sees a space in a field name, and rejects both (RFC
    9112 5.1). If the next request comes from another client, this client gets 400, and its request is not stored.
    """
    start = f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n"
    if not complete:
        return f"{start}X-Probe".encode("latin-1")
    lines = "".join(
        f"{name}: {value.replace(chr(10), ' ')}\r\n" for fields in forged.values() for name, value in fields
    )
    return f"{start}{lines}\r\n".encode("latin-1")


class _Sender:
    """Sends the request of one `Body`, every time over a new connection."""

    def __init__(self, target: Target, attempt: Body, hidden: bytes) -> None:
        self._target = target
        self.connect = attempt.method == "CONNECT"
        targets = {
            "path": target.path,
            "authority": _with_port(target),
            "absolute": f"https://{target.authority}{target.path}",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in attempt.fields)
        content = (b"\r\n" * (PADDING // 2) if attempt.padded else b"") + hidden
        length, self._body = _frame(content, attempt.framing)
        start = f"{attempt.method} {targets[attempt.target]} HTTP/1.1\r\nHost: {target.authority}\r\n"
        self._head = f"{start}{lines}{length}\r\n".encode("latin-1")

    def connection(self) -> Connection:
        """Open a connection and send the whole outer request on it."""
        connection = self._target.connection("http/1.1")
        try:
            connection.send(self._head)
            time.sleep(_BODY_DELAY)
            # The server may respond and close the connection before it has read everything.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(self._body)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def outer(self) -> Iterator[int]:
        """Send the outer request, and yield its status. The connection stays open until the end of the `with` block."""
        with self.connection() as connection:
            yield connection.head()[0]


def _with_port(target: Target) -> str:
    host = target.url.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{target.url.port or 443}"


def _frame(content: bytes, framing: Framing) -> tuple[str, bytes]:
    match framing:
        case "length":
            return f"Content-Length: {len(content)}\r\n", content
        case "chunked":
            return "Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        case _:
            return "", content


def _second_response(sender: _Sender, success: range) -> Verdict:
    """Return the verdict: the attempt got in if a tunnel opens, or if a second response follows on the connection."""
    with sender.connection() as connection:
        first, fields = connection.head()
        if first == 101 or first in success:
            return Verdict(_description(first, success), got_in=True)
        try:
            connection.skip_body(first, fields)
            connection.shorten(_SECOND_RESPONSE_TIMEOUT)
            second, _ = connection.head()
        except OSError:
            return Verdict(str(first), got_in=False)
    # A proxy that answers CONNECT itself may read the body as the client's next request and delete the forged fields.
    return Verdict(f"{first}, then {second}", got_in=second < 400 or not sender.connect)


def _description(status: int, success: range) -> str:
    return f"{status}: a tunnel" if status == 101 or status in success else str(status)


def _join_verdict(target: Target, outer: Outer, baseline: int, success: range) -> Verdict:
    """Return the verdict: the attempt got in if half a request changes the response to a later request."""
    first: list[int] = []
    later: list[int] = []
    for _ in range(_ATTEMPTS):
        try:
            with outer() as status:
                first.append(status)
                if status == 101 or status in success:
                    return Verdict(_description(status, success), got_in=True)
                time.sleep(_POOL_DELAY)
                # Send the plain requests while the outer connection is open. When the client closes this connection,
                # a proxy may also close its connection to the server.
                later += _plain_statuses(target)
        except (TimeoutError, exchanges.ProtocolNotSupported):
            raise
        except OSError:
            first.append(0)
            later += _plain_statuses(target)
        if sum(map(partial(_differs, baseline), later)) >= _MIN_DIFFERENT:
            break
    answer = "/".join(str(status) if status else "closed" for status in dict.fromkeys(first))
    changed = [status for status in later if _differs(baseline, status)]
    known = [status for status in first if status not in _TRANSIENT]
    # The service itself may cause a single change of the status. A change back and forth shows a joined request.
    back_and_forth = sum(one != other for one, other in pairwise(known)) >= _MIN_DIFFERENT
    if len(changed) < _MIN_DIFFERENT and not back_and_forth:
        return Verdict(answer, got_in=False)
    if baseline not in _plain_statuses(target):
        return Verdict(f"{answer}; cannot tell: plain requests no longer get {baseline}", got_in=False)
    difference = f"later plain requests got {changed[0]}" if changed else "the same request got both statuses"
    return Verdict(f"{answer}; {difference}", got_in=True)


def _differs(baseline: int, status: int) -> bool:
    return status not in _TRANSIENT and status != baseline


def _plain_statuses(target: Target) -> list[int]:
    """Send plain requests at the same time, and return their statuses. The status of a missing response is 0.

    A proxy reuses its most recent idle connection first. Several simultaneous requests also reach older connections.
    Raises `TimeoutError`.
    """
    statuses: list[int] = []
    with contextlib.ExitStack() as stack:
        waiting: list[Connection] = []
        for _ in range(_SIMULTANEOUS):
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
