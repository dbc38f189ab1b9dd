"""What is remembered: bounded, the least recently used goes first, safe for many threads."""

import threading

import pytest

from mtls_middleware.cache import Cache


def test_what_was_put_is_there_and_nothing_else() -> None:
    cache: Cache[str, int] = Cache(2)
    assert cache.get("a") is None
    cache.put("a", 1)
    cache.put("a", 2)
    assert (cache.get("a"), len(cache)) == (2, 1)


def test_the_least_recently_used_goes_first_and_reading_is_using() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


@pytest.mark.parametrize("size", [1, 3, 1024])
def test_endless_new_keys_never_make_it_larger(size: int) -> None:
    cache: Cache[int, int] = Cache(size)
    for number in range(5000):
        cache.put(number, number)
        assert len(cache) <= size
    assert [cache.get(number) for number in range(5000 - size, 5000)] == list(range(5000 - size, 5000))


def test_a_falsy_value_is_a_value() -> None:
    cache: Cache[str, int] = Cache(1)
    cache.put("a", 0)
    assert cache.get("a") == 0


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
        except Exception as error:  # noqa: BLE001 (an exception in a thread is nobody's otherwise)
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(cache) == 50
