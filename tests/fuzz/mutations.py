"""Changes good input at random, so that most of it stays good."""

from collections.abc import Callable
from random import Random

LONGEST = 65_536
# What parsers of these formats treat in a special way.
PIECES = [
    *(
        b"\x00",
        b"\xff",
        b'"',
        b"\\",
        b",",
        b";",
        b"=",
        b"+",
        b"#",
        b"%",
        b"%25",
        b"%0a",
        b":",
        b"/",
        b"//",
        b"..",
        b"&",
    ),
    *(b"NaN", b"Infinity", b"1e999", b"-1", b"null", b"true", b"{}", b"[]", b"[[", b'{"a":', b"\\ud800", b"=="),
    *(
        b"9" * 5000,
        b"[" * 500,
        b"\xed\xa0\x80",
        b"\xc3\xa9",
        b"\xe4\xb8\xad",
        b"\xcc\x80",
        b"\xe0\xbd\xb3",
        b"\xc2\xad",
    ),
    *(b"CN=", b"DC=", b"1.2.3=", b"#0c0161", b"URI=", b"Hash=", b"Cert=", b"Bearer ", b"basic ", b"access_token="),
    *(b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff"),
    *(b"cnf", b"x5t#S256", b"\r\n", b"\t", b" ", b"\xe2\x80\xae", b"\xe2\x80\xa8"),
]


def _replace(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice(PIECES) * random.choice((1, 1, 1, 2, 100, 2000))


def _overwrite(data: bytearray, random: Random) -> None:
    at, piece = random.randrange(len(data) + 1), random.choice(PIECES)
    data[at : at + len(piece)] = piece


def _remove(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    del data[at : at + random.choice((1, 2, 8, 64, 1000))]


def _repeat(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = data[at : at + random.choice((1, 4, 32, 256))] * random.choice((1, 2, 50, 500))


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data) + 1) :]


_CHANGES: list[Callable[[bytearray, Random], None]] = [_replace, _flip, _insert, _overwrite, _remove, _repeat, _cut]


def mutated(data: bytes, random: Random) -> bytes:
    """The data with one to thirty changes, at most 64 kB."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8, 30))):
        random.choice(_CHANGES)(changed, random)
        del changed[LONGEST:]
    return bytes(changed)
