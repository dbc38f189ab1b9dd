"""The list of what was revoked, as it lies in Redis and as one process knows it: one sorted set, written by one script.

Must never know: the connection, threads, what an entry stands for. What does not read as a list of ours is none.

All is in one key, which Redis loses or keeps as a whole: no half of it can be evicted. Its members are
- entries: 32 octets in base64url, with the second (Unix time) up to which they count as score;
- the news, in order: "list:number:until:entry", with `_NEWS + number` as score, the last `_KEPT` of them. Number 0
  says that there is a list, be it empty, and `list` tells one list from another that was made in its place.
A reader asks for the news from the last that it knows on, that one included: what it gets begins with it, or else a
part was missed, and everything is read again: the newest, then all in pages, then the news from that newest on.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_NEWS = 10**12  # above the Unix time of the year 9999
BELOW_NEWS = f"({_NEWS}"  # the end of the entries, as ZCOUNT takes it
_KEPT = 1000  # so many entries at once, or within a poll, do not make every process read everything again

# In one script, so that no reader sees a part. The time by which entries are dropped is that of Redis: a writer whose
# clock is ahead drops nothing that still counts. ARGV: how, and then entries, each with its second. How: "" adds to a
# list, and is 0 where there is none; "+" adds also to one that is yet to be made; any other text makes one of that name
# where there is none. What is no list of ours is left alone.
WRITE = f"""
local last = redis.call('ZRANGE', KEYS[1], -1, -1)[1] or ''
local list, number = string.match(last, '^([%w_-]+):(%d+):')
if not list and (ARGV[1] == '' or last ~= '' and not (#last == 43 and string.match(last, '^[%w_-]+$'))) then
  return 0
end
if not list and ARGV[1] ~= '+' then
  list, number = ARGV[1], 0
  redis.call('ZADD', KEYS[1], '{_NEWS}', list .. ':0:')
end
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', ARGV[i + 1], ARGV[i])
  if list then
    number = number + 1
    redis.call('ZADD', KEYS[1], string.format('%.0f', {_NEWS} + number),
               string.format('%s:%d:%s:%s', list, number, ARGV[i + 1], ARGV[i]))
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. redis.call('TIME')[1])
if list then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '{_NEWS}', string.format('(%.0f', {_NEWS} + number - {_KEPT}))
end
return 1
"""

_ENTRY = re.compile(r"[A-Za-z0-9_-]{43}")
_ITEM = re.compile(r"([A-Za-z0-9_-]{16,64}):([0-9]{1,12}):(?:([0-9]{1,12}):([A-Za-z0-9_-]{43}))?")


_MAKE = "call create() once, with all that is still revoked (docs/tokens.md)"
_ELSE = "who else writes there? Give key= a name that nothing else uses"


class UnreadableList(ValueError):  # noqa: N818 (it says what is found, as Refused does)
    """What was read is no list of revocations; the message says what it is, and what an operator does about it."""


class ListNotCreated(UnreadableList):
    """There is none, or one whose making was not finished: `create()` makes one of it."""


@dataclass(frozen=True, slots=True)
class _Item:
    text: str
    list: str
    number: int
    until: int = 0
    entry: bytes = b""


class RevocationListCopy:
    """What one process knows of a list, at first from `newest`: the member with the highest score, in a sequence.

    `revoked`: entry to the second up to which it counts. Raises `UnreadableList`.
    """

    def __init__(self, newest: Sequence[Any]) -> None:
        if not newest:
            raise ListNotCreated(f"there is none; {_MAKE}")
        if _ENTRY.fullmatch(_text(newest[0])):
            raise ListNotCreated(f"one whose making was not finished; {_MAKE}")
        self._last = _item(newest[0])
        self.revoked: dict[bytes, float] = {}

    @property
    def position(self) -> int:
        """The score from which on to ask for news."""
        return _NEWS + self._last.number

    @property
    def changes(self) -> int:
        """How many revocations were written since the list was made."""
        return self._last.number

    def take(self, pairs: Iterable[Any]) -> None:
        """Add any part of the list: pairs of member and score. Raises `UnreadableList`."""
        for member, score in pairs:
            if score < _NEWS:
                self.revoked[_octets(_text(member))] = score
            elif (item := _item(member)).list != self._last.list or score != _NEWS + item.number:
                raise UnreadableList(f"a member out of its place, or of another list; {_ELSE}")

    def take_news(self, members: Sequence[Any]) -> bool:
        """Add what is new. Returns `False` and adds nothing if a part is missing. Raises `UnreadableList`."""
        items = [_item(each) for each in members]
        last = self._last
        if not items or items[0] != last:
            return False
        if any(each.list != last.list or each.number != last.number + n for n, each in enumerate(items)):
            return False
        for each in items[1:]:
            self.revoked[each.entry] = max(each.until, self.revoked.get(each.entry, 0))
        self._last = items[-1]
        return True

    def succeed(self, former: "RevocationListCopy") -> bool:
        """Keep what was known of this very list before: nothing but time takes an entry from it, and where Redis has
        lost some, by going back to an older copy, they stay revoked here. `False` where it did.
        """
        if former._last.list != self._last.list:
            return True
        self.revoked = {**former.revoked, **self.revoked}
        return former._last.number <= self._last.number

    def forget(self, now: float) -> None:
        """Drop what counts no longer."""
        self.revoked = {entry: until for entry, until in self.revoked.items() if until >= now}


def _item(member: object) -> _Item:
    parts = _ITEM.fullmatch(text := _text(member))
    if parts is None or (parts[3] is None) != (int(parts[2]) == 0):
        raise UnreadableList(f"a member that is none of ours; {_ELSE}")
    if parts[3] is None:
        return _Item(text, parts[1], 0)
    return _Item(text, parts[1], int(parts[2]), int(parts[3]), _octets(parts[4]))


def _octets(text: str) -> bytes:
    if not _ENTRY.fullmatch(text):
        raise UnreadableList(f"a member that is none of ours; {_ELSE}")
    return base64.urlsafe_b64decode(text + "=")


def _text(member: object) -> str:
    if isinstance(member, bytes):
        return member.decode("ascii", "replace")
    if isinstance(member, str):  # a client with decode_responses=True
        return member
    raise UnreadableList(f"a member that is no text; {_ELSE}")


def written(entries: Iterable[tuple[bytes, int]]) -> list[str | int]:
    """The arguments of `WRITE` for these entries."""
    return [
        each
        for octets, until in entries
        for each in (base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii"), until)
    ]
