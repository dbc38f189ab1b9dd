"""Which characters are written as escapes on a terminal."""

import unicodedata

import pytest

from mtls_middleware.names.invisible import INVISIBLE, escape_invisible

SHOWN = "aZ09 .,=\u00e9\u0301\u3000\u00a0\u5c71\u05d0\u0627\u20ac\U0001f680"


def test_text_that_is_shown_stays_as_it_is():
    assert escape_invisible(SHOWN) == SHOWN


@pytest.mark.parametrize("char", "\x1b\x9b\r\n\u202e\u2028\u200b\u2060\ufeff\U000e0041\u3164\ufe0f", ids=ascii)
def test_what_is_not_shown_is_escaped(char):
    assert escape_invisible(f"a{char}b") == ascii(f"a{char}b").strip("'")


def test_no_control_or_format_character_of_unicode_is_shown():
    every = map(chr, range(0x110000))
    assert all(map(INVISIBLE.match, (each for each in every if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp"))))
