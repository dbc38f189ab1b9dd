"""`Cache`: a bounded mapping for many threads. The least recently used entries are removed first."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Entries with a total size of at most `limit`. An entry is not cached if its own data is larger than `largest`.

    Our own few lines: `cachetools` would need a lock around it as well, and would be a fifth runtime dependency.

    Example: `cache = Cache(1024); cache.put("key", value); cache.get("key")`
    """

    def __init__(self, limit: int, *, largest: int | None = None) -> None:
        self._limit = limit
        self._largest = limit if largest is None else largest
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, or `None`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        try:  # no lock: each step is atomic
            self._entries.move_to_end(key)
        except KeyError:  # another thread has just removed the entry
            return entry[0]
        return entry[0]

    def put(self, key: K, value: V, size: int = 1, *, extra: int = 0) -> None:
        """Cache the value, unless it is too large.

        `size`: of the data that the entry holds. `extra`: what the value needs in memory beyond that.
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
        """An empty cache: a copy of the owner must not share the lock."""
        return Cache(self._limit, largest=self._largest)

    def __len__(self) -> int:
        return len(self._entries)
