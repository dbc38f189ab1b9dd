"""`SerialNumbers`: a set of serial numbers that needs little more memory than the numbers themselves.

A `frozenset` of a million integers needs 80 MB or more, and the lock of the interpreter is held while it is built and
while it is deleted.
"""

from collections.abc import Iterable

# The average number of serial numbers in one bucket. More numbers save memory, and fewer numbers save time.
_PER_BUCKET = 64


class SerialNumbers:
    """An immutable set of serial numbers.

    The numbers are stored as bytes, one after the other, in buckets. The bucket of a number depends on its length and
    on Python's hash of its bytes, which a CA cannot predict.

    Arguments:
        numbers: the serial numbers.
        expected: the approximate number of serial numbers.

    Example: `5 in SerialNumbers([3, 5], 2)`
    """

    def __init__(self, numbers: Iterable[int], expected: int) -> None:
        self._hashes = max(1, expected // _PER_BUCKET)
        buckets: dict[tuple[int, int], bytes | bytearray] = {}
        for number in numbers:
            octets = _octets(number)
            key = len(octets), hash(octets) % self._hashes
            if key in buckets:
                buckets[key] += octets
            else:
                buckets[key] = bytearray(octets)
        self._size = 0
        # Buckets are converted one after the other, so that no second copy of all numbers exists.
        for key, bucket in buckets.items():
            buckets[key] = bytes(bucket)
            self._size += len(bucket) // key[0]
        self._buckets = buckets

    def __contains__(self, number: int) -> bool:
        octets = _octets(number)
        bucket = self._buckets.get((len(octets), hash(octets) % self._hashes), b"")
        position = bucket.find(octets)
        while position > 0 and position % len(octets):  # continue the search if the match begins within another number
            position = bucket.find(octets, position + 1)
        return position >= 0

    def __len__(self) -> int:
        return self._size


def _octets(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
