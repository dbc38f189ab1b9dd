"""Decodes untrusted base64 strictly, with the same result on every Python version."""

import base64
import binascii
import re
import string

# Matches 32 bytes in base64url without padding. The last character has two unused bits. The example in RFC 8705 sets
# these bits, so compare the decoded bytes instead of the strings.
_SHA256 = re.compile(r"[A-Za-z0-9_-]{43}")
# From the base64url alphabet to the standard one. The characters that only the standard alphabet has become invalid.
_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
# Two or three characters after the last group of four have four or two pad bits in the last character. The characters
# whose pad bits are zero:
_LAST = {2: frozenset(_ALPHABET[::16]), 3: frozenset(_ALPHABET[::4])}


def base64_octets(text: str) -> bytes:
    """Decode standard base64 with padding (RFC 4648 section 4). Raises `ValueError` for a non-canonical encoding.

    The strict mode of `binascii` is not enough: it accepts excess padding in Python 3.11 and 3.12.
    """
    written = text.encode("ascii")
    octets = binascii.a2b_base64(written, strict_mode=True)
    if binascii.b2a_base64(octets, newline=False) != written:
        raise ValueError("the base64 has non-zero pad bits (RFC 4648 section 3.5), or too much padding")
    return octets


def base64url_octets(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515 section 2). Raises `ValueError` for a non-canonical encoding.

    Example: `base64url_octets("eyJhbGciOiJFUzI1NiJ9")`
    """
    rest = len(text) % 4
    try:
        octets = binascii.a2b_base64(text.encode("ascii").translate(_STANDARD) + b"=" * (-rest % 4), strict_mode=True)
    except ValueError:
        raise ValueError("invalid base64url") from None
    if rest and text[-1] not in _LAST[rest]:
        raise ValueError("the base64url has non-zero pad bits; expected zero bits")
    return octets


def sha256_digest(text: object) -> bytes | None:
    """Decode a SHA-256 digest in base64url, such as `x5t#S256` (RFC 8705 3.1). Returns `None` for any other value.

    Example: `sha256_digest(certificate.thumbprint) == certificate.digest`
    """
    if isinstance(text, str) and _SHA256.fullmatch(text):
        return base64.urlsafe_b64decode(text + "=")
    return None
