"""Other features that may leave bytes on a connection: Expect, 101 and 1xx, early answers, HTTP/1.0, TRACE, TE."""

from collections.abc import Callable, Iterator, Sequence

from tests.smuggling.attack import KINDS, Attack, chunked, framed
from tests.smuggling.downgrades import begin
from tests.smuggling.payload import Data, Headers, Payload

# Name -> field lines of a request with a body.
FIELDS: dict[str, tuple[bytes, ...]] = {
    "expect": (b"Expect: 100-continue",),
    "expect-unknown": (b"Expect: y 100-continue",),
    "expect-capitals": (b"Expect: 100-Continue",),
    "close": (b"Connection: close",),
    "close-keep-alive": (b"Connection: close, keep-alive",),
    "te": (b"TE: trailers", b"Connection: TE"),
    "max-forwards": (b"Max-Forwards: 0",),
    "trailer": (b"Trailer: Content-Length",),
    "override": (b"X-HTTP-Method-Override: CONNECT",),
    "range": (b"Range: bytes=0-0",),
    "accept-websocket": (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    "http2-settings": (b"HTTP2-Settings: AAMAAABkAAQAAP__",),
    "proxy-connection": (b"Proxy-Connection: keep-alive",),
}
# The last segment of the path says how the application answers: before it reads the body, with 101, 1xx, 204 or 304.
ANSWERS = ("early", "switch", "processing", "no-content", "not-modified", "raise")
CORE = {"early-POST-length-0", "early-POST-length-200000", "switch-GET-length-0", "expect-POST-length"}


def payloads() -> Iterator[Payload]:
    for name, fields in FIELDS.items():
        for method in (b"POST", b"GET", b"TRACE", b"OPTIONS"):
            for framing in ("length", "chunked", "none"):
                yield _feature(f"{name}-{method.decode()}-{framing}", _with_fields(fields, method, framing, b"1.1"))
    for connection in ((b"Connection: keep-alive",), (), (b"Connection: close",)):
        for framing in ("length", "chunked", "none"):
            name = "-".join(["1.0", *(each.split(b": ")[1].decode() for each in connection), framing])
            yield _feature(name, _with_fields(connection, b"POST", framing, b"1.0"))
    for part in ANSWERS:
        for method in (b"POST", b"GET", b"HEAD"):
            for framing in ("length", "chunked"):
                for padding in (0, 200_000):
                    name = f"{part}-{method.decode()}-{framing}-{padding}"
                    yield _feature(name, _answered(part, method, framing, padding))
    yield from _segmented()
    yield from _http2()


def _with_fields(
    fields: tuple[bytes, ...], method: bytes, framing: str, version: bytes
) -> Callable[[Attack], Sequence[bytes]]:
    def build(attack: Attack) -> Sequence[bytes]:
        more, body = framed(framing, attack.inner)
        return [attack.request(*fields, *more, method=method, version=version) + body]

    return build


def _answered(part: str, method: bytes, framing: str, padding: int) -> Callable[[Attack], Sequence[bytes]]:
    def build(attack: Attack) -> Sequence[bytes]:
        more, body = framed(framing, b"\r\n" * (padding // 2) + attack.inner)
        head = attack.request(*more, method=method, part=part)
        return [head, body]  # the answer comes before the body

    return build


def _segmented() -> Iterator[Payload]:
    """Bodies that stop in the middle, and answers that come before."""
    yield _feature(
        "early-unfinished",
        lambda attack: [attack.request(b"Content-Length: 99999", part="early"), attack.inner],
    )
    yield _feature(
        "early-unfinished-chunk",
        lambda attack: [attack.request(b"Transfer-Encoding: chunked", part="early"), b"fffff\r\n" + attack.inner],
    )
    yield _feature(
        "early-expect",
        lambda attack: [
            attack.request(b"Expect: 100-continue", b"Content-Length: %d" % len(attack.inner), part="early"),
            attack.inner,
        ],
    )
    yield _feature(
        "early-expect-none",
        lambda attack: [attack.request(b"Expect: 100-continue", b"Content-Length: 99999", part="early")],
    )
    yield _feature(
        "one-octet-segments",
        lambda attack: [
            attack.request(b"Content-Length: %d" % len(attack.inner)),
            *(attack.inner[at : at + 1] for at in range(8)),
            attack.inner[8:],
        ],
    )
    yield _feature(
        "chunks-of-one",
        lambda attack: [
            attack.request(b"Transfer-Encoding: chunked"),
            b"".join(b"1\r\n%c\r\n" % octet for octet in attack.inner) + b"0\r\n\r\n",
        ],
    )
    yield _feature(
        "bad-second-chunk",
        lambda attack: [attack.request(b"Transfer-Encoding: chunked"), b"1\r\nx\r\nZZ\r\n" + chunked(attack.inner)],
    )
    yield _feature(
        "large-header", lambda attack: [attack.request(b"X: " + b"x" * 200_000, method=b"GET") + attack.inner]
    )


def _http2() -> Iterator[Payload]:
    for part in ANSWERS:
        for padding in (0, 200_000):
            yield Payload(
                f"h2-{part}-{padding}", "feature", kinds=KINDS,
                frames=lambda attack, part=part, padding=padding: [
                    Headers(begin(attack, part=part)), Data(b"\r\n" * (padding // 2) + attack.inner)
                ],
            )  # fmt: skip
        yield Payload(
            f"h2-{part}-unfinished", "feature", kinds=KINDS,
            frames=lambda attack, part=part: [
                Headers([*begin(attack, part=part), (b"content-length", b"99999")]), Data(attack.inner, end=False)
            ],
        )  # fmt: skip


def _feature(name: str, build: Callable[[Attack], Sequence[bytes]]) -> Payload:
    return Payload(f"feature-{name}", "feature", build, kinds=KINDS, core=name in CORE)
