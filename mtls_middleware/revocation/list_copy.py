"""`RevocationListCopy`: the copy of the revocation list in one process.

This module performs no I/O and reads no clock.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from mtls_middleware.revocation.format import FIRST_PAGE, HEAD_SCORE, UNIT_SIZE, Head, Page, UnreadableList, parse_units

# Mappings from an entry to the Unix time until which the entry is valid. Entries with the same first byte are in the
# same mapping. While a single dictionary of a million entries grows or is freed, Python's global lock is held for 50 ms
# or more.
Shards = list[dict[bytes, int]]


class HistoryChanged(Exception):  # noqa: N818 (not an error of the caller: the list must be read again)
    """Raised if the list does not contain the last write that this copy has read."""


def new_shards() -> Shards:
    """Return shards without entries."""
    return [{} for _ in range(256)]


class RevocationListCopy:
    """A copy of one list. A later read continues at the last page that was read before.

    Attributes:
        list: the id of the list.
        shards: the entries that were read, and that have not expired.
        changes: the number of changes up to the end of the last complete read.
    """

    def __init__(self, head: Head) -> None:
        self.list: bytes = head.list
        self.shards: Shards = new_shards()
        self.changes: int = 0
        self.begin(head)

    def begin(self, head: Head) -> None:
        """Read the list again from its first page. The entries that were read before stay in the copy."""
        self._is_complete = False
        self._position = 0
        # The position of a page, and the id of a write that is in this page as long as the list has this write.
        self._anchor = head.page, head.id

    def is_current(self, head: Head) -> bool:
        """Return whether all changes of this head were read."""
        return self._is_complete and self._anchor == (head.page, head.id)

    @property
    def scores(self) -> tuple[int, str]:
        """The range of scores to read: the last page that was read, which may have grown, and all later pages."""
        return FIRST_PAGE + self._position, f"({HEAD_SCORE}"

    def add_pages(self, pages: Sequence[Page], *, is_end: bool) -> Iterator[int]:
        """Add the entries of the next pages, and yield the number of units after each page.

        The caller may pause after each page. If it does not continue, the same pages must be read again.

        Arguments:
            pages: the first pages in the range `scores`.
            is_end: whether the list has no later page.

        Raises `HistoryChanged` or `UnreadableList`.
        """
        self._check(pages, is_end=is_end)
        for page in pages:
            self._add_units(page.units)
            yield len(page.units) // UNIT_SIZE
        last = pages[-1]
        self._position = last.position
        if last.position >= self._anchor[0]:
            self._anchor = last.position, last.ids[-1]
        if is_end:
            self._is_complete, self.changes = True, last.end

    def _check(self, pages: Sequence[Page], *, is_end: bool) -> None:
        if any(one.position >= two.position for one, two in pairwise(pages)):
            raise UnreadableList("the pages of the list are in the wrong order; the next poll reads them again")
        position, write = self._anchor
        found = next((page for page in pages if page.position >= position), None)
        if found is None and not is_end:  # the read may still reach the page with this write
            return
        if found is None or found.position != position or write not in found.ids:
            raise HistoryChanged

    def _add_units(self, units: bytes) -> None:
        shards = self.shards
        for entry, time in parse_units(units):
            shard = shards[entry[0]]
            if shard.get(entry, 0) < time:
                shard[entry] = time

    def drop_expired(self, now: int) -> Iterator[int]:
        """Drop the entries that have expired at the Unix time `now`, shard by shard.

        Yields, after each shard, the number of entries that the shard contained before. The caller may
        pause between shards.
        """
        for number, shard in enumerate(self.shards):
            if min(shard.values(), default=now) < now:
                self.shards[number] = {entry: time for entry, time in shard.items() if time >= now}
            yield len(shard)
