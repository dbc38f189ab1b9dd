"""The copy of the list in one process: reads are resumed, lost changes are detected, known entries stay."""

import pytest

from mtls_middleware.revocation.format import FIRST_PAGE, Head, Page, UnreadableList, units_of
from mtls_middleware.revocation.list_copy import HistoryChanged, RevocationListCopy

NOW = 1_800_000_000
LIST = b"0" * 24


def write(number: int) -> bytes:
    return b"%024d" % number


def entry(number: int) -> bytes:
    return number.to_bytes(32, "little")  # the first byte differs


def page(position: int, *entries: int, ids: tuple[int, ...] = (), time: int = NOW) -> Page:
    """A page whose writes have the number of their entry, or the given numbers."""
    written = [write(each) for each in ids or entries]
    return Page(position, written, units_of((entry(each), time) for each in entries))


def head(at: int, number: int, changes: int = 0) -> Head:
    return Head(LIST, write(number), at, changes, changes, NOW)


def read(copy: RevocationListCopy, *pages: Page, is_end: bool = True) -> None:
    for _ in copy.add_pages(pages, is_end=is_end):
        pass


def entry_numbers(copy: RevocationListCopy) -> set[int]:
    return {int.from_bytes(each, "little") for shard in copy.shards for each in shard}


def whole() -> RevocationListCopy:
    """A copy of a list with the entries 1 to 4."""
    copy = RevocationListCopy(head(2, 4))
    read(copy, page(0, 1, 2), page(2, 3, 4))
    return copy


def test_a_copy_is_current_after_the_last_page() -> None:
    copy = RevocationListCopy(head(2, 4))
    assert not copy.is_current(head(2, 4))
    read(copy, page(0, 1, 2), is_end=False)
    assert not copy.is_current(head(2, 4))
    read(copy, page(0, 1, 2), page(2, 3, 4))
    assert copy.is_current(head(2, 4))
    assert not copy.is_current(head(2, 5))
    assert (entry_numbers(copy), copy.changes) == ({1, 2, 3, 4}, 4)


def test_a_read_is_resumed_at_the_last_page() -> None:
    copy = RevocationListCopy(head(4, 6))
    read(copy, page(0, 1, 2), page(2, 3, 4), is_end=False)
    assert copy.scores[0] == FIRST_PAGE + 2
    pages = copy.add_pages([page(2, 3, 4), page(4, 5, 6), page(6, 7)], is_end=True)
    next(pages)  # the connection ends here
    assert copy.scores[0] == FIRST_PAGE + 2
    read(copy, page(2, 3, 4), page(4, 5, 6), page(6, 7))
    assert copy.is_current(head(6, 7))
    assert copy.scores[0] == FIRST_PAGE + 6


def test_a_page_that_grows_is_read_again() -> None:
    copy = whole()
    read(copy, page(2, 3, 4, 5))
    assert copy.is_current(head(2, 5))
    read(copy, page(2, 3, 4, 5), page(5, 6))
    assert copy.is_current(head(5, 6))
    assert entry_numbers(copy) == {1, 2, 3, 4, 5, 6}


def test_merged_pages_do_not_disturb_a_read() -> None:
    """A read continues behind a page that was merged, or at the page that it was merged into."""
    for position in (2, 4):
        copy = RevocationListCopy(head(6, 7))
        read(copy, page(0, 1, 2), page(2, 3, 4), *([page(4, 5, 6)] if position == 4 else []), is_end=False)
        read(copy, page(4, 1, 4, 6, ids=(6,)), page(6, 7))
        assert entry_numbers(copy) >= {1, 4, 6, 7}
        assert copy.is_current(head(6, 7))


@pytest.mark.parametrize(
    "pages",
    [
        [],  # the last page is lost
        [page(2, 3)],  # the last write is lost
        [page(2, 3, 9)],  # and another write has its number
        [page(2, 3, 4, 9, ids=(3, 8, 9))],  # and it revokes the same entry
        [page(2, 3, 9, 4, ids=(3, 8, 9))],
        [page(3, 4)],  # the page is lost
        [page(2, 3), page(3, 9)],
        [page(2, 3, 4, ids=(34,)), page(4, 9)],
    ],
)
def test_another_history_is_detected(pages: list[Page]) -> None:
    copy = whole()
    with pytest.raises(HistoryChanged):
        read(copy, *pages)
    assert entry_numbers(copy) == {1, 2, 3, 4}


def test_another_history_is_detected_during_a_read() -> None:
    """The pages that were read and the later pages are of two histories. Together, they miss entries of both."""
    for pages in ([], [page(2, 9, 8)], [page(3, 9)], [page(2, 9), page(6, 8)]):
        copy = RevocationListCopy(head(4, 6))
        read(copy, page(0, 1, 2), page(2, 3, 4), is_end=False)
        with pytest.raises(HistoryChanged):
            read(copy, *pages)
        assert not copy.is_current(head(4, 6))


def test_a_copy_that_begins_again_learns_everything_and_forgets_nothing() -> None:
    copy = whole()
    copy.begin(head(2, 9))
    assert not copy.is_current(head(2, 9))
    read(copy, page(0, 1, 2), page(2, 3, 9))
    assert copy.is_current(head(2, 9))
    assert entry_numbers(copy) == {1, 2, 3, 4, 9}


@pytest.mark.parametrize("pages", [[page(2, 3, 4), page(2, 5)], [page(4, 5), page(2, 3, 4)]])
def test_pages_in_the_wrong_order_are_rejected(pages: list[Page]) -> None:
    copy = whole()
    with pytest.raises(UnreadableList, match="wrong order"):
        read(copy, *pages)
    assert entry_numbers(copy) == {1, 2, 3, 4}


def test_a_malformed_time_rejects_the_page_each_time() -> None:
    copy = whole()
    wrong = Page(4, [write(9)], entry(9) + b"x" * 10)
    for _ in range(2):
        with pytest.raises(UnreadableList, match="time"):
            read(copy, page(2, 3, 4), wrong)
    assert not copy.is_current(head(4, 9))


def test_an_earlier_time_does_not_shorten_a_revocation() -> None:
    copy = whole()
    read(copy, page(2, 3, 4), page(4, 5, time=NOW + 5), page(5, 5, ids=(6,), time=NOW + 3))
    assert copy.shards[5][entry(5)] == NOW + 5


def test_an_expired_entry_is_dropped_and_not_a_second_before() -> None:
    copy = whole()
    read(copy, page(2, 3, 4), page(4, 5, time=NOW + 1))
    for later, left in ((0, {1, 2, 3, 4, 5}), (1, {5}), (2, set())):
        assert len(list(copy.drop_expired(NOW + later))) == 256
        assert entry_numbers(copy) == left
