"""Data in Redis is parsed strictly: any other data rejects the list."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware.revocation.format import (
    MAX_TIME,
    Head,
    ListNotCreated,
    UnreadableList,
    parse_head,
    parse_page,
    parse_units,
    units_of,
)

LIST, WRITE = b"0123456789abcdef01234567", b"fedcba9876543210fedcba98"
HEAD = b"revocations-2:1:%b:%b:1500:2001:2001:0:6:1795952040" % (LIST, WRITE)
UNIT = bytes(range(32)) + b"1795952040"
PAGE = b"page-2:000000001500:02:%b%b%b" % (LIST, WRITE, UNIT * 3)


def test_a_head_is_parsed() -> None:
    assert parse_head([HEAD]) == Head(LIST, WRITE, 1500, 2001, 2001, 1795952040)


def test_a_page_and_its_units_are_parsed() -> None:
    page = parse_page(PAGE)
    assert (page.position, page.ids, page.end) == (1500, [LIST, WRITE], 1503)
    assert list(parse_units(page.units)) == [(bytes(range(32)), 1795952040)] * 3


def test_a_missing_or_incomplete_list_is_not_a_list() -> None:
    with pytest.raises(ListNotCreated, match="the key does not exist"):
        parse_head([])
    with pytest.raises(ListNotCreated, match="not completed"):
        parse_head([HEAD.replace(b"-2:1:", b"-2:0:")])


FOREIGN: list[Any] = [
    *(b"", b"x", b"\xff\xfe", "text", HEAD.decode(), PAGE.decode("latin-1"), None, 7, [], b":::::::::", b"\0" * 43),
    *(b"A" * 43, LIST + b":7:1795952040:" + b"A" * 43),  # the format of an earlier release
]


@pytest.mark.parametrize("member", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_member_rejects_the_list(member: Any) -> None:
    for parse in (parse_head, parse_page):
        with pytest.raises(UnreadableList, match=r"earlier release.*set key= .*create\(\)"):
            parse([member] if parse is parse_head else member)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"\n", b" " + HEAD, HEAD + b":", HEAD + b"0", HEAD.upper(), HEAD[:-11], HEAD.replace(b"-2", b"-3"),
        HEAD.replace(b":1:0", b":2:0"), HEAD.replace(b"1500", b"-150"), HEAD.replace(b"1500", b"1.50"),
        HEAD.replace(b"1500", b"1_50"), HEAD.replace(b"1500", b"1" * 16), HEAD.replace(b"2001", b"9" * 5000),
        HEAD.replace(b"1500", "\u0661".encode()), HEAD.replace(LIST, LIST[1:]), HEAD.replace(WRITE, WRITE + b"0"),
        HEAD.replace(WRITE, b"g" * 24),
    ],
)  # fmt: skip
def test_a_malformed_head_rejects_the_list(head: bytes) -> None:
    with pytest.raises(UnreadableList, match="unknown format"):
        parse_head([head])


@pytest.mark.parametrize(
    "page",
    [
        PAGE + b"\n", PAGE[:-1], b" " + PAGE, PAGE.replace(b"page-2", b"page-3"), PAGE.replace(b":02:", b":00:"),
        PAGE.replace(b":02:", b":03:"), PAGE.replace(b":02:", b":99:"), PAGE.replace(b":02:", b":2:"),
        PAGE.replace(b"000000001500", b"1500"), PAGE.replace(b"000000001500", b"-00000001500"), PAGE[:30],
        PAGE + UNIT * 510,
    ],
)  # fmt: skip
def test_a_malformed_page_rejects_the_list(page: bytes) -> None:
    with pytest.raises(UnreadableList):
        parse_page(page)


@pytest.mark.parametrize(
    "time", [b" 795952040", b"+795952040", b"1_95952040", b"-000000001", b"1e00000000", b"179595204\n", b"\0" * 10]
)
def test_a_malformed_time_rejects_the_list(time: bytes) -> None:
    with pytest.raises(UnreadableList, match="time"):
        list(parse_units(UNIT + UNIT[:32] + time))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_rejected_as_none(octets: bytes) -> None:
    for prefix in (b"", b"page-2:000000000001:01:", HEAD[:16]):
        for parse in (lambda data: parse_head([data]), parse_page, lambda data: list(parse_units(data))):
            try:
                parse(prefix + octets)
            except UnreadableList:
                continue


def test_written_units_are_the_units_that_are_read() -> None:
    entries = [(bytes([n]) * 32, time) for n, time in enumerate((1795952040, 5, MAX_TIME, MAX_TIME + 1))]
    read = list(parse_units(units_of(entries)))
    assert read == [*entries[:3], (entries[3][0], MAX_TIME)]
