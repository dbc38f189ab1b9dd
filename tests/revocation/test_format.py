"""What lies in Redis is read strictly: what is no list of ours, whoever wrote it, is none, and nothing is half read."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware.revocation.format import RevocationListCopy, UnreadableList, script_arguments

LIST = "AAAAAAAAAAAAAAAAAAAAAA"
NEWS = 10**12
ENTRIES = [bytes([n]) * 32 for n in range(5)]


def text(entry: bytes) -> str:
    return base64.urlsafe_b64encode(entry).rstrip(b"=").decode()


def news(number: int, until: int = 2_000_000_000, name: str = LIST) -> bytes:
    """The `number`th revocation on a list."""
    rest = f"{until}:{text(ENTRIES[number % 5])}" if number else ""
    return f"{name}:{number}:{rest}".encode()


def known(number: int = 1) -> RevocationListCopy:
    return RevocationListCopy([news(number)])


def test_changes_are_added_in_order() -> None:
    reader = known(1)
    assert reader.position == NEWS + 1
    assert reader.add_changes([news(1), news(2), news(3, 7)])
    assert reader.revoked == {ENTRIES[2]: 2_000_000_000, ENTRIES[3]: 7}
    assert reader.position == NEWS + 3
    assert reader.add_changes([news(3, 7)])
    assert reader.position == NEWS + 3


@pytest.mark.parametrize(
    "members",
    [
        [],
        [news(2)],
        [news(2), news(3)],
        [news(1), news(3)],
        [news(1), news(2), news(4)],
        [news(1), news(2), news(2)],
        [news(1), news(2, name="B" * 22)],
        [news(1, name="B" * 22)],
        [news(1, until=5), news(2)],
        [news(0), news(1)],
    ],
)
def test_a_gap_in_the_changes_adds_nothing(members: list[bytes]) -> None:
    reader = known(1)
    assert not reader.add_changes(members)
    assert (reader.revoked, reader.position) == ({}, NEWS + 1)


def test_a_second_revocation_never_shortens_the_first() -> None:
    reader = known(0)
    assert reader.add_changes([news(0), news(1, 900), f"{LIST}:2:800:{text(ENTRIES[1])}"])
    assert reader.revoked == {ENTRIES[1]: 900}


HOSTILE: list[Any] = [
    *(b"", b"x", b"\xff\xfe", "\ud800", "text", b":::", None, 7, [], b"\x00" * 43, text(ENTRIES[0]).encode() + b"\n"),
    *(news(2) + b"\n", news(2).replace(b":2:", b":-2:"), news(2).replace(b":2:", b":2.0:"), news(2) + b"A"),
    *(news(2).replace(b":2:", b":1e3:"), news(2).replace(b":2:", ":\u0662:".encode()), news(2)[:-1], b" " + news(2)),
    *(f"{LIST}:0:5:{text(ENTRIES[0])}", f"{LIST}:2:", f"{LIST}:2:{'9' * 30}:{text(ENTRIES[0])}", "A:2:5:B", LIST),
    f"{LIST}:{'9' * 5000}:",
]


@pytest.mark.parametrize("member", HOSTILE, ids=range(len(HOSTILE)))
def test_a_foreign_member_makes_the_list_unreadable(member: Any) -> None:
    with pytest.raises(UnreadableList):
        known(1).add_changes([news(1), member])
    with pytest.raises(UnreadableList):
        RevocationListCopy([member])
    for score in (5.0, NEWS + 2.0):
        with pytest.raises(UnreadableList):
            known(1).add_members([(member, score)])


@pytest.mark.parametrize(
    "pair",
    [
        (news(2), 5.0),
        (news(2), NEWS + 3.0),
        (news(2), float("inf")),
        (news(2, name="B" * 22), NEWS + 2.0),
        (text(ENTRIES[0]).encode(), NEWS + 1.0),
        (text(ENTRIES[0]).encode(), float("inf")),
    ],
)
def test_a_member_out_of_its_place_makes_it_no_list(pair: tuple[bytes, float]) -> None:
    with pytest.raises(UnreadableList):
        known(1).add_members([pair])


def test_an_empty_set_and_entries_without_a_header_are_not_a_list() -> None:
    with pytest.raises(UnreadableList, match="there is no list"):
        RevocationListCopy([])
    with pytest.raises(UnreadableList, match="not completed"):
        RevocationListCopy([text(ENTRIES[0]).encode()])


@pytest.mark.parametrize(("newest", "whole"), [(3, True), (2, True), (1, False)])
def test_what_was_known_of_a_list_stays_where_redis_lost_it(newest: int, whole: bool) -> None:
    former, later = known(1), known(newest)
    former.add_changes([news(1), news(2)])
    later.add_members([(text(ENTRIES[4]).encode(), 9.0)])
    assert later.merge(former) is whole
    assert later.revoked == {ENTRIES[2]: 2_000_000_000, ENTRIES[4]: 9.0}


def test_a_list_made_in_the_place_of_another_stands_alone() -> None:
    former, later = known(1), RevocationListCopy([news(0, name="B" * 22)])
    former.add_changes([news(1), news(2)])
    assert later.merge(former)
    assert later.revoked == {}


def test_what_counts_no_longer_is_forgotten_and_not_a_second_before() -> None:
    reader = known(0)
    reader.add_changes([news(0), news(1, 100), news(2, 101)])
    reader.drop_expired(100.0)
    assert reader.revoked.keys() == {ENTRIES[1], ENTRIES[2]}
    reader.drop_expired(100.5)
    assert reader.revoked.keys() == {ENTRIES[2]}


def test_spare_bits_of_an_entry_make_no_second_one() -> None:
    canonical = text(ENTRIES[1])
    other = canonical[:-1] + chr(ord(canonical[-1]) + 1)
    reader = known(0)
    reader.add_members([(canonical.encode(), 5.0), (other, 5.0)])
    assert reader.revoked.keys() == {ENTRIES[1]}


@given(st.lists(st.one_of(st.binary(max_size=80), st.text(max_size=80)), max_size=4))
def test_whatever_bytes_come_nothing_but_no_list_is_raised(members: list[Any]) -> None:
    for read in (
        RevocationListCopy,
        known().add_changes,
        lambda them: known().add_members((each, 5.0) for each in them),
    ):
        try:
            read(members)
        except UnreadableList:
            continue


def test_what_is_written_is_what_is_read() -> None:
    arguments = script_arguments([(ENTRIES[1], 5), (ENTRIES[2], 6)])
    reader = known(0)
    reader.add_members(zip(arguments[::2], arguments[1::2], strict=True))
    assert reader.revoked == {ENTRIES[1]: 5, ENTRIES[2]: 6}
