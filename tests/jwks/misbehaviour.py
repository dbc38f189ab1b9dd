"""What a server does in place of sending the document that is expected there, as tables."""

from tests.key_server import answer, die, raw
from tests.loopback import Behaviour

HTML = b"<!doctype html><title>Maintenance</title>"
MISBEHAVIOUR: dict[str, Behaviour] = {
    "500": answer(500),
    "404": answer(404, b"{}"),
    "401 with keys": answer(401),
    "204": answer(204, b""),
    "206": answer(206),
    "304": answer(304, b""),
    "HTML": answer(200, HTML, "text/html"),
    "empty": answer(200, b""),
    "not JSON": answer(200, b"{"),
    "list": answer(200, b"[]"),
    "no keys": answer(200, b'{"keys": []}'),
    "only a symmetric key": answer(200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'),
    "deep": answer(200, b'{"keys": ' + b"[" * 100_000),
    "invalid UTF-8": answer(200, b'{"keys": "\xff"}'),
    "too large": answer(200, b" " * 300_000),
    "too large and endless": raw(b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 65_536] * 8),
    "compressed though not asked": answer(200, b"\x1f\x8b\x08\0garbage", **{"Content-Encoding": "gzip"}),
    "dead": die,
    "garbage": raw(b"\0\xff garbage\r\n\r\n"),
    "cut short": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"keys": ['),
    "broken chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"),
    "headers too large": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"),
}

DRIPS = {
    "silence": raw(pause=60),
    "status line alone": raw(b"HTTP/1.1 200 OK\r\n", pause=60),
    "headers byte by byte": raw(b"HTTP/1.1 200 OK\r\n", *[b"X: 1\r\n"] * 600, pause=0.1),
    "body byte by byte": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n", *[b" "] * 600, pause=0.1),
    "interim answers without end": raw(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 600, pause=0.1),
}
