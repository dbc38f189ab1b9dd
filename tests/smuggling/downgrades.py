"""Smuggling forms of HTTP/2 that a proxy writes out as HTTP/1.1: lengths, encodings and line ends inside of fields."""

from collections.abc import Callable, Iterator, Sequence

from tests.smuggling.attack import Attack, lines
from tests.smuggling.payload import FORGE, REQUESTS, Data, Frame, Headers, Payload, Reset

Fields = list[tuple[bytes, bytes]]


def begin(attack: Attack, method: bytes = b"POST", part: str = "outer", **instead: bytes) -> Fields:
    """The pseudo-header fields; `instead` replaces one of them."""
    values = {"method": method, "scheme": b"https", "authority": b"localhost", "path": attack.path(part), **instead}
    return [(b":" + name.encode(), value) for name, value in values.items()]


# Name -> fields of a POST whose DATA is the last chunk and what is smuggled after it.
WITH_CHUNKS: dict[str, Fields] = {
    "te": [(b"transfer-encoding", b"chunked")],
    "te-carriage-return-line-feed": [(b"x", b"y\r\ntransfer-encoding: chunked")],
    "te-in-name": [(b"x: y\r\ntransfer-encoding", b"chunked")],
    "te-line-feed": [(b"x", b"y\ntransfer-encoding: chunked")],
    "te-blank": [(b"transfer-encoding ", b"chunked")],
    "te-capitals": [(b"Transfer-Encoding", b"chunked")],
    "te-underscore": [(b"transfer_encoding", b"chunked")],
    "te-trailers": [(b"te", b"trailers"), (b"transfer-encoding", b"chunked")],
}
# Name -> fields of a request whose DATA is what is smuggled, as it is; LENGTH is its length.
WITH_BODY: dict[str, tuple[bytes, Fields]] = {
    "length-0": (b"POST", [(b"content-length", b"0")]),
    "length-two": (b"POST", [(b"content-length", b"0"), (b"content-length", b"LENGTH")]),
    "length-short": (b"POST", [(b"content-length", b"1")]),
    "length-list": (b"POST", [(b"content-length", b"0, LENGTH")]),
    "length-plus": (b"POST", [(b"content-length", b"+LENGTH")]),
    "get": (b"GET", []),
    "head": (b"HEAD", []),
    "expect": (b"POST", [(b"expect", b"100-continue")]),
    "connection": (b"POST", [(b"connection", b"content-length")]),
}


def _pseudo(attack: Attack) -> dict[str, Fields]:
    """Forged fields inside of pseudo-header fields and of names and values, in a GET without DATA."""
    forged, path = lines(attack.forged), attack.path("inner")

    def get(*fields: tuple[bytes, bytes], method: bytes = b"GET", **instead: bytes) -> Fields:
        return [*begin(attack, method, "inner", **instead), *fields]

    return {
        "value-crlf": get((b"x", b"y\r\n" + forged)),
        "value-lf": get((b"x", b"y\n" + forged.replace(b"\r\n", b"\n"))),
        "value-cr": get((b"x", b"y\r" + forged.replace(b"\r\n", b"\r"))),
        "value-nul": get((b"x", b"y\0" + forged)),
        "method": get(method=b"GET %s HTTP/1.1\r\n%s\r\nX: " % (path, forged)),
        "path": get(path=b"%s HTTP/1.1\r\n%s\r\nX: " % (path, forged)),
        "path-lf": get(path=b"%s HTTP/1.1\n%s\nX: " % (path, forged.replace(b"\r\n", b"\n"))),
        "authority": get(authority=b"localhost\r\n" + forged),
        "host": get((b"host", b"localhost\r\n" + forged)),
        "scheme": get(scheme=b"http://localhost%s HTTP/1.1\r\n%s\r\nX: y" % (path, forged)),
        "name": get((b"x: y\r\n" + forged + b"\r\nz", b"1")),
        "name-colon": get(*((b":" + name.lower(), value) for name, value in attack.forged)),
        "name-leading-blank": get(*((b" " + name.lower(), value) for name, value in attack.forged)),
        "name-trailing-blank": get(*((name.lower() + b" ", value) for name, value in attack.forged)),
        "name-trailing-colon": get(*((name.lower() + b":", value) for name, value in attack.forged)),
        "name-capitals": get(*((name.upper(), value) for name, value in attack.forged)),
        "plain": get(*((name.lower(), value) for name, value in attack.forged)),
        "connection": get(
            (b"connection", b", ".join(name.lower() for name, _ in attack.forged)),
            *((name.lower(), value) for name, value in attack.forged),
        ),
    }


PSEUDO = (
    "value-crlf", "value-lf", "value-cr", "value-nul", "method", "path", "path-lf", "authority", "host", "scheme",
    "name", "name-colon", "name-leading-blank", "name-trailing-blank", "name-trailing-colon", "name-capitals", "plain",
    "connection",
)  # fmt: skip


def payloads() -> Iterator[Payload]:
    for name, fields in WITH_CHUNKS.items():
        yield _downgrade(
            name,
            lambda attack, fields=fields: [
                Headers([*begin(attack), *fields]), Data(b"0\r\n\r\n" + attack.inner)
            ],
        )  # fmt: skip
    for name, (method, with_length) in WITH_BODY.items():
        yield _downgrade(
            name,
            lambda attack, method=method, fields=with_length: [
                Headers([*begin(attack, method), *_measured(fields, len(attack.inner))]), Data(attack.inner)
            ],
        )  # fmt: skip
    yield _downgrade(
        "te-and-length",
        lambda attack: [
            Headers(
                [
                    *begin(attack),
                    (b"transfer-encoding", b"chunked"),
                    (b"content-length", b"%d" % len(b"0\r\n\r\n" + attack.inner)),
                ]
            ),
            Data(b"0\r\n\r\n" + attack.inner),
        ],
    )
    yield _downgrade(
        "value-request",
        lambda attack: [Headers([*begin(attack, b"GET"), (b"x", b"y\r\n\r\n" + attack.inner)], end=True)],
    )
    for name in PSEUDO:
        yield _downgrade(
            f"hidden-{name}", lambda attack, name=name: [Headers(_pseudo(attack)[name], end=True)], forge_only=True
        )
    for length in (b"", b"1"):
        more = [(b"content-length", length)] if length else []
        yield _downgrade(
            f"trailers{'-length' if length else ''}",
            lambda attack, more=more: [
                Headers([*begin(attack, part="inner"), *more]),
                Data(b"x", end=False),
                Headers([(name.lower(), value) for name, value in attack.forged], end=True),
            ],
            forge_only=True,
        )
    yield from _cancelled()


def _cancelled() -> Iterator[Payload]:
    """The client cancels the stream in the middle of the body: the proxy may not use that connection again."""
    for name, fields in {"length": [(b"content-length", b"9999")], "chunked": []}.items():
        for begun in (b"", b"x"):
            yield _downgrade(
                f"reset-{name}-{len(begun)}",
                lambda attack, fields=fields, begun=begun: [
                    Headers([*begin(attack), *fields]), Data(begun + attack.inner, end=False), Reset()
                ],
            )  # fmt: skip


def _measured(fields: Fields, length: int) -> Fields:
    return [(name, value.replace(b"LENGTH", b"%d" % length)) for name, value in fields]


def _downgrade(name: str, made: Callable[[Attack], Sequence[Frame]], *, forge_only: bool = False) -> Payload:
    return Payload(f"h2-{name}", "downgrade", frames=made, kinds=FORGE if forge_only else REQUESTS)
