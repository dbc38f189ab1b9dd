"""What is remembered between requests: at most so many values, least recently used go first.

Must never know: a clock. A value that ages carries its own time, and the reader compares it with `now`.
Our own few lines, since `cachetools` would need a lock around it all the same and be a fifth runtime dependency.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """A bounded mapping for many threads. Example: `cache = Cache(1024); cache.put(key, value); cache.get(key)`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        value = self._values.get(key)
        if value is not None:
            try:  # no lock: both are one step each, and another thread may have let it go between them
                self._values.move_to_end(key)
            except KeyError:
                return value
        return value

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)
