"""`Cache`: a thread-safe mapping of limited size, and `CacheMemory`: the memory that several caches share.

If the memory is full, entries that were not read for a while are removed, whichever cache they belong to. So one limit
applies to everything that a stack of layers caches.

`cachetools` is not used: it also needs a lock, and it would be one more runtime dependency.
"""

import threading
from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

from mtls_middleware.forks import reset_after_fork

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Slot:
    """One entry, and its neighbours in the order of insertion."""

    __slots__ = ("key", "newer", "older", "size", "used", "value")

    def __init__(self, key: Hashable, value: Any, size: int, older: "_Slot | None") -> None:
        self.key, self.value, self.size = key, value, size
        self.used = False  # whether the entry was read since the hand of SIEVE passed it
        self.older = older
        self.newer: _Slot | None = None


class CacheMemory:
    """The entries of one or several caches. Their total size is at most `limit`.

    Entries are removed by SIEVE (Zhang et al., NSDI 2024): a hand moves from old entries to new ones, removes each
    entry that was not read since the hand passed it, and starts again at the oldest entry. So an entry that is never
    read leaves before entries that are read. An operation takes constant time on average: the hand passes an entry only
    once for each time that it was read or written.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._clear()
        reset_after_fork(self)

    def _clear(self) -> None:
        self._entries: dict[Hashable, _Slot] = {}
        self._size = 0
        self._oldest: _Slot | None = None
        self._newest: _Slot | None = None
        self._hand: _Slot | None = None

    def after_fork(self) -> None:
        """Replace the lock. If another thread held it, its change is not complete, so all entries are removed."""
        if self._lock.locked():
            self._clear()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The total size of all entries."""
        return self._size

    def get(self, key: Hashable) -> Any:
        """Return the value for `key`, or `None`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = True
        return entry.value

    def put(self, key: Hashable, value: object, size: int) -> None:
        """Store `value` under `key`, unless `size` is larger than the whole memory."""
        if size > self.limit:
            return
        with self._lock:
            if (former := self._entries.get(key)) is not None:
                self._remove(former)
            while self._size + size > self.limit:
                self._remove(self._next_unused())
            entry = self._entries[key] = _Slot(key, value, size, self._newest)
            if self._newest is None:
                self._oldest = entry
            else:
                self._newest.newer = entry
            self._newest = entry
            self._size += size

    def _next_unused(self) -> _Slot:
        """Move the hand to the next entry that was not read since the last pass, and return this entry."""
        entry = self._hand or self._oldest
        while entry is not None and entry.used:
            entry.used = False
            entry = entry.newer or self._oldest
        assert entry is not None  # noqa: S101 (the memory is not empty, because an entry has to leave)
        self._hand = entry
        return entry

    def _remove(self, entry: _Slot) -> None:
        del self._entries[entry.key]
        self._size -= entry.size
        if self._hand is entry:
            self._hand = entry.newer
        if entry.older is None:
            self._oldest = entry.newer
        else:
            entry.older.newer = entry.newer
        if entry.newer is None:
            self._newest = entry.older
        else:
            entry.newer.older = entry.older

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


class Cache(Generic[K, V]):
    """Caches values in its own memory with this `limit`, or in a memory that several caches share.

    A value whose `size` is larger than `largest` is not cached.

    Example: `cache = Cache(1024); cache.put("key", value); cache.get("key")`
    """

    def __init__(self, memory: int | CacheMemory, *, largest: int | None = None) -> None:
        self._is_shared = isinstance(memory, CacheMemory)
        self.memory: CacheMemory = memory if isinstance(memory, CacheMemory) else CacheMemory(memory)
        self._largest = self.memory.limit if largest is None else largest

    def share(self, memory: CacheMemory) -> None:
        """Use this memory for new values. Values that are already cached are no longer used.

        If the cache already shares another memory, it uses the larger of the two.
        """
        if not self._is_shared or memory.limit >= self.memory.limit:
            self.memory, self._is_shared = memory, True

    def get(self, key: K) -> V | None:
        """Return the cached value for `key`, or `None`."""
        found: V | None = self.memory.get((self, key))
        return found

    def put(self, key: K, value: V, size: int = 1, *, extra: int = 0) -> None:
        """Cache `value` under `key`, unless the value is too large.

        `size`: the size of the data in the value, which must not exceed `largest`. `extra`: the additional memory that
        the value needs. The sum of both counts towards the limit of the memory.
        """
        if size <= self._largest:
            self.memory.put((self, key), value, size + extra)

    def __len__(self) -> int:
        """Return the number of values of this cache.

        The time is proportional to the number of entries in the memory.
        """
        return sum(owner is self for owner, _ in self.memory)

    def __deepcopy__(self, memo: object) -> "Cache[K, V]":
        """Return an empty cache with the same limits.

        A copy of the object that owns the cache needs a lock of its own.
        """
        return Cache(self.memory.limit, largest=self._largest)


def caches_of(owner: object) -> tuple[Cache[Any, Any], ...]:
    """Return the caches that `owner`, for example a source, lists in its attribute `caches`.

    A user's own source has no such attribute.

    Example: `caches_of(Nginx(trusted_proxies=["10.0.0.0/8"]))`
    """
    found = getattr(owner, "caches", ())
    return tuple(each for each in found if isinstance(each, Cache)) if isinstance(found, (tuple, list)) else ()
