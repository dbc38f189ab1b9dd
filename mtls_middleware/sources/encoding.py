"""Decodes certificates in header values: PEM (plain, folded or percent-encoded), base64 DER, and concatenated DER.

Each function accepts one canonical form, and raises `MalformedCertificate` for any other value.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from mtls_middleware.base64_values import base64_octets
from mtls_middleware.der import SEQUENCE, read_value
from mtls_middleware.errors import MalformedCertificate

# Maximum number of characters in one field. The largest measured value has 38 kB (Envoy's Cert and Chain for a
# certificate of 12 KiB).
MAX_FIELD = 98_304

# Line breaks arrive as LF, CR LF, spaces (Apache) or LF TAB (nginx's deprecated $ssl_client_cert). A server may replace
# them by spaces. No other character is accepted inside, between or around the blocks.
_PEM_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----[ \t\r\n]++([A-Za-z0-9+/=][A-Za-z0-9+/= \t\r\n]*+)-----END CERTIFICATE-----[ \t\r\n]*+"
)
# Matches PEM without line breaks, as Citrix NetScaler sends it (hashicorp/vault#31557).
_ONE_LINE_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=]++)-----END CERTIFICATE----- ?")
# Matches a "%" that does not begin a percent escape (RFC 3986 2.1).
_INVALID_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def base64_der(text: str) -> bytes:
    """Decode standard base64 (RFC 4648 4) strictly: the alphabet, the padding and the pad bits are checked."""
    try:
        octets = base64_octets(text)
    except ValueError as error:
        raise MalformedCertificate("invalid base64; expected canonical standard base64 (RFC 4648 4)") from error
    if not octets:
        raise MalformedCertificate("the value is empty; expected a certificate in base64")
    return octets


def pem_ders(text: str) -> tuple[bytes, ...]:
    """Decode one or more PEM certificates, plain or percent-encoded (RFC 3986 2.1; `+` is not decoded as a space)."""
    if not text.isascii():
        raise MalformedCertificate("the PEM has non-ASCII characters")
    # The value is decoded only once. If it was encoded twice, a "%" remains, and `_PEM_BLOCK` does not match.
    plain = percent_decoded(text) if "%" in text else text
    ders: list[bytes] = []
    position = 0
    while position < len(plain) or not ders:
        block = _PEM_BLOCK.match(plain, position)
        if block is None:
            raise MalformedCertificate("invalid PEM; expected only CERTIFICATE blocks")
        ders.append(base64_der("".join(block[1].split())))
        position = block.end()
    return tuple(ders)


def percent_decoded(text: str) -> str:
    """Decode percent escapes once (RFC 3986 2.1). Raises `MalformedCertificate` for an invalid escape."""
    # This check comes first, because `unquote_to_bytes` keeps invalid escapes, and is slow if there are many of them.
    if _INVALID_ESCAPE.search(text):
        raise MalformedCertificate("invalid percent escape; expected % and two hexadecimal digits")
    return unquote_to_bytes(text).decode("latin-1")  # `_PEM_BLOCK` rejects non-ASCII characters


def pem_der(text: str) -> bytes:
    """Decode exactly one PEM certificate. Raises `MalformedCertificate` if there are several."""
    ders = pem_ders(text)
    if len(ders) != 1:
        raise MalformedCertificate(f"found {len(ders)} PEM certificates; expected exactly one")
    return ders[0]


def one_line_pem_der(text: str) -> bytes:
    """Decode exactly one PEM certificate, with line breaks or without. Raises `MalformedCertificate`."""
    found = _ONE_LINE_PEM.fullmatch(text)
    return pem_der(text) if found is None else base64_der(found[1])


def joined_ders(text: str) -> tuple[bytes, ...]:
    """Decode base64 of concatenated DER certificates (HAProxy's `ssl_c_chain_der`), and split them by their lengths."""
    return tuple(split_ders(base64_der(text)))


def split_ders(data: bytes) -> Iterator[bytes]:
    """Yield the parts of concatenated DER certificates.

    If a part is not DER, it is yielded together with all bytes after it.
    """
    position = 0
    while position < len(data):
        try:
            tag, _, end = read_value(data, position)
        except ValueError:
            tag, end = 0, len(data)
        if tag != SEQUENCE:
            end = len(data)
        yield data[position:end]
        position = end
