"""Cuts a CRL into parts, so that `cryptography` parses a long list in many short calls.

`cryptography` holds the interpreter's lock (GIL) while it parses or serialises a list. Up to release 50, it releases
the lock only for cryptographic operations (https://github.com/pyca/cryptography/issues/11585). So a list of 41 MB would
stop all other threads, and the event loop, for a second or more.
"""

import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mtls_middleware.der import SEQUENCE, header, read_value

_TIMES = (0x17, 0x18)  # the tags of UTCTime and GeneralizedTime
# Maximum number of bytes of entries that are parsed at once, and of PEM that is decoded at once. Both take about a
# millisecond.
_SLICE, _TEXT_SLICE = 32_768, 262_144
_BEGIN, _END = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the DER of a CRL (RFC 5280 5.1).

    Attributes:
        signed: the DER of tbsCertList, over which the signature is computed.
        before, entries, after: the content of tbsCertList before revokedCertificates, the content of
            revokedCertificates, and the content of tbsCertList after it.
        signature: the DER of signatureAlgorithm and signatureValue.
    """

    signed: memoryview
    before: bytes
    entries: memoryview
    after: bytes
    signature: bytes

    @property
    def without_entries(self) -> bytes:
        """The DER of a CRL that has everything but the entries. Its signature does not verify."""
        return _sequence(_sequence(self.before, self.after), self.signature)

    def slices(self) -> Iterator[bytes]:
        """Yield the DER of CRLs that have some of the entries each, and no crlExtensions. Raises `ValueError`."""
        start = position = 0
        while position < len(self.entries):
            position = read_value(self.entries, position)[2]
            if position - start >= _SLICE or position == len(self.entries):
                entries = bytes(self.entries[start:position])
                yield _sequence(_sequence(self.before, _sequence(entries)), self.signature)
                start = position


def split(der: bytes) -> Parts:
    """Cut the DER of a CRL into its parts. Raises `ValueError`. `cryptography` must parse the parts."""
    whole = memoryview(der)
    content, end = _read_sequence(whole)
    if end != len(whole):
        raise ValueError("bytes after the DER value")
    signed, start = _read_sequence(content)
    position, follows_time, entries, following = 0, False, signed[:0], len(signed)
    while position < len(signed):
        tag, _, end = read_value(signed, position)
        if follows_time and tag == SEQUENCE:
            entries, following = _read_sequence(signed, position)
            break
        follows_time, position = tag in _TIMES, end
    return Parts(content[:start], bytes(signed[:position]), entries, bytes(signed[following:]), bytes(content[start:]))


def der_of(octets: bytes, pause: Callable[[], None]) -> bytes:
    """Return the DER of a CRL file in DER or PEM (RFC 7468). `pause` is called often. Raises `ValueError`."""
    if octets[:1] == b"\x30" and octets[1:2] >= b"\x80":  # a text has no byte above 0x7F here
        return octets
    begin = octets.find(_BEGIN)
    end = octets.find(_END, begin)
    if begin < 0 or end < 0:
        raise ValueError("expected a revocation list in DER or PEM")
    if octets.count(b"-----BEGIN ") != 1 or octets.count(b"-----END ") != 1:
        raise ValueError("expected exactly one revocation list in a PEM file")
    der, rest = bytearray(), b""
    for start in range(begin + len(_BEGIN), end, _TEXT_SLICE):
        rest += b"".join(octets[start : min(end, start + _TEXT_SLICE)].split())
        whole = len(rest) - len(rest) % 4
        try:
            der += binascii.a2b_base64(rest[:whole], strict_mode=True)
        except binascii.Error as error:
            raise ValueError(f"the PEM block is not base64 ({error})") from error
        rest = rest[whole:]
        pause()
    if rest:
        raise ValueError("the PEM block is not complete")
    return bytes(der)


def _read_sequence(der: memoryview, position: int = 0) -> tuple[memoryview, int]:
    """Return the content and the end position of the SEQUENCE at `position`. Raises `ValueError`."""
    tag, content, end = read_value(der, position)
    if tag != SEQUENCE or end - position != len(header(SEQUENCE, len(content))) + len(content):
        raise ValueError("not a SEQUENCE in DER")
    return content, end


def _sequence(*parts: bytes) -> bytes:
    return b"".join((header(SEQUENCE, sum(map(len, parts))), *parts))
