"""The form in which names are compared, and written, does not depend on the Unicode version of Python."""

import ast
import stringprep
import sys
import unicodedata
from pathlib import Path

import pytest

import mtls_middleware
from mtls_middleware.names.invisible import INVISIBLE
from mtls_middleware.names.preparation import prepare

# Capital letters of Unicode 5 to 16 whose small letters are in Unicode 3.2. U+A7CB: Python 3.14 knows it.
NEWER = ["\u1e9e", "\u2c62", "\ua78d", "\ua7cb", "\ua7dc"]


@pytest.mark.parametrize("domain", [False, True])
@pytest.mark.parametrize("letter", NEWER)
def test_a_letter_newer_than_unicode_3_2_matches_nothing(letter: str, domain: bool) -> None:
    for text in (letter, f"a{letter}", f"{letter}\u0301"):
        assert prepare(text, domain=domain) is None


def test_a_letter_that_unicode_3_2_does_not_assign_never_matches() -> None:
    changed = [chr(each) for each in range(sys.maxunicode + 1) if chr(each).lower() != chr(each)]
    newer = [char for char in changed if stringprep.in_table_a1(char)]
    assert len(newer) > 500
    assert {prepare(char, domain=domain) for char in newer for domain in (False, True)} == {None}


# Letters of Unicode 3.2 whose small letters are newer: Cyrillic palochka, Georgian, Cherokee, turned F, Roman numeral.
CASE_IS_NEWER = ["\u04c0", "\u10a0", "\u10c5", "\u13a0", "\u13f4", "\u2132", "\u2183"]


@pytest.mark.parametrize("letter", CASE_IS_NEWER, ids=ascii)
def test_a_letter_without_a_small_letter_in_unicode_3_2_matches_itself(letter: str) -> None:
    assert prepare(letter) == letter
    assert prepare(letter.lower()) is None or letter.lower() == letter


def test_every_permitted_character_matches_itself() -> None:
    for position in range(sys.maxunicode + 1):
        char = chr(position)
        tables = stringprep.in_table_a1, stringprep.in_table_c3, stringprep.in_table_c4
        tables += stringprep.in_table_c5, stringprep.in_table_c8
        is_prohibited = char == "\ufffd" or any(table(char) for table in tables)
        if not is_prohibited:
            assert prepare(char) is not None, ascii(char)
            assert prepare(f"a{char}b") is not None, ascii(char)


def test_invisible_characters_are_those_of_unicode() -> None:
    listed = {chr(each) for each in range(sys.maxunicode + 1) if INVISIBLE.fullmatch(chr(each))}
    ours = {chr(each) for each in range(sys.maxunicode + 1) if unicodedata.category(chr(each)) in _KINDS}
    # Unassigned ones, and some fillers, marks and symbols, are ignored by default or have no glyph.
    assert {unicodedata.category(char) for char in listed} <= {*_KINDS, "Cn", "Lo", "Mn", "So"}
    if tuple(map(int, unicodedata.unidata_version.split("."))) <= (15, 1, 0):
        assert ours <= listed


_KINDS = {"Cc", "Cf", "Co", "Zl", "Zp"}


def test_the_unicode_tables_of_python_are_read_nowhere() -> None:
    """`ucd_3_2_0` and `stringprep` are the tables of Unicode 3.2."""
    root = Path(mtls_middleware.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import) and any(each.name == "unicodedata" for each in node.names):
                found.add(path.relative_to(root).as_posix())
            if isinstance(node, ast.ImportFrom) and node.module == "unicodedata":
                assert [each.name for each in node.names] == ["ucd_3_2_0"]
    assert found == set()
