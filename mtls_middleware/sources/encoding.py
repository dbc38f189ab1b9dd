"""How certificates are written into text: PEM (plain, folded, percent-encoded), base64 DER, DER joined to DER.

Must never know: header names, proxies, trust. Each reader accepts one canonical form or raises `MalformedCertificate`.
"""

import re

from mtls_middleware.base64_values import base64_octets
from mtls_middleware.errors import MalformedCertificate

# Twice the largest value measured (Envoy's Cert and Chain of a 12 KiB certificate: 38 kB), rounded up.
MAX_FIELD = 98_304
# Real chains hold one to four certificates; RFC 9440 2.3 leaves the limit to us.
MAX_CHAIN = 16

# Newlines arrive as they are, as CR LF, as blanks (Apache), as LF TAB (nginx's deprecated $ssl_client_cert), or as what
# a server made of such a fold. Nothing else may stand inside, between or around the blocks.
_PEM_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----[ \t\r\n]++([A-Za-z0-9+/=][A-Za-z0-9+/= \t\r\n]*+)-----END CERTIFICATE-----[ \t\r\n]*+"
)


def base64_der(text: str) -> bytes:
    """Strict standard base64 (RFC 4648 4): alphabet, padding and pad bits are checked."""
    try:
        octets = base64_octets(text)
    except ValueError as error:
        raise MalformedCertificate("not base64 in its canonical form") from error
    if not octets:
        raise MalformedCertificate("empty base64")
    return octets


def pem_ders(text: str) -> tuple[bytes, ...]:
    """The certificates of PEM text, plain or percent-encoded (RFC 3986 2.1; `+` stays `+`). At least one."""
    if not text.isascii():
        raise MalformedCertificate("PEM with characters outside ASCII")
    # Decoded once: a second layer leaves a "%" behind that the block does not admit.
    plain = _unescaped(text) if "%" in text else text
    ders: list[bytes] = []
    position = 0
    while position < len(plain) or not ders:
        block = _PEM_BLOCK.match(plain, position)
        if block is None:
            raise MalformedCertificate("not PEM certificates and nothing else")
        if len(ders) == MAX_CHAIN:
            raise MalformedCertificate(f"more than {MAX_CHAIN} certificates")
        ders.append(base64_der("".join(block[1].split())))
        position = block.end()
    return tuple(ders)


def _unescaped(text: str) -> str:
    """Percent escapes, read by a decoder of Python's own that knows them as `\\x`: `urllib` takes three times as long,
    and for a row of broken ones a hundred times. No PEM has a backslash.
    """
    if "\\" in text:
        raise MalformedCertificate("not PEM certificates and nothing else")
    try:
        return text.encode("ascii").replace(b"%", b"\\x").decode("unicode_escape")
    except UnicodeDecodeError as error:
        raise MalformedCertificate("a broken percent escape") from error


def pem_der(text: str) -> bytes:
    """The one certificate of PEM text; two are refused, never "the first"."""
    ders = pem_ders(text)
    if len(ders) != 1:
        raise MalformedCertificate("more than one certificate where one is expected")
    return ders[0]


def joined_ders(text: str) -> tuple[bytes, ...]:
    """Base64 over DER values laid end to end (HAProxy's `ssl_c_chain_der`), cut by their TLV lengths alone."""
    data = base64_der(text)
    ders: list[bytes] = []
    while data:
        size = _tlv_size(data)
        if size > len(data) or len(ders) == MAX_CHAIN:
            raise MalformedCertificate("joined DER that is cut short or too long")
        ders.append(data[:size])
        data = data[size:]
    return tuple(ders)


def _tlv_size(data: bytes) -> int:
    """Length in octets of the DER SEQUENCE at the start of `data` (X.690 8.1.3), header included."""
    if len(data) < 2 or data[0] != 0x30:
        raise MalformedCertificate("joined DER that is not a row of SEQUENCEs")
    if data[1] < 0x80:
        return 2 + data[1]
    octets = data[1] & 0x7F
    if not 1 <= octets <= 4 or len(data) < 2 + octets:
        raise MalformedCertificate("joined DER with an impossible length")
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")
