"""Requests that ask for another protocol, with bytes after them: the tokens, methods, bodies and segments as tables."""

from collections.abc import Callable, Iterator, Sequence

from tests.smuggling.attack import KINDS, Attack, framed
from tests.smuggling.payload import Data, Frame, Headers, Payload

_WEBSOCKET = (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
_SETTINGS = b"HTTP2-Settings: AAMAAABkAAQAAP__"
_SETTINGS_FIELD = (b"http2-settings", b"AAMAAABkAAQAAP__")
_UPGRADE = b"Connection: Upgrade"

# Name -> field lines.
TOKENS: dict[str, tuple[bytes, ...]] = {
    "h2c": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", _SETTINGS),
    "h2c-no-settings": (_UPGRADE, b"Upgrade: h2c"),
    "h2c-unnamed-settings": (_UPGRADE, b"Upgrade: h2c", _SETTINGS),
    "h2c-capitals": (b"Connection: UPGRADE, http2-settings", b"Upgrade: H2C", _SETTINGS),
    "h2c-two-lines": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: foo", b"Upgrade: h2c", _SETTINGS),
    "h2c-after-websocket": (
        b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: websocket", b"Upgrade: h2c", _SETTINGS, *_WEBSOCKET,
    ),
    "h2c-blanks": (b"Connection: ,Upgrade ,, HTTP2-Settings", b"Upgrade: \t h2c \t", _SETTINGS),
    "h2c-two-connections": (b"Connection: HTTP2-Settings", _UPGRADE, b"Upgrade: h2c", _SETTINGS),
    "h2c-folded": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade:\r\n h2c", _SETTINGS),
    "h2c-blank": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade : h2c", _SETTINGS),
    "h2c-version": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c/2", _SETTINGS),
    "h2c-close": (b"Connection: close, Upgrade, HTTP2-Settings", b"Upgrade: h2c", _SETTINGS),
    "foo": (_UPGRADE, b"Upgrade: foo"),
    "foo-close": (b"Connection: close, Upgrade", b"Upgrade: foo"),
    "foo-keep-alive": (b"Connection: keep-alive, Upgrade", b"Upgrade: foo"),
    "foo-unnamed": (b"Upgrade: foo",),
    "tls": (_UPGRADE, b"Upgrade: TLS/1.0"),
    "empty": (_UPGRADE, b"Upgrade:"),
    "websocket": (_UPGRADE, b"Upgrade: websocket", *_WEBSOCKET),
    "websocket-capitals": (_UPGRADE, b"Upgrade: WebSocket", *_WEBSOCKET),
    "websocket-old": (_UPGRADE, b"Upgrade: websocket", b"Sec-WebSocket-Version: 77", _WEBSOCKET[1]),
    "websocket-no-key": (_UPGRADE, b"Upgrade: websocket"),
    "websocket-two-lines": (_UPGRADE, b"Upgrade: websocket", b"Upgrade: websocket", *_WEBSOCKET),
    "websocket-comma": (_UPGRADE, b"Upgrade: websocket,", *_WEBSOCKET),
    "websocket-longer": (_UPGRADE, b"Upgrade: websocketx", *_WEBSOCKET),
    "websocket-later": (_UPGRADE, b"Upgrade: xwebsocket", *_WEBSOCKET),
    "websocket-h2c": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: websocket, h2c", _SETTINGS, *_WEBSOCKET),
    "h2c-websocket": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c, websocket", _SETTINGS, *_WEBSOCKET),
    "websocket-foo": (_UPGRADE, b"Upgrade: websocket, foo", *_WEBSOCKET),
    "websocket-version": (_UPGRADE, b"Upgrade: websocket/13", *_WEBSOCKET),
}  # fmt: skip
METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS")
FRAMINGS = ("length", "chunked", "none")
# Octets of line ends before what is smuggled: a server then answers before all of the body has arrived.
PADDINGS = (0, 200_000)
# What every CI run tries.
CORE = {
    ("h2c", b"GET", "none", 0, "later"),
    ("h2c", b"POST", "length", 0, "at-once"),
    ("h2c-no-settings", b"GET", "none", 0, "later"),
    ("h2c-two-lines", b"GET", "none", 0, "later"),
    ("websocket-h2c", b"GET", "none", 0, "later"),
    ("foo", b"POST", "length", 0, "at-once"),
    ("foo", b"POST", "length", 200_000, "at-once"),
    ("foo", b"POST", "length", 0, "later"),
    ("foo", b"POST", "chunked", 0, "at-once"),
    ("foo", b"GET", "length", 0, "at-once"),
    ("foo", b"GET", "none", 0, "later"),
    ("tls", b"POST", "length", 200_000, "at-once"),
    ("websocket-version", b"GET", "length", 200_000, "later"),
    ("websocket", b"GET", "none", 0, "later"),
    ("websocket", b"GET", "length", 0, "at-once"),
    ("websocket-old", b"POST", "length", 200_000, "at-once"),
}


def _segments(
    fields: tuple[bytes, ...], method: bytes, framing: str, padding: int, arrival: str
) -> Callable[[Attack], Sequence[bytes]]:
    def build(attack: Attack) -> Sequence[bytes]:
        more, body = framed(framing, b"\r\n" * (padding // 2) + attack.inner)
        head = attack.request(*fields, *more, method=method)
        return [head + body] if arrival == "at-once" else [head, body]

    return build


def http1() -> Iterator[Payload]:
    for token, fields in TOKENS.items():
        for method in METHODS:
            for framing in FRAMINGS:
                for padding in PADDINGS:
                    for arrival in ("at-once", "later"):
                        row = (token, method, framing, padding, arrival)
                        # Padding and segments matter to how a body is read: GET and POST stand for all methods.
                        if method not in (b"GET", b"POST") and (padding, arrival) != (0, "at-once"):
                            continue
                        name = f"upgrade-{token}-{method.decode()}-{framing}-{padding}-{arrival}"
                        yield Payload(
                            name, "upgrade", _segments(fields, method, framing, padding, arrival), kinds=KINDS,
                            core=row in CORE,
                        )  # fmt: skip


def second() -> Iterator[Payload]:
    """The same as the second request of a connection: a proxy may decide at the first one."""
    for token, framing in (("foo", "length"), ("foo", "none"), ("h2c", "none"), ("websocket-h2c", "length")):
        yield Payload(
            f"upgrade-second-{token}-{framing}", "upgrade", kinds=KINDS,
            segments=lambda attack, token=token, framing=framing: [
                attack.request(method=b"GET"),
                *_segments(TOKENS[token], b"GET" if framing == "none" else b"POST", framing, 0, "later")(attack),
            ],
        )  # fmt: skip


def _begin(attack: Attack, method: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", attack.path("outer")),
    ]


# Name -> fields of HTTP/2 that RFC 9113 8.2.2 forbids, but for the last, which it does not name.
HTTP2_FIELDS: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "upgrade": ((b"upgrade", b"foo"),),
    "connection-upgrade": ((b"connection", b"upgrade"), (b"upgrade", b"foo")),
    "h2c": ((b"connection", b"upgrade, http2-settings"), (b"upgrade", b"h2c"), _SETTINGS_FIELD),
    "websocket": (
        (b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
    ),
    "settings": (_SETTINGS_FIELD,),
}  # fmt: skip


def http2() -> Iterator[Payload]:
    for name, fields in HTTP2_FIELDS.items():
        for method in (b"GET", b"POST"):
            for padding in PADDINGS:

                def build(
                    attack: Attack,
                    fields: tuple[tuple[bytes, bytes], ...] = fields,
                    method: bytes = method,
                    padding: int = padding,
                ) -> Sequence[Frame]:
                    body = b"\r\n" * (padding // 2) + attack.inner
                    return [Headers([*_begin(attack, method), *fields]), Data(body)]

                yield Payload(
                    f"h2-upgrade-{name}-{method.decode()}-{padding}", "upgrade", frames=build, kinds=KINDS,
                    core=(name, method, padding) == ("connection-upgrade", b"POST", 0),
                )  # fmt: skip
