"""Decodes untrusted base64 strictly, with the same result on every Python version."""

import binascii


def base64_octets(text: str) -> bytes:
    """Decode standard base64 with padding (RFC 4648 section 4). Raises `ValueError` for a non-canonical encoding.

    The strict mode of `binascii` is not enough: it accepts excess padding in Python 3.11 and 3.12.
    """
    written = text.encode("ascii")
    octets = binascii.a2b_base64(written, strict_mode=True)
    if binascii.b2a_base64(octets, newline=False) != written:
        raise ValueError("base64 with non-zero pad bits (RFC 4648 section 3.5), or too much padding")
    return octets
