"""Reads and writes the tags and lengths of DER (X.690 8.1): definite lengths, and tags of one byte."""

from collections.abc import Iterator
from typing import TypeVar

SEQUENCE = 0x30

Octets = TypeVar("Octets", bytes, memoryview)


def read_value(der: Octets, position: int = 0) -> tuple[int, Octets, int]:
    """Return the tag, the content and the end position of the DER value at `position`. Raises `ValueError`.

    The content of a `memoryview` is a `memoryview`, so nothing is copied.

    Example: `read_value(b"\\x04\\x01x") == (4, b"x", 3)`
    """
    if len(der) < position + 2 or der[position] & 0x1F == 0x1F:
        raise ValueError("not a DER value with a tag of one byte")
    start, size = position + 2, der[position + 1]
    if size >= 0x80:
        octets = size & 0x7F
        size = int.from_bytes(der[start : start + octets], "big")
        if not 0 < octets <= 4 or start + octets > len(der):
            raise ValueError("not a DER value of definite length")
        start += octets
    if start + size > len(der):
        raise ValueError("the DER value is truncated")
    return der[position], der[start : start + size], start + size


def read_values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each of the concatenated DER values. Raises `ValueError`."""
    position = 0
    while position < len(der):
        tag, content, position = read_value(der, position)
        yield tag, content


def header(tag: int, size: int) -> bytes:
    """Return the tag and the length of a DER value with `size` bytes of content.

    Example: `header(4, 1) == b"\\x04\\x01"`
    """
    octets = b"" if size < 0x80 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets), *octets] if octets else [tag, size])
