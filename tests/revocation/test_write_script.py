"""The script that writes to the list, on a real Redis: expiry, sweeps, and readers in every state."""

import secrets
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtls_middleware.revocation.format import FIRST_PAGE, Head, parse_head, parse_page, units_of
from mtls_middleware.revocation.list_copy import HistoryChanged, RevocationListCopy
from mtls_middleware.revocation.write_script import OTHER_DATA, WRITTEN, write_script
from tests.redis_server import RedisServer
from tests.revocation.lists import KEY

# The clock of the writers is behind that of Redis, so it is the one that counts.
BEGIN = 1_500_000_000
WINDOW = 24
SMALL = write_script(window=WINDOW, page_units=12)
USUAL = write_script()


def entry(number: int) -> bytes:
    return number.to_bytes(32, "little")


def write(
    client: Any, entries: Iterable[tuple[int, int]], now: int = BEGIN, *, script: str = USUAL, nonce: str | None = None
) -> int:
    """Entries are pairs of a number and the seconds from `BEGIN` until it expires."""
    units = units_of((entry(number), BEGIN + seconds) for number, seconds in entries)
    return int(client.eval(script, 1, KEY, "complete", nonce or secrets.token_hex(12), units, now))


class Reader:
    """A process that reads a few pages at a time."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.changed = 0
        self.copy = RevocationListCopy(self.head())

    def head(self) -> Head:
        return parse_head(self.client.zrange(KEY, -1, -1))

    def read(self, limit: int = 3) -> bool:
        """Whether the copy is complete."""
        head = self.head()
        if self.copy.is_current(head):
            return True
        low, high = self.copy.scores
        pages = [*map(parse_page, self.client.zrange(KEY, low, high, byscore=True, offset=0, num=limit))]
        try:
            for _ in self.copy.add_pages(pages, is_end=len(pages) < limit):
                pass
        except HistoryChanged:
            self.changed += 1
            self.copy.begin(head)
        return False

    def finish(self) -> dict[int, int]:
        """All entries, and the seconds until they expire."""
        for _ in range(10_000):
            if self.read():
                return self.entries()
        raise AssertionError("the read never ends")

    def entries(self) -> dict[int, int]:
        shards = self.copy.shards
        return {
            int.from_bytes(each, "little"): second - BEGIN for shard in shards for each, second in shard.items()
        }  # fmt: skip


def pages(client: Any) -> int:
    return int(client.zcount(KEY, FIRST_PAGE, FIRST_PAGE * 10))


def stored(client: Any) -> set[int]:
    """The entries that Redis has, apart from the pages."""
    return {int.from_bytes(each, "little") for each in client.zrange(KEY, 0, FIRST_PAGE - 1, byscore=True)}


def test_what_the_list_already_has_is_not_written_again(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        write(client, [(1, 50), (2, 50)])
        reader = Reader(client)
        before, raw = reader.head(), client.zrange(KEY, -1, -1)
        write(client, [(1, 50), (2, 40)])
        assert reader.head() == before
        assert client.zrange(KEY, -1, -1) != raw  # so that WAIT has a write to wait for
        write(client, [(1, 50), (2, 60), (3, 50)])
        assert reader.head().changes == 4
        assert reader.finish() == {1: 50, 2: 60, 3: 50}


@pytest.mark.parametrize("ahead", ["Redis", "writer"])
def test_an_entry_is_removed_only_if_two_clocks_agree(redis_server: RedisServer, ahead: str) -> None:
    """One clock is hours ahead for one write, and then goes back."""
    now = int(time.time())
    lies, right = (now - 7200, now - 7200) if ahead == "Redis" else (now + 7200, now)
    with redis_server.client() as client:
        write(client, [(1, right + 600 - BEGIN)], now=right)
        write(client, [(2, right + 9000 - BEGIN)], now=lies)
        assert stored(client) == {1, 2}
        assert Reader(client).finish().keys() == {1, 2}
        assert Reader(client).head().time <= right + 10


def test_an_entry_is_removed_after_it_expires_and_not_a_second_before(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        write(client, [(1, 10), (2, 11)])
        for later, left in ((10, {1, 2}), (11, {2}), (12, set())):
            write(client, [], now=BEGIN + later)
            assert stored(client) == left


def test_many_entries_that_expire_at_once_are_removed_little_by_little(redis_server: RedisServer) -> None:
    """So that no write makes Redis busy for long."""
    with redis_server.client() as client:
        for start in range(0, 2500, 500):
            write(client, [(number, 10) for number in range(start, start + 500)])
        for left in (1500, 500, 0):
            write(client, [], now=BEGIN + 11)
            assert len(stored(client)) == left


def test_single_revocations_share_pages(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for number in range(64):
            write(client, [(number, 50)])
        assert pages(client) == 5
        assert Reader(client).finish().keys() == set(range(64))


def test_a_revocation_after_many_does_not_make_processes_read_the_many_again(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        write(client, [(number, 50) for number in range(500)])
        reader = Reader(client)
        reader.finish()
        for number in range(500, 520):
            write(client, [(number, 50)])
            reader.finish()
        low, high = reader.copy.scores
        assert len(b"".join(client.zrange(KEY, low, high, byscore=True))) < 2000


def test_the_list_does_not_grow_with_what_has_expired(redis_server: RedisServer) -> None:
    """A few entries stay for long. Many others, between them, are of no use soon."""
    with redis_server.client() as client:
        sizes = []
        for number in range(3000):
            write(client, [(number, 10_000 if number % 100 == 0 else number + 5)], now=BEGIN + number, script=SMALL)
            if number % 1000 == 999:
                sizes.append(client.zcard(KEY))
        assert max(sizes) < 200
        assert Reader(client).finish().keys() > set(range(0, 3000, 100))


def test_the_list_does_not_grow_with_repeated_revocations(redis_server: RedisServer) -> None:
    """A program that revokes all entries again and again, each time for longer."""
    with redis_server.client() as client:
        for turn in range(100):
            write(client, [(number, turn + 100) for number in range(40)], script=SMALL)
        reader = Reader(client)
        assert reader.finish() == dict.fromkeys(range(40), 199)
        assert pages(client) <= (3 * 40 + 3 * WINDOW) / 12 + 10


def test_small_pages_are_merged(redis_server: RedisServer) -> None:
    script = write_script(window=64, page_units=256)
    with redis_server.client() as client:
        for number in range(2000):
            write(client, [(number, 50)], script=script)
            if number == 1000:
                reader = Reader(client)
        assert pages(client) < 40
        assert len(reader.finish()) == len(Reader(client).finish()) == 2000


def test_a_reader_whose_page_is_merged_misses_nothing(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for number in range(400):
            write(client, [(number, 50)])
        readers = [Reader(client) for _ in range(8)]
        for done, reader in enumerate(readers):
            for _ in range(done):
                reader.read(2)
        for number in range(400, 420):
            write(client, [(number, 50)], script=write_script(window=24, page_units=128))
        assert pages(client) < 18
        for reader in readers:
            assert reader.finish().keys() == set(range(420))
            assert reader.changed == 0


def test_a_reader_of_the_last_changes_is_not_disturbed_by_sweeps(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        readers: list[Reader] = []
        for number in range(200):
            write(client, [(number, 100), (300, number)], script=SMALL)
            readers.append(Reader(client))
            readers[-1].finish()
            if number >= WINDOW // 2:  # so many writes have WINDOW changes
                assert number in readers[-WINDOW // 2 - 1].finish()
        assert pages(client) < 50  # they were swept
        assert {reader.changed for reader in readers} == {0}


def test_another_history_with_as_many_changes_is_detected(redis_server: RedisServer) -> None:
    """The other history even repeats the last revocation."""
    with redis_server.client() as client:
        write(client, [(1, 50)])
        older = client.dump(KEY)
        for number in (2, 3):
            write(client, [(number, 50)])
        reader = Reader(client)
        reader.finish()
        client.restore(KEY, 0, older, replace=True)
        for number in (9, 3):
            write(client, [(number, 50)])
        assert reader.finish().keys() == {1, 2, 3, 9}
        assert reader.changed == 1


def test_a_command_that_is_repeated_in_another_history_is_another_write(redis_server: RedisServer) -> None:
    """A client sends a command again, with the same random number, if the connection ended before the response."""
    with redis_server.client() as client:
        write(client, [(1, 50)])
        older = client.dump(KEY)
        for number in (2, 3):
            write(client, [(number, 50)], nonce="a" * 24 if number == 3 else None)
        reader = Reader(client)
        reader.finish()
        client.restore(KEY, 0, older, replace=True)
        for number in (9, 3):
            write(client, [(number, 50)], nonce="a" * 24 if number == 3 else None)
        assert reader.finish().keys() == {1, 2, 3, 9}
        assert reader.changed == 1


@pytest.mark.parametrize("place", ["above", "tail", "old page", "between"])
def test_foreign_data_in_the_list_rejects_it_and_stays(redis_server: RedisServer, place: str) -> None:
    with redis_server.client() as client:
        for number in range(200):
            write(client, [(number, 100)], script=SMALL)
        head = Reader(client).head()
        score = {"above": 2**54, "tail": FIRST_PAGE + head.page, "old page": FIRST_PAGE + 12, "between": FIRST_PAGE * 5}
        if place in ("tail", "old page"):
            client.zremrangebyscore(KEY, score[place], score[place])
        client.zadd(KEY, {"theirs": score[place]})
        before = client.dump(KEY)
        results = {write(client, [(number, 100)], script=SMALL) for number in range(300, 320)}
        if place in ("above", "tail"):
            assert results == {OTHER_DATA}
            assert client.dump(KEY) == before
        else:
            assert results <= {WRITTEN, OTHER_DATA}
        assert client.zscore(KEY, "theirs") == score[place]
        with pytest.raises(ValueError, match="unknown format"):
            Reader(client).finish()


numbers = st.integers(0, 40)
batches = st.lists(st.tuples(numbers, st.integers(0, 60)), max_size=14, unique_by=lambda each: each[0])
steps = st.one_of(
    st.tuples(st.just("write"), batches),
    st.tuples(st.just("singles"), st.lists(st.tuples(numbers, st.integers(0, 60)), max_size=40)),
    st.tuples(st.just("clock"), st.integers(0, 5)),
    st.tuples(st.just("read"), st.integers(2, 4)),
    st.tuples(st.sampled_from(["start", "save", "load"])),
)


class Model:
    """The list as it should be: its entries, and the seconds until they expire."""

    def __init__(self, client: Any) -> None:
        self.client, self.now, self.entries = client, BEGIN, dict[int, int]()
        self.write([])
        self.save()
        self.readers = [Reader(client)]

    def write(self, batch: list[tuple[int, int]]) -> None:
        write(self.client, batch, self.now, script=SMALL)
        for number, seconds in batch:
            self.entries[number] = max(seconds, self.entries.get(number, 0))

    def singles(self, batch: list[tuple[int, int]]) -> None:
        for each in batch:
            self.write([each])

    def clock(self, seconds: int) -> None:
        self.now += seconds

    def read(self, limit: int) -> None:
        for reader in self.readers:
            reader.read(limit)

    def start(self) -> None:
        self.readers.append(Reader(self.client))

    def save(self) -> None:
        self.saved = self.client.dump(KEY), dict(self.entries)

    def load(self) -> None:
        self.client.restore(KEY, 0, self.saved[0], replace=True)
        self.entries = dict(self.saved[1])

    def valid(self, entries: dict[int, int]) -> dict[int, int]:
        return {number: seconds for number, seconds in entries.items() if BEGIN + seconds >= self.now}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=40))
def test_every_reader_knows_every_entry_whatever_happens(redis_server: RedisServer, steps: list[Any]) -> None:
    """Writes, sweeps, failovers to an older state, and readers that began earlier, later, or are in between."""
    with redis_server.client() as client:
        client.delete(KEY)
        model = Model(client)
        for name, *arguments in steps:
            getattr(model, name)(*arguments)
        for reader in model.readers:
            found = reader.finish()
            assert all(found.get(number, -1) >= seconds for number, seconds in model.valid(model.entries).items())
        assert model.valid(Reader(client).finish()) == model.valid(model.entries)
