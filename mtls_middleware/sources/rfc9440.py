"""The `Client-Cert` and `Client-Cert-Chain` fields of RFC 9440, over a structured fields library (RFC 9651).

Must never know: who sent them. A field that RFC 9651 4.2 would have us ignore is refused instead: ignoring could turn a
bad certificate into an anonymous request.
"""

from typing import cast

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources.encoding import MAX_CHAIN, base64_der

# RFC 9651 3.1.2 wants 256 for each Item.
_MAX_PARAMETERS = 256 * MAX_CHAIN

_Item = tuple[object, object]  # a bare item and its parameters


def client_cert(text: str) -> bytes:
    """The DER of a `Client-Cert` value: an Item that is a Byte Sequence, parameters ignored (RFC 9440 2.2)."""
    if text[:1] == text[-1:] == ":":
        try:
            return base64_der(text[1:-1])  # as everybody writes it
        except MalformedCertificate:
            return _item(text)
    return _item(text)


def client_cert_chain(text: str) -> tuple[bytes, ...]:
    """The DERs of a `Client-Cert-Chain` value: a List of Byte Sequences, leaf not among them (RFC 9440 2.3)."""
    if text.count(",") >= MAX_CHAIN:  # before any parsing
        raise MalformedCertificate(f"more than {MAX_CHAIN} certificates in the chain")
    _check_shape(text)
    import http_sf

    try:
        members = cast("list[_Item]", http_sf.parse(text.encode("latin-1", "replace"), tltype="list"))
    except ValueError as error:
        raise MalformedCertificate("not a structured field List") from error
    return tuple(_byte_sequence(member) for member in members)


def _item(text: str) -> bytes:
    """What is written otherwise, with parameters or without padding: the library judges."""
    _check_shape(text)
    import http_sf

    try:
        item = cast("_Item", http_sf.parse(text.encode("latin-1", "replace"), tltype="item"))
    except ValueError as error:
        raise MalformedCertificate("not a structured field Item") from error
    return _byte_sequence(item)


def _check_shape(text: str) -> None:
    """What the parser would take long to read in vain: it spends microseconds on each parameter, and each token."""
    if not text.lstrip(" ").startswith(":"):
        raise MalformedCertificate("not a Byte Sequence")
    if text.count(";") > _MAX_PARAMETERS:
        raise MalformedCertificate(f"more than {_MAX_PARAMETERS} parameters")


def _byte_sequence(item: _Item) -> bytes:
    value, _ = item
    if not isinstance(value, bytes) or not value:  # a Token, String, Integer, Inner List or "::"
        raise MalformedCertificate("not a Byte Sequence")
    return value
