"""Defines the format of the revocation list in Redis.

This module performs no I/O and reads no clock. If any data is not in this format, the whole list is rejected.

The list is one sorted set under one key, so Redis can evict it only as a whole. It has three kinds of members:
- Entries: SHA-256 digests, 32 bytes. The score is the Unix time until which the entry is valid. Only the script for
  writing reads these members.
- Pages: the changes in order, `PAGE_UNITS` in a page at most. A change is a unit of 42 bytes: an entry, and its Unix
  time as 10 decimal digits. The score is `FIRST_PAGE` plus the position of the page, which is the number of changes
  before the page. All valid entries are in the pages, so a process reads the whole list, and later only the changes, in
  the same way: page after page.
- The head, with the highest score: the state of the list. It changes with each write, so a poll reads only the head.

Each write has an id: a digest of the previous write's id and of a random number. Two histories of the list can have the
same number of changes, and even the same last change, but not the same last id. So a process detects that Redis has
lost changes and continued from an older state. A page contains the ids of its last writes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ENTRY_SIZE = 32
UNIT_SIZE = 42
ID_SIZE = 24
PAGE_UNITS = 512  # 21 kB, so that one page is read and parsed in less than a millisecond
FIRST_PAGE = 10**12  # higher than the score of every entry, which is a Unix time
HEAD_SCORE = 2**53 - 1  # the highest integer that a score can represent exactly
MAX_TIME = 10**10 - 1  # the year 2286, the latest time of 10 digits

_HEAD = re.compile(
    rb"revocations-2:(?P<complete>[01]):(?P<list>[0-9a-f]{24}):(?P<id>[0-9a-f]{24}):(?P<page>[0-9]{1,15})"
    rb":(?P<changes>[0-9]{1,15}):(?P<units>[0-9]{1,15}):[0-9]{1,15}:[0-9]{1,15}:(?P<time>[0-9]{1,10})"
)
_PAGE = re.compile(rb"page-2:([0-9]{12,15}):([0-9]{2}):")

_CREATE_ADVICE = "call create() once, with all revocations that are still valid (docs/tokens.md)"
_KEY_ADVICE = (
    "another program, or an earlier release of this library, wrote to the key: set key= to a name that nothing else "
    f"uses, and {_CREATE_ADVICE}"
)


class UnreadableList(ValueError):  # noqa: N818 (named like `Refused`)
    """Raised if the data is not a revocation list. The message tells the operator the reason and what to do."""


class ListNotCreated(UnreadableList):
    """Raised if Redis does not have the key of the list, or if the creation of the list was not completed.

    `create()` creates or completes the list.
    """


@dataclass(frozen=True, slots=True)
class Head:
    """The state of the list.

    Attributes:
        list: the id of the first write, which identifies the list.
        id: the id of the last write that changed an entry.
        page: the position of the last page.
        changes: the number of changes since the list was created.
        units: the number of changes in all pages.
        time: the Unix time of the last write, by the slower of two clocks: that of Redis and that of the writer.
    """

    list: bytes
    id: bytes
    page: int
    changes: int
    units: int
    time: int


@dataclass(frozen=True, slots=True)
class Page:
    """Successive changes of the list.

    Attributes:
        position: the number of changes before this page.
        ids: the ids of its last writes.
        units: the changes, `UNIT_SIZE` bytes each.
    """

    position: int
    ids: Sequence[bytes]
    units: bytes

    @property
    def end(self) -> int:
        """The number of changes up to the end of this page, if it still contains all its changes."""
        return self.position + len(self.units) // UNIT_SIZE


def parse_head(members: Sequence[Any]) -> Head:
    """Parse the head of the list: the member of the list's sorted set in Redis that has the highest score.

    `members`: this member alone; empty if Redis does not have the key of the list. Raises `UnreadableList`.
    """
    if not members:
        raise ListNotCreated(f"the key does not exist; {_CREATE_ADVICE}")
    found = _HEAD.fullmatch(_octets(members[0]))
    if found is None:
        raise UnreadableList(f"a member of the sorted set has an unknown format; {_KEY_ADVICE}")
    if found["complete"] == b"0":
        raise ListNotCreated(f"the creation of the list was not completed; {_CREATE_ADVICE}")
    numbers = (int(found[name]) for name in ("page", "changes", "units", "time"))
    return Head(found["list"], found["id"], *numbers)


def parse_page(member: object) -> Page:
    """Parse a page, except for its units. Raises `UnreadableList`."""
    octets = _octets(member)
    found = _PAGE.match(octets)
    if found is None or not int(found[2]):
        raise UnreadableList(f"a member of the sorted set has an unknown format; {_KEY_ADVICE}")
    end = found.end() + int(found[2]) * ID_SIZE
    ids = [octets[start : start + ID_SIZE] for start in range(found.end(), end, ID_SIZE)]
    units = octets[end:]
    if len(octets) < end or len(units) % UNIT_SIZE or len(units) > PAGE_UNITS * UNIT_SIZE:
        raise UnreadableList(f"a page has the wrong length; {_KEY_ADVICE}")
    return Page(int(found[1]), ids, units)


def parse_units(units: bytes) -> Iterable[tuple[bytes, int]]:
    """Yield each entry and the Unix time until which it is valid. Raises `UnreadableList`."""
    octets, time = b"", 0
    for start in range(0, len(units), UNIT_SIZE):
        end = start + ENTRY_SIZE
        found = units[end : start + UNIT_SIZE]
        if found != octets:  # many entries of a page have the same time, and share one object
            if not found.isdigit():
                raise UnreadableList(f"a time has an unknown format; {_KEY_ADVICE}")
            octets, time = found, int(found)
        yield units[start:end], time


def units_of(entries: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the units of these pairs of an entry and the Unix time until which the entry is valid."""
    return b"".join(b"%b%010d" % (entry, min(time, MAX_TIME)) for entry, time in entries)


def _octets(member: object) -> bytes:
    if not isinstance(member, bytes):
        raise UnreadableList(f"a member is not a string of bytes; {_KEY_ADVICE}")
    return member
