"""Reads and writes the tags and lengths of DER (X.690 8.1): definite lengths, and tags of one byte."""

from collections.abc import Iterator

SEQUENCE = 0x30


def read_value(der: bytes, position: int = 0) -> tuple[int, bytes, int]:
    """Return the tag, the content and the end position of the DER value at `position`. Raises `ValueError`.

    Example: `read_value(b"\\x04\\x01x") == (4, b"x", 3)`
    """
    start, end = read_header(der, position)
    if end > len(der):
        raise ValueError("the DER value is truncated")
    return der[position], der[start:end], end


def read_values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each of the concatenated DER values. Raises `ValueError`."""
    position = 0
    while position < len(der):
        tag, content, position = read_value(der, position)
        yield tag, content


def read_header(der: bytes | bytearray, position: int = 0) -> tuple[int, int]:
    """Return the positions of the beginning and the end of the content of the DER value at `position`.

    The content may extend beyond `der`. Raises `ValueError` if the tag and the length are not complete.

    Example: `read_header(b"\\x04\\x01") == (2, 3)`
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
    return start, start + size


def header(tag: int, size: int) -> bytes:
    """Return the tag and the length of a DER value with `size` bytes of content.

    Example: `header(4, 1) == b"\\x04\\x01"`
    """
    octets = b"" if size < 0x80 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets), *octets] if octets else [tag, size])
