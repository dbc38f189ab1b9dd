"""CONNECT with bytes after it: its targets and bodies in HTTP/1.1, and plain and extended CONNECT in HTTP/2."""

from collections.abc import Callable, Iterator, Sequence

from tests.smuggling.attack import KINDS, Attack, framed
from tests.smuggling.payload import Data, Frame, Headers, Payload

# The application answers what it does not know with 404, and with 200 if the port of Host is this one.
ACCEPTED = b"localhost:2000"
TARGETS: dict[str, Callable[[Attack], bytes]] = {
    "authority": lambda attack: b"localhost:80",
    "path": lambda attack: attack.path("outer"),
    "absolute": lambda attack: b"http://localhost" + attack.path("outer"),
    "host": lambda attack: b"localhost",
    "empty-port": lambda attack: b"localhost:",
    "star": lambda attack: b"*",
}
HOSTS = {"404": b"localhost", "200": ACCEPTED}
CORE = {
    ("authority", "404", "length", 0, "at-once"),
    ("authority", "200", "length", 0, "at-once"),
    ("authority", "200", "none", 0, "later"),
    # A server that answers before it has read all of the body.
    ("authority", "404", "length", 200_000, "at-once"),
    ("path", "404", "length", 0, "at-once"),
    ("path", "404", "chunked", 0, "at-once"),
    ("path", "404", "none", 0, "later"),
}


def _segments(target: str, host: str, framing: str, padding: int, arrival: str) -> Callable[[Attack], Sequence[bytes]]:
    def build(attack: Attack) -> Sequence[bytes]:
        more, body = framed(framing, b"\r\n" * (padding // 2) + attack.inner)
        head = attack.request(*more, method=b"CONNECT", target=TARGETS[target](attack), host=HOSTS[host])
        return [head + body] if arrival == "at-once" else [head, body]

    return build


def http1() -> Iterator[Payload]:
    for target in TARGETS:
        for host in HOSTS:
            for framing in ("length", "chunked", "none"):
                for padding in (0, 200_000):
                    for arrival in ("at-once", "later"):
                        if padding and arrival == "later":
                            continue
                        row = (target, host, framing, padding, arrival)
                        yield Payload(
                            f"connect-{target}-{host}-{framing}-{padding}-{arrival}", "connect", _segments(*row),
                            kinds=KINDS, core=row in CORE,
                        )  # fmt: skip


def spellings() -> Iterator[Payload]:
    """CONNECT in another case and version, and as the second request of a connection."""
    for method in (b"connect", b"Connect"):
        yield Payload(
            f"connect-method-{method.decode()}", "connect", kinds=KINDS,
            segments=lambda attack, method=method: [
                attack.request(
                    b"Content-Length: %d" % len(attack.inner), method=method, target=b"localhost:80", body=attack.inner
                )
            ],
        )  # fmt: skip
    yield Payload(
        "connect-1.0", "connect", kinds=KINDS,
        segments=lambda attack: [
            attack.request(
                b"Connection: keep-alive", b"Content-Length: %d" % len(attack.inner), method=b"CONNECT", version=b"1.0",
                target=b"localhost:80", body=attack.inner,
            )
        ],
    )  # fmt: skip
    for target in ("authority", "path"):
        yield Payload(
            f"connect-second-{target}", "connect", kinds=KINDS,
            segments=lambda attack, target=target: [
                attack.request(method=b"GET"),
                *_segments(target, "404", "length", 0, "at-once")(attack),
            ],
        )  # fmt: skip


def _fields(*pairs: tuple[bytes, bytes]) -> Callable[[Attack], list[tuple[bytes, bytes]]]:
    return lambda attack: [
        (name, attack.path("outer") if value == b"PATH" else b"%d" % len(attack.inner) if value == b"LENGTH" else value)
        for name, value in pairs
    ]


_CONNECT = (b":method", b"CONNECT")
_AUTHORITY = (b":authority", b"localhost:80")
_WHOLE = ((b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"PATH"))
HTTP2_FIELDS = {
    "plain": _fields(_CONNECT, _AUTHORITY),
    "plain-200": _fields(_CONNECT, (b":authority", ACCEPTED)),
    "length": _fields(_CONNECT, _AUTHORITY, (b"content-length", b"LENGTH")),
    "length-0": _fields(_CONNECT, _AUTHORITY, (b"content-length", b"0")),
    "host": _fields(_CONNECT, _AUTHORITY, (b"host", b"localhost")),
    "path": _fields(_CONNECT, *_WHOLE),
    "extended-websocket": _fields(
        _CONNECT, (b":protocol", b"websocket"), *_WHOLE, (b"sec-websocket-version", b"13"),
    ),
    "extended-x": _fields(_CONNECT, (b":protocol", b"x"), *_WHOLE),
    "extended-h2c": _fields(_CONNECT, (b":protocol", b"h2c"), *_WHOLE),
    "extended-connect-udp": _fields(_CONNECT, (b":protocol", b"connect-udp"), *_WHOLE, (b"capsule-protocol", b"?1")),
    "extended-websocket-length": _fields(
        _CONNECT, (b":protocol", b"websocket"), *_WHOLE, (b"sec-websocket-version", b"13"),
        (b"content-length", b"LENGTH"),
    ),
    "protocol-get": _fields((b":method", b"GET"), (b":protocol", b"websocket"), *_WHOLE),
}  # fmt: skip
CORE_HTTP2 = {"plain", "plain-200", "length", "path", "extended-websocket", "extended-x"}


def http2() -> Iterator[Payload]:
    for name, fields in HTTP2_FIELDS.items():
        for end in (True, False):

            def build(
                attack: Attack,
                fields: Callable[[Attack], list[tuple[bytes, bytes]]] = fields,
                end: bool = end,
            ) -> Sequence[Frame]:
                return [Headers(fields(attack)), Data(attack.inner, end)]

            yield Payload(
                f"h2-connect-{name}{'' if end else '-open'}", "connect", frames=build, kinds=KINDS,
                core=end and name in CORE_HTTP2,
            )  # fmt: skip
