"""`Cache`: a thread-safe mapping of limited size, which removes the least recently used entries first."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Caches entries whose total size is at most `limit`. A value whose `size` is larger than `largest` is not cached.

    `cachetools` is not used: it also needs a lock, and it would be one more runtime dependency.

    Example: `cache = Cache(1024); cache.put("key", value); cache.get("key")`
    """

    def __init__(self, limit: int, *, largest: int | None = None) -> None:
        self._limit = limit
        self._largest = limit if largest is None else largest
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return the cached value for `key`, or `None`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        try:  # no lock is needed, because each step is atomic
            self._entries.move_to_end(key)
        except KeyError:  # another thread has just removed the entry
            return entry[0]
        return entry[0]

    def put(self, key: K, value: V, size: int = 1, *, extra: int = 0) -> None:
        """Cache `value` under `key`, unless the value is too large.

        `size`: the size of the data in the value, which must not exceed `largest`. `extra`: the additional memory that
        the value needs. The sum of both counts towards `limit`.
        """
        whole = size + extra
        if size > self._largest or whole > self._limit:
            return
        with self._lock:
            former = self._entries.pop(key, None)
            self._entries[key] = value, whole
            self._size += whole - (0 if former is None else former[1])
            while self._size > self._limit:
                _, (_, removed) = self._entries.popitem(last=False)
                self._size -= removed

    def __deepcopy__(self, memo: object) -> "Cache[K, V]":
        """Return an empty cache with the same limits, because a copy of the object that owns it needs its own lock."""
        return Cache(self._limit, largest=self._largest)

    def __len__(self) -> int:
        return len(self._entries)
