"""`CRLReader`: reads a CRL file in slices, so that `cryptography` parses a long list in many short calls.

`cryptography` holds the interpreter's lock (GIL) while it parses or serialises a list. Up to release 50, it releases
the lock only for cryptographic operations (https://github.com/pyca/cryptography/issues/11585). So a list of 41 MB would
stop all other threads, and the event loop, for a second or more. This module splits the list, and `cryptography` parses
each part.
"""

import binascii
import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import BinaryIO

from mtls_middleware.der import SEQUENCE, header, read_header
from mtls_middleware.validation.profile import HASHES

_TIMES = (0x17, 0x18)  # the tags of UTCTime and GeneralizedTime
_NO_SIGNATURE = b"\x03\x01\x00"  # an empty BIT STRING
# Number of bytes that are read from the file, and then parsed, at once. Each of the two steps takes about a
# millisecond.
_CHUNK, _SLICE = 65_536, 32_768
# Maximum number of bytes of all fields of a list except its entries.
_MAX_FIELDS = 1_048_576
_BLOCK, _BEGIN, _END = b"-----BEGIN ", b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"


class CRLReader:
    """Reads a CRL in DER or PEM from `file` (RFC 5280 5.1, RFC 7468). First call `slices`, then `finish`.

    `entries_size` is the number of bytes of all entries. All methods raise `ValueError` if the file is not a CRL.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._chunks, self._buffer, self._position = _chunks(file), bytearray(), 0
        # Both digests are computed, because the algorithm is not known yet.
        self._digests = [hashlib.new(each.name) for each in HASHES]
        self._list_end = self._enter(is_signed=False)
        self._signed_end = self._enter(is_signed=True)
        self._before, self._algorithm = b"", b""
        self.entries_size: int = 0
        follows_time = False
        while self._position < self._signed_end:
            tag = self._peek(1)[0]
            if follows_time and tag == SEQUENCE:
                self.entries_size = self._enter(is_signed=True) - self._position
                break
            value = self._value()
            self._before += value
            if tag == SEQUENCE and not self._algorithm:
                self._algorithm = value
            follows_time = tag in _TIMES
        if self._position + self.entries_size > self._signed_end or self._signed_end > self._list_end:
            raise ValueError("a value of the revocation list is longer than the list")

    def slices(self) -> Iterator[bytes]:
        """Yield the DER of CRLs. Each CRL has some of the entries, and neither extensions nor a signature."""
        end = self._position + self.entries_size
        while self._position < end:
            limit = min(_SLICE, end - self._position)
            self._peek(limit)
            size = self._end_of_value(0)
            while size < limit and (following := self._end_of_value(size)) <= limit:
                size = following
            if self._position + size > end:
                raise ValueError("an entry is longer than the revocation list")
            entries = self._take(size, is_signed=True)
            yield _sequence(_sequence(self._before, _sequence(entries)), self._algorithm, _NO_SIGNATURE)

    def finish(self) -> tuple[bytes, Mapping[str, bytes]]:
        """Return the DER of a CRL without the entries, and the digests of the signed data.

        The digests are those of tbsCertList, as a mapping of hash algorithm to digest.
        """
        fields = self._signed_end - self._position, self._list_end - self._signed_end
        if sum(fields) > _MAX_FIELDS:
            raise ValueError(f"the fields of the revocation list have more than {_MAX_FIELDS} bytes")
        after, signature = self._take(fields[0], is_signed=True), self._take(fields[1], is_signed=False)
        if self._buffer or any(self._chunks):
            raise ValueError("the file has more bytes after the revocation list")
        digests = {each.name: each.digest() for each in self._digests}
        return _sequence(_sequence(self._before, after), signature), digests

    def _enter(self, *, is_signed: bool) -> int:
        """Read the header of a SEQUENCE, and return the position of its end."""
        start, end = read_header(self._peek(6, is_required=False))
        found = self._take(start, is_signed=is_signed)
        if found != header(SEQUENCE, end - start):
            raise ValueError("a value is not a SEQUENCE in DER")
        return self._position + end - start

    def _value(self) -> bytes:
        end = self._end_of_value(0)
        if end + len(self._before) > _MAX_FIELDS:
            raise ValueError(f"the fields of the revocation list have more than {_MAX_FIELDS} bytes")
        return self._take(end, is_signed=True)

    def _end_of_value(self, start: int) -> int:
        """Return the end of the value at `start` of the buffer. It may be after the end of the buffer."""
        buffer = self._peek(start + 6, is_required=False)
        if len(buffer) > start + 1 and buffer[start + 1] < 0x80:
            return start + 2 + buffer[start + 1]  # fast path: nearly every entry has a length of one byte
        return read_header(buffer, start)[1]

    def _peek(self, size: int, *, is_required: bool = True) -> bytearray:
        """Return the buffer with at least `size` bytes.

        If the bytes are not required, the buffer may be shorter at the end of the file.
        """
        while len(self._buffer) < size:
            chunk = next(self._chunks, b"")
            if not chunk and is_required:
                raise ValueError("the revocation list is truncated")
            if not chunk:
                break
            self._buffer += chunk
        return self._buffer

    def _take(self, size: int, *, is_signed: bool) -> bytes:
        found = bytes(self._peek(size)[:size])
        del self._buffer[:size]
        self._position += size
        for each in self._digests if is_signed else ():
            each.update(found)
        return found


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the DER of the file. PEM is decoded."""
    first = file.read(_CHUNK)
    chunks = chain([first], iter(partial(file.read, _CHUNK), b""))
    # The length byte distinguishes PEM from DER: text has no byte above 0x7F, and a list in DER has more than 127
    # bytes.
    return chunks if first[:1] == b"\x30" and first[1:2] >= b"\x80" else _decoded(chunks)


def _decoded(texts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the decoded contents of the only PEM block of a file. Text before and after the block is allowed."""
    text = _skip(b"", texts, _BLOCK)
    if not text.startswith(_BEGIN):
        raise ValueError("expected one revocation list in DER or PEM, and no other PEM block")
    text, letters = text[len(_BEGIN) :], b""
    while text:
        body, dash, text = text.partition(b"-")
        letters += b"".join(body.split())
        whole = len(letters) - len(letters) % 4
        try:
            if whole:
                yield binascii.a2b_base64(letters[:whole], strict_mode=True)
        except binascii.Error as error:
            raise ValueError(f"the PEM block is not base64 ({error})") from error
        letters = letters[whole:]
        if dash:
            break
        text = next(texts, b"")
    text = b"-" + text
    while len(text) < len(_END) and (more := next(texts, b"")):
        text += more
    if letters or not text.startswith(_END):
        raise ValueError("the PEM block of the revocation list is not complete")
    if _skip(text[len(_END) :], texts, _BLOCK):
        raise ValueError("expected exactly one revocation list in a PEM file")


def _skip(text: bytes, texts: Iterator[bytes], marker: bytes) -> bytes:
    """Return the text from `marker` on, at least 100 bytes if the text has them, or `b""` if it lacks `marker`."""
    while (found := text.find(marker)) < 0:
        more = next(texts, b"")
        if not more:
            return b""
        text = text[-len(marker) :] + more
    text = text[found:]
    while len(text) < 100 and (more := next(texts, b"")):
        text += more
    return text


def _sequence(*parts: bytes) -> bytes:
    return b"".join((header(SEQUENCE, sum(map(len, parts))), *parts))
