"""Defines the format of the revocation list in Redis, and the copy of the list in one process.

Pure: no I/O, no clock. If any data is not in this format, the whole list is rejected.

The list is one sorted set under one key, so Redis can evict it only as a whole. Its members are:
- entries: 32 bytes in base64url. The score is the Unix time until which the entry is valid.
- changes: "list:number:until:entry", numbered in order. The score is `_FIRST_CHANGE + number`. Only the last 1000
  changes are kept. Change 0, "list:0:", marks a complete list, which may be empty. `list` is a random id. A list that
  is created again has a new id.

A reader requests its last change and all later changes. If the response does not begin with the reader's last change,
the reader has missed changes. Then it reads the newest change, all members in pages, and the changes since the newest.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mtls_middleware.base64_values import sha256_digest

_FIRST_CHANGE = 10**12  # a score above the Unix time of the year 9999
MAX_ENTRY_SCORE = f"({_FIRST_CHANGE}"  # the upper limit of an entry's score, exclusive, in the syntax of ZCOUNT
_MAX_CHANGES = 1000  # if more entries are written between two polls, all processes must read the whole list again

# The script that writes entries. A script is atomic, so no reader sees a partial change. Expired entries are removed by
# the clock of Redis, so that a writer whose clock is ahead does not remove valid entries. ARGV[1] is the mode, followed
# by pairs of entry and Unix time. The mode "" adds entries to a complete list, and the script returns 0 if there is no
# such list. The mode "+" also adds entries to a list that does not exist or is not complete. Any other mode is the id
# that the script gives to such a list, which is then complete. The script returns 0 and changes nothing if the key
# contains other data.
WRITE = f"""
local last = redis.call('ZRANGE', KEYS[1], -1, -1)[1] or ''
local list, number = string.match(last, '^([%w_-]+):(%d+):')
if not list and (ARGV[1] == '' or last ~= '' and not (#last == 43 and string.match(last, '^[%w_-]+$'))) then
  return 0
end
if not list and ARGV[1] ~= '+' then
  list, number = ARGV[1], 0
  redis.call('ZADD', KEYS[1], '{_FIRST_CHANGE}', list .. ':0:')
end
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', ARGV[i + 1], ARGV[i])
  if list then
    number = number + 1
    redis.call('ZADD', KEYS[1], string.format('%.0f', {_FIRST_CHANGE} + number),
               string.format('%s:%d:%s:%s', list, number, ARGV[i + 1], ARGV[i]))
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. redis.call('TIME')[1])
if list then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '{_FIRST_CHANGE}',
             string.format('(%.0f', {_FIRST_CHANGE} + number - {_MAX_CHANGES}))
end
return 1
"""

_CHANGE = re.compile(r"([A-Za-z0-9_-]{16,64}):([0-9]{1,12}):(?:([0-9]{1,12}):([A-Za-z0-9_-]+))?")


_CREATE_ADVICE = "call create() once, with all revocations that are still valid (docs/tokens.md)"
_KEY_ADVICE = "another program may write to the key: set key= to a name that nothing else uses"


class UnreadableList(ValueError):  # noqa: N818 (named like `Refused`)
    """Raised if the data is not a revocation list. The message tells the operator the reason and what to do."""


class ListNotCreated(UnreadableList):
    """Raised if there is no list, or if its creation was not completed. `create()` creates or completes the list."""


@dataclass(frozen=True, slots=True)
class _Change:
    member: str
    list: str
    number: int
    until: int = 0
    entry: bytes = b""


class RevocationListCopy:
    """The copy of the revocation list in one process.

    Arguments:
        newest: a sequence with the member that has the highest score, or an empty sequence if there is no list.

    Attributes:
        revoked: a mapping from each entry to the Unix time until which the entry is valid. It is empty at first.

    Raises `UnreadableList`.
    """

    def __init__(self, newest: Sequence[Any]) -> None:
        if not newest:
            raise ListNotCreated(f"there is no list; {_CREATE_ADVICE}")
        if sha256_digest(_string(newest[0])) is not None:
            raise ListNotCreated(f"its creation was not completed; {_CREATE_ADVICE}")
        self._last = _parse_change(newest[0])
        self.revoked: dict[bytes, float] = {}

    @property
    def position(self) -> int:
        """The score of the last change in this copy. The next request for changes starts at this score."""
        return _FIRST_CHANGE + self._last.number

    @property
    def changes(self) -> int:
        """The number of revocations written since the list was created."""
        return self._last.number

    def add_members(self, pairs: Iterable[Any]) -> None:
        """Add a page of the list: pairs of member and score. Raises `UnreadableList`."""
        for member, score in pairs:
            if score < _FIRST_CHANGE:
                self.revoked[_decode_entry(_string(member))] = score
            elif (change := _parse_change(member)).list != self._last.list or score != _FIRST_CHANGE + change.number:
                raise UnreadableList(f"a member has the wrong score, or belongs to another list; {_KEY_ADVICE}")

    def add_changes(self, members: Sequence[Any]) -> bool:
        """Add the changes since `position`. Returns `False` and adds nothing if a change is missing.

        Raises `UnreadableList`.
        """
        changes = [_parse_change(each) for each in members]
        last = self._last
        if not changes or changes[0] != last:
            return False
        if any(each.list != last.list or each.number != last.number + n for n, each in enumerate(changes)):
            return False
        for each in changes[1:]:
            self.revoked[each.entry] = max(each.until, self.revoked.get(each.entry, 0))
        self._last = changes[-1]
        return True

    def merge(self, previous: "RevocationListCopy") -> bool:
        """Add the entries of the previous copy, if both are copies of the same list.

        An entry is never withdrawn before it expires. So entries that Redis has lost, for example because an older
        state was restored, stay revoked here. Returns `False` if Redis has lost changes.
        """
        if previous._last.list != self._last.list:
            return True
        self.revoked = {**previous.revoked, **self.revoked}
        return previous._last.number <= self._last.number

    def drop_expired(self, now: float) -> None:
        """Drop the entries that are no longer valid at the Unix time `now`."""
        self.revoked = {entry: until for entry, until in self.revoked.items() if until >= now}


def _parse_change(member: object) -> _Change:
    parts = _CHANGE.fullmatch(text := _string(member))
    if parts is None or (parts[3] is None) != (int(parts[2]) == 0):
        raise UnreadableList(f"a member has an unknown format; {_KEY_ADVICE}")
    if parts[3] is None:
        return _Change(text, parts[1], 0)
    return _Change(text, parts[1], int(parts[2]), int(parts[3]), _decode_entry(parts[4]))


def _decode_entry(text: str) -> bytes:
    digest = sha256_digest(text)
    if digest is None:
        raise UnreadableList(f"a member has an unknown format; {_KEY_ADVICE}")
    return digest


def _string(member: object) -> str:
    if isinstance(member, bytes):
        return member.decode("ascii", "replace")
    if isinstance(member, str):  # a client with decode_responses=True
        return member
    raise UnreadableList(f"a member is not a string; {_KEY_ADVICE}")


def script_arguments(entries: Iterable[tuple[bytes, int]]) -> list[str | int]:
    """Return the arguments of the script `WRITE` for these entries, without the mode.

    `entries`: pairs of an entry and the Unix time until which the entry is valid.
    """
    return [
        each
        for octets, until in entries
        for each in (base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii"), until)
    ]
