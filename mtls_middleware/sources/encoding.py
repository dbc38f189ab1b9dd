"""Decodes certificates from header values: PEM (plain, folded or percent-encoded), base64 DER, concatenated DER.

Each function accepts one canonical form and raises `MalformedCertificate` for anything else.
"""

import re
from urllib.parse import unquote_to_bytes

from mtls_middleware.base64_values import base64_octets
from mtls_middleware.der import SEQUENCE, read_value
from mtls_middleware.errors import MalformedCertificate

# Characters of one field. The largest measured value is 38 kB (Envoy's Cert and Chain for a 12 KiB certificate).
MAX_FIELD = 98_304
# Certificates in one chain. Real chains hold one to four; RFC 9440 2.3 lets the implementation set the limit.
MAX_CHAIN = 16

# Line breaks arrive as LF, CR LF, spaces (Apache) or LF TAB (nginx's deprecated $ssl_client_cert), and a server may
# unfold them. No other character is accepted inside, between or around the blocks.
_PEM_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----[ \t\r\n]++([A-Za-z0-9+/=][A-Za-z0-9+/= \t\r\n]*+)-----END CERTIFICATE-----[ \t\r\n]*+"
)
# A "%" that does not begin a percent escape (RFC 3986 2.1).
_INVALID_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def base64_der(text: str) -> bytes:
    """Decode standard base64 (RFC 4648 4) strictly: alphabet, padding and pad bits are checked."""
    try:
        octets = base64_octets(text)
    except ValueError as error:
        raise MalformedCertificate("invalid base64; expected canonical standard base64 (RFC 4648 4)") from error
    if not octets:
        raise MalformedCertificate("empty value; expected a certificate in base64")
    return octets


def pem_ders(text: str) -> tuple[bytes, ...]:
    """Decode one or more PEM certificates, plain or percent-encoded (RFC 3986 2.1; `+` is not decoded as a space)."""
    if not text.isascii():
        raise MalformedCertificate("PEM with non-ASCII characters")
    # Decoded once. If the value was encoded twice, a "%" remains, and the pattern of a block does not match it.
    plain = _percent_decoded(text) if "%" in text else text
    ders: list[bytes] = []
    position = 0
    while position < len(plain) or not ders:
        block = _PEM_BLOCK.match(plain, position)
        if block is None:
            raise MalformedCertificate("invalid PEM; expected only CERTIFICATE blocks")
        if len(ders) == MAX_CHAIN:
            raise MalformedCertificate(f"more than {MAX_CHAIN} PEM certificates")
        ders.append(base64_der("".join(block[1].split())))
        position = block.end()
    return tuple(ders)


def _percent_decoded(text: str) -> str:
    # Checked first: `unquote_to_bytes` leaves invalid escapes as they are, and is slow for many of them.
    if _INVALID_ESCAPE.search(text):
        raise MalformedCertificate("invalid percent escape; expected % and two hexadecimal digits")
    return unquote_to_bytes(text).decode("latin-1")  # PEM is ASCII: the pattern of a block rejects other characters


def pem_der(text: str) -> bytes:
    """Decode exactly one PEM certificate. Raises `MalformedCertificate` if there are several."""
    ders = pem_ders(text)
    if len(ders) != 1:
        raise MalformedCertificate(f"{len(ders)} PEM certificates; expected exactly one")
    return ders[0]


def joined_ders(text: str) -> tuple[bytes, ...]:
    """Decode base64 of concatenated DER certificates (HAProxy's `ssl_c_chain_der`), split by their TLV lengths."""
    data = base64_der(text)
    ders: list[bytes] = []
    position = 0
    while position < len(data):
        try:
            tag, _, end = read_value(data, position)
        except ValueError as error:
            raise MalformedCertificate(f"invalid concatenated DER: {error}") from error
        if tag != SEQUENCE:
            raise MalformedCertificate("invalid concatenated DER: expected SEQUENCEs")
        if len(ders) == MAX_CHAIN:
            raise MalformedCertificate(f"more than {MAX_CHAIN} certificates in concatenated DER")
        ders.append(data[position:end])
        position = end
    return tuple(ders)
