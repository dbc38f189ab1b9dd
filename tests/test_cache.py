"""The cache: limited size, entries that are read again stay, several caches in one memory, safe for threads."""

import copy
import threading

from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware.cache import Cache, CacheMemory, caches_of
from tests.growth import assert_grows_with_size


def test_a_value_that_was_put_is_found_and_no_other() -> None:
    cache: Cache[str, int] = Cache(2)
    assert cache.get("a") is None
    cache.put("a", 1)
    cache.put("a", 2)
    assert (cache.get("a"), len(cache)) == (2, 1)


def test_a_value_that_was_read_stays_longer_than_one_that_was_not() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_new_keys_that_are_never_read_again_do_not_displace_values_in_use() -> None:
    cache: Cache[int, int] = Cache(100)
    for number in range(50):
        cache.put(number, number)
    for number in range(1_000, 21_000):
        cache.put(number, number)
        cache.get(number % 50)
    assert [cache.get(number) for number in range(50)] == list(range(50))
    assert len(cache) == 100


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["get", "put"]), st.integers(0, 8), st.integers(1, 4)), max_size=60),
)
def test_the_memory_evicts_like_the_model(limit: int, operations: list[tuple[str, int, int]]) -> None:
    memory, model = CacheMemory(limit), Model(limit)
    for number, (operation, key, size) in enumerate(operations):
        if operation == "get":
            assert memory.get(key) == model.get(key)
        else:
            memory.put(key, number, size)
            model.put(key, number, size)
        assert set(memory) == {each.key for each in model.entries}
        assert memory.size == sum(each.size for each in model.entries) <= limit


class ModelEntry:
    def __init__(self, key: int, value: int, size: int) -> None:
        self.key, self.value, self.size, self.used = key, value, size, False


class Model:
    """SIEVE with a list, the oldest entry first, and the position of the hand in it."""

    def __init__(self, limit: int) -> None:
        self.limit, self.hand = limit, 0
        self.entries: list[ModelEntry] = []

    def get(self, key: int) -> int | None:
        for each in self.entries:
            if each.key == key:
                each.used = True
                return each.value
        return None

    def put(self, key: int, value: int, size: int) -> None:
        if size > self.limit:
            return
        for position, each in enumerate(self.entries):
            if each.key == key:
                self.remove(position)
                break
        while sum(each.size for each in self.entries) + size > self.limit:
            while self.entries[self.hand].used:
                self.entries[self.hand].used = False
                self.hand = (self.hand + 1) % len(self.entries)
            self.remove(self.hand)
        self.entries.append(ModelEntry(key, value, size))

    def remove(self, position: int) -> None:
        # The hand stays at its entry. Behind the newest entry it starts again at the oldest.
        starts_again = position == self.hand == len(self.entries) - 1
        del self.entries[position]
        self.hand = 0 if starts_again else self.hand - (position < self.hand)


def test_an_operation_takes_the_same_time_in_a_full_memory_of_any_size() -> None:
    def prepare(size: int) -> object:
        memory = CacheMemory(size)
        for number in range(size):
            memory.put(number, number, 1)
            memory.get(number)

        def replace_all() -> None:
            for number in range(size, 2 * size):
                memory.put(number, number, 1)
                memory.get(number)

        return replace_all

    assert_grows_with_size(prepare, 20_000)  # type: ignore[arg-type] (the helper calls what `prepare` returns)


def test_a_falsy_value_is_a_value() -> None:
    cache: Cache[str, int] = Cache(1)
    cache.put("a", 0)
    assert cache.get("a") == 0


def test_a_value_that_is_too_large_is_not_cached() -> None:
    cache: Cache[str, int] = Cache(10, largest=5)
    cache.put("large", 1, 6)
    cache.put("with more", 1, 5, extra=6)
    assert len(cache) == 0
    cache.put("fits", 1, 5, extra=5)
    assert cache.get("fits") == 1


def test_a_memory_of_size_zero_caches_nothing() -> None:
    cache: Cache[str, int] = Cache(0)
    cache.put("a", 1)
    assert cache.get("a") is None


def test_caches_in_one_memory_share_its_limit_and_keep_their_keys_apart() -> None:
    memory = CacheMemory(3)
    first: Cache[str, int] = Cache(memory)
    second: Cache[str, str] = Cache(100)
    second.share(memory)
    first.put("a", 1)
    second.put("a", "one")
    assert (first.get("a"), second.get("a")) == (1, "one")
    for number in range(10):
        second.put(str(number), "")
    assert memory.size == len(memory) == len(first) + len(second) == 3


def test_a_cache_that_shares_another_memory_begins_empty() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.share(CacheMemory(2))
    assert cache.get("a") is None


def test_a_cache_stays_in_the_larger_of_two_shared_memories() -> None:
    cache: Cache[str, int] = Cache(2)
    small, large = CacheMemory(0), CacheMemory(10)
    for memory, expected in ((small, small), (large, large), (small, large), (CacheMemory(5), large)):
        cache.share(memory)
        assert cache.memory is expected


def test_a_deep_copy_is_an_empty_cache_with_a_memory_of_its_own() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    copied = copy.deepcopy(cache)
    copied.put("b", 2)
    assert (copied.get("a"), copied.get("b"), cache.get("b"), copied.memory.limit) == (None, 2, None, 2)


def test_only_caches_of_this_package_are_shared() -> None:
    cache: Cache[str, int] = Cache(2)
    owner = type("Owner", (), {"caches": [cache, {}, None]})()
    assert caches_of(owner) == (cache,)
    for other in (object(), type("Owner", (), {"caches": None})(), type("Owner", (), {"caches": cache})()):
        assert caches_of(other) == ()


def test_many_threads_may_read_and_write_at_once() -> None:
    cache: Cache[int, int] = Cache(50)
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            for number in range(2000):
                key = (number * seed) % 200
                found = cache.get(key)
                if found not in (None, key):
                    wrong.append((key, found))
                cache.put(key, key)
        except Exception as error:  # noqa: BLE001 (the test fails in its own thread, below)
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(cache) == cache.memory.size == 50
