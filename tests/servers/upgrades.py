"""Payloads that ask a server for another protocol, as data: (name, segments of raw bytes, expectation).

Each payload holds a complete second request, in its body or behind it. No server may read that as a request.
`TAG` stands for the tag of the attempt, which has as many characters.
"""

import enum
from dataclasses import dataclass

TAG = b"TTTTTTTT"
SMUGGLED = b"GET /smuggled/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % TAG
SETTINGS = b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"
UPGRADE = b"Connection: Upgrade"
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", SETTINGS)
KEY = (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
WEBSOCKET = (UPGRADE, b"Upgrade: websocket", *KEY)
# RFC 9113 section 3.4: the preface, then an empty SETTINGS frame.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
FRAME = bytes.fromhex("8185000000006672616d65")  # a masked text frame of a client


class Expect(enum.Enum):
    """What becomes of a payload."""

    ANSWERED = "the application gets this one request with its body, and the server closes after the response"
    CLOSED = "the server rejects the request or answers it, and closes"
    WEBSOCKET = "101, and no request after it; under WSGI as ANSWERED"
    NOTHING_SMUGGLED = "the second request is not read, whatever becomes of the first one"


@dataclass(frozen=True)
class Payload:
    """`segments` are written one after the other, with a pause between them, or after the response to a handshake."""

    name: str
    segments: tuple[bytes, ...]
    expect: Expect
    method: str = "GET"
    body: bytes | None = b""  # what the application must read; None: not checked
    following: bool = True  # another request follows the message
    pause: float = 0.08  # seconds between two segments: enough for a server to read the first one alone


def head(start: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([start, b"Host: localhost", *lines, b"", b""])


def chunked(body: bytes, size: int = 60_000) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def simple(
    name: str, *lines: bytes, start: bytes = b"GET /first/%s HTTP/1.1", expect: Expect = Expect.ANSWERED
) -> Payload:
    """A request without a body; the second request follows it at once."""
    line, first = start % TAG, head(start % TAG, *lines)
    segments = (first, SMUGGLED) if expect is Expect.WEBSOCKET else (first + SMUGGLED,)
    return Payload(name, segments, expect, line.split()[0].decode())


def posted(
    name: str,
    *lines: bytes,
    start: bytes = b"POST /first/%s HTTP/1.1",
    body: bytes = SMUGGLED,
    framing: str = "length",
    expect: Expect = Expect.ANSWERED,
    apart: bool = False,
    more: bytes = SMUGGLED,
) -> Payload:
    """A request whose body is a request; another one follows it. `apart`: in segments of their own."""
    line = start % TAG
    if framing == "length":
        first, rest = head(line, *lines, b"Content-Length: %d" % len(body)), body
    else:
        first, rest = head(line, *lines, b"Transfer-Encoding: chunked"), chunked(body)
    sent = (first + rest + more,)
    if apart:
        half = len(rest) // 2
        sent = tuple(each for each in (first, rest[:half], rest[half:], more) if each)
    return Payload(name, sent, expect, line.split()[0].decode(), None if b"/early/" in line else body)


def raw(name: str, *segments: bytes) -> Payload:
    """Segments as they are."""
    return Payload(name, segments, Expect.NOTHING_SMUGGLED, "POST", None)


def _octets(payload: Payload) -> tuple[bytes, ...]:
    """Each octet in a segment of its own, but for the tag."""
    whole = b"".join(payload.segments).split(TAG)
    octets = [[part[at : at + 1] for at in range(len(part))] for part in whole]
    return tuple(octet for number, part in enumerate(octets) for octet in ([TAG, *part] if number else part))


FIRST = b"POST /first/" + TAG + b" HTTP/1.1"
WS = b"GET /first/" + TAG + b" HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(SMUGGLED)
LARGE = b"\r\n" * 100_000 + SMUGGLED
FOO = (UPGRADE, b"Upgrade: foo")
ONE = b"GET /first/%s HTTP/1.0"
FRAMINGS = ("length", "chunked")
CONNECTS = {
    "authority": b"CONNECT localhost:80 HTTP/1.1",
    "path": b"CONNECT /first/%s HTTP/1.1",
    "absolute": b"CONNECT http://localhost/first/%s HTTP/1.1",
}


def connect(name: str, start: bytes, framing: str | None, *, apart: bool) -> Payload:
    line = start.replace(b"%s", TAG)
    if framing is None:
        sent = (head(line), SMUGGLED)
    elif framing == "length":
        sent = (head(line, b"Content-Length: %d" % len(SMUGGLED)), SMUGGLED)
    else:
        sent = (head(line, b"Transfer-Encoding: chunked"), chunked(SMUGGLED))
    sent = sent if apart else (b"".join(sent),)
    title = f"CONNECT {name}, {framing or 'raw'}{', apart' if apart else ''}"
    return Payload(title, sent, Expect.CLOSED, "CONNECT", None, following=framing is None)


PAYLOADS = [
    simple("h2c", *H2C),
    simple("h2c without HTTP2-Settings", UPGRADE, b"Upgrade: h2c"),
    simple("H2C in capitals", UPGRADE, b"UPGRADE: H2C", SETTINGS),
    simple("h2c between blanks", b"Connection:  upgrade ,\thttp2-settings", b"Upgrade: \t h2c\t ", SETTINGS),
    simple("h2c without Connection", b"Upgrade: h2c", SETTINGS),
    simple("h2c, and Connection: keep-alive", b"Connection: keep-alive", b"Upgrade: h2c", SETTINGS),
    simple("h2c, Connection on two lines", UPGRADE, b"Connection: HTTP2-Settings", b"Upgrade: h2c", SETTINGS),
    simple("h2c first of two lines", *H2C, b"Upgrade: websocket", *KEY),
    simple("h2c second of two lines", *WEBSOCKET, b"Upgrade: h2c", SETTINGS),
    simple("two lines of websocket", *WEBSOCKET, b"Upgrade: websocket"),
    simple("websocket, h2c", UPGRADE, b"Upgrade: websocket, h2c", *KEY, SETTINGS),
    simple("h2c, websocket", UPGRADE, b"Upgrade: h2c, websocket", *KEY, SETTINGS),
    simple("websocket/13", UPGRADE, b"Upgrade: websocket/13", *KEY),
    simple("foo", *FOO),
    simple("TLS/1.2", UPGRADE, b"Upgrade: TLS/1.2"),
    simple("an empty Upgrade", UPGRADE, b"Upgrade:"),
    simple("h2c in HTTP/1.0", *H2C, start=ONE),
    simple("websocket in HTTP/1.0", *WEBSOCKET, start=ONE),
    *(
        simple(f"{each} h2c", *H2C, start=each.encode() + b" /first/%s HTTP/1.1")
        for each in ("HEAD", "OPTIONS", "PATCH")
    ),
    *(
        simple(f"{each} websocket", *WEBSOCKET, start=each.encode() + b" /first/%s HTTP/1.1")
        for each in ("HEAD", "OPTIONS", "POST")
    ),
    *(
        posted(f"foo, {framing}{', apart' if apart else ''}", *FOO, framing=framing, apart=apart)
        for framing in FRAMINGS
        for apart in (False, True)
    ),
    *(
        posted(f"h2c, {framing}{', apart' if apart else ''}", *H2C, framing=framing, apart=apart)
        for framing in FRAMINGS
        for apart in (False, True)
    ),
    *(posted(f"h2c, 200 kB, {framing}", *H2C, framing=framing, body=LARGE) for framing in FRAMINGS),
    *(posted(f"foo, 200 kB, {framing}, apart", *FOO, framing=framing, body=LARGE, apart=True) for framing in FRAMINGS),
    posted("h2c on GET with a body", *H2C, start=b"GET /first/%s HTTP/1.1", apart=True),
    posted("foo in HTTP/1.0 with a body", *FOO, start=b"POST /first/%s HTTP/1.0", apart=True),
    posted("h2c that expects 100", *H2C, b"Expect: 100-continue", apart=True),
    posted("h2c, read late", *H2C, start=b"POST /slow/%s HTTP/1.1"),
    posted("h2c, answered before the body", *H2C, start=b"POST /early/%s HTTP/1.1", apart=True, expect=Expect.CLOSED),
    posted(
        "foo, 200 kB, answered before the body",
        *FOO,
        start=b"POST /early/%s HTTP/1.1",
        body=LARGE,
        expect=Expect.CLOSED,
    ),
    *(
        posted(
            f"websocket with a body, {framing}{', apart' if apart else ''}",
            *WEBSOCKET,
            start=b"GET /first/%s HTTP/1.1",
            framing=framing,
            apart=apart,
        )
        for framing in FRAMINGS
        for apart in (False, True)
    ),
    posted("websocket with a body of frames", *WEBSOCKET, start=b"GET /first/%s HTTP/1.1", body=FRAME, more=FRAME),
    posted("websocket with two lengths", *WEBSOCKET, b"Content-Length: 0", expect=Expect.CLOSED, apart=True),
    posted("foo, length and chunked", *FOO, b"Content-Length: 5", framing="chunked", expect=Expect.CLOSED, apart=True),
    simple("websocket", *WEBSOCKET, expect=Expect.WEBSOCKET),
    simple("websocket of length 0", *WEBSOCKET, b"Content-Length: 0", expect=Expect.WEBSOCKET),
    simple(
        "WebSocket in capitals",
        b"CONNECTION: keep-alive, UPGRADE",
        b"UPGRADE: WEBSOCKET",
        *KEY,
        expect=Expect.WEBSOCKET,
    ),
    *(
        connect(name, start, framing, apart=apart)
        for name, start in CONNECTS.items()
        for framing in (*FRAMINGS, None)
        for apart in (False, True)
    ),
    connect("in lower case", b"connect localhost:80 HTTP/1.1", None, apart=False),
    connect("of HTTP/1.0", b"CONNECT localhost:80 HTTP/1.0", None, apart=False),
    simple("foo in HTTP/1.2", *FOO, start=b"GET /first/%s HTTP/1.2", expect=Expect.CLOSED),
    simple("HTTP/2.0", start=b"GET /first/%s HTTP/2.0", expect=Expect.CLOSED),
    Payload("HTTP/2 with prior knowledge", (PREFACE + SMUGGLED,), Expect.CLOSED, "PRI", None),
    Payload("HTTP/2 with prior knowledge, apart", (PREFACE[:10], PREFACE[10:], SMUGGLED), Expect.CLOSED, "PRI", None),
    # What follows was tried on the classes of this project when they passed all of the above.
    *(
        posted(f"foo, {title}", *FOO, start=b"POST /%b/%%s HTTP/1.1" % kind, apart=True, expect=Expect.CLOSED)
        for title, kind in {
            "and the application fails": b"boom",
            "and the application streams": b"stream",
            "and the application asks to keep the connection": b"keep",
        }.items()
    ),
    posted("foo on a folded line", UPGRADE, b"Upgrade:\r\n foo", apart=True, expect=Expect.CLOSED),
    posted("foo, and Connection: close", UPGRADE, b"Connection: close", b"Upgrade: foo", apart=True),
    raw("foo, a bad chunk", head(FIRST, *FOO, CHUNKED) + b"1\r\nx", b"XX" + SMUGGLED, SMUGGLED),
    raw("foo, a chunk of bare LF", head(FIRST, *FOO, CHUNKED) + b"1\nx\n0\n\n" + SMUGGLED),
    raw("foo, chunked on a folded line", head(FIRST, *FOO, b"Transfer-Encoding:\r\n chunked") + chunked(SMUGGLED)),
    raw("foo, of another coding", head(FIRST, *FOO, b"Transfer-Encoding: gzip, chunked") + chunked(SMUGGLED)),
    raw("foo, trailer fields", head(FIRST, *FOO, CHUNKED) + b"1\r\nx\r\n0\r\nUpgrade: h2c\r\n\r\n" + SMUGGLED),
    *(
        Payload(
            f"{payload.name}, octet by octet", _octets(payload), payload.expect, payload.method, payload.body, pause=0
        )
        for payload in (
            posted("foo, length", *FOO),
            posted("foo, chunked", *FOO, framing="chunked"),
            simple("foo", *FOO),
        )
    ),
    raw("a slow request, then foo", head(b"GET /slow/%b HTTP/1.1" % TAG), head(FIRST, *FOO, LENGTH) + SMUGGLED * 2),
    raw("a request, then HTTP/2", head(FIRST), PREFACE + SMUGGLED),
    raw("a websocket, and octets at once", head(WS, *WEBSOCKET) + SMUGGLED, SMUGGLED),
    raw("a websocket behind a slow request", head(b"GET /slow/%b HTTP/1.1" % TAG) + head(WS, *WEBSOCKET), SMUGGLED),
    raw("a websocket that the application refuses", head(b"GET /refuse/%b HTTP/1.1" % TAG, *WEBSOCKET), SMUGGLED),
    raw("a websocket without a key", head(WS, *WEBSOCKET[:2]) + SMUGGLED, SMUGGLED),
    raw("a websocket of another version", head(WS, *WEBSOCKET[:2], KEY[1], b"Sec-WebSocket-Version: 99"), SMUGGLED),
]
