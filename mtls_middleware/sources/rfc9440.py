"""Parses the `Client-Cert` and `Client-Cert-Chain` fields of RFC 9440 with a structured fields library (RFC 9651).

A malformed field is rejected, although RFC 9651 4.2 says to ignore it. If it were ignored, a request with a malformed
certificate would be handled like a request without a certificate.
"""

from typing import cast

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources.encoding import base64_der, split_ders

# Maximum number of parameters in one field. Parsers must support at least 256 for each Item (RFC 9651 3.1.2).
_MAX_PARAMETERS = 256 * 16

_Item = tuple[object, object]  # a Structured Field item: a pair of the bare item and its parameters


def client_cert(text: str) -> bytes:
    """Parse a `Client-Cert` value, an Item that is a Byte Sequence, and return the certificate in DER.

    Parameters are ignored (RFC 9440 2.2). Raises `MalformedCertificate`.
    """
    if text[:1] == text[-1:] == ":":
        try:
            return base64_der(text[1:-1])  # fast path for the usual form, which has no parameters
        except MalformedCertificate:
            return _item(text)
    return _item(text)


def client_cert_chain(text: str) -> tuple[bytes, ...]:
    """Parse a `Client-Cert-Chain` value, a List of Byte Sequences, and return the certificates in DER.

    A Byte Sequence with several concatenated certificates is split: some configurations of HAProxy send
    `:%[ssl_c_chain_der,base64]:` (keycloak/keycloak#49180). Raises `MalformedCertificate`.
    """
    _check_shape(text)
    import http_sf

    try:
        members = cast("list[_Item]", http_sf.parse(text.encode("latin-1", "replace"), tltype="list"))
    except ValueError as error:
        raise MalformedCertificate("the value is not a List of Byte Sequences (RFC 9440 2.3)") from error
    return tuple(der for member in members for der in split_ders(_byte_sequence(member)))


def _item(text: str) -> bytes:
    """Parse a value with the structured fields library, which accepts parameters and base64 without padding."""
    _check_shape(text)
    import http_sf

    try:
        item = cast("_Item", http_sf.parse(text.encode("latin-1", "replace"), tltype="item"))
    except ValueError as error:
        raise MalformedCertificate("the value is not a Byte Sequence (RFC 9440 2.2)") from error
    return _byte_sequence(item)


def _check_shape(text: str) -> None:
    """Reject long invalid values before they are parsed, because parsing takes microseconds for each parameter.

    Raises `MalformedCertificate`.
    """
    if not text.lstrip(" ").startswith(":"):
        raise MalformedCertificate("the value is not a Byte Sequence; expected base64 between colons")
    if text.count(";") > _MAX_PARAMETERS:
        raise MalformedCertificate(f"the field has more than {_MAX_PARAMETERS} parameters")


def _byte_sequence(item: _Item) -> bytes:
    value, _ = item
    if not isinstance(value, bytes) or not value:  # the value is a Token, String, Integer, Inner List or "::"
        raise MalformedCertificate("the value is not a Byte Sequence; expected base64 between colons")
    return value
