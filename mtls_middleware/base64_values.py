"""Reads base64 that others wrote, with the same result on every Python version."""

import binascii


def base64_octets(text: str) -> bytes:
    """Standard base64 with padding (RFC 4648 section 4), only in its one canonical form. Raises `ValueError`.

    Python 3.11 and 3.12 accept more padding than there has to be, also in the strict mode of `binascii`; 3.13 does not.
    """
    written = text.encode("ascii")
    octets = binascii.a2b_base64(written, strict_mode=True)
    if binascii.b2a_base64(octets, newline=False) != written:
        raise ValueError("base64 with non-zero pad bits (RFC 4648 section 3.5), or too much padding")
    return octets
