"""Prepares directory strings for comparison (RFC 4518 section 2), as RFC 5280 7.1 requires.

It uses the tables of Unicode 3.2, which RFC 4518 requires through RFC 3454. All work is linear in the length of the
string.
"""

import re
import stringprep
from encodings import idna
from unicodedata import ucd_3_2_0 as unicode

# RFC 4518 2.2 maps soft hyphens, joiners, variation selectors, controls and the zero width space to nothing. It maps
# every separator, and the controls that stand for white space, to a space.
_NOTHING = re.compile(
    "[\u00ad\u1806\u034f\u180b-\u180d\ufe00-\ufe0f\ufffc\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f\u06dd\u070f"
    "\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2063\u206a-\u206f\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f]"
)
_SPACE = re.compile("[\u0009-\u000d\u0085\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_SPACES = re.compile(" +")
# NUL stands for a space before a combining mark. A NUL in the string itself has already been mapped to nothing.
_LETTER_SPACE = "\0"
# A DNS label has at most 63 octets (RFC 1035 2.3.4). After "xn--", Punycode has at least one octet for each character,
# so a longer string has no A-label. Encoding takes time proportional to the square of the length, so longer strings are
# not encoded. The limit before IDNA's mapping is higher, because IDNA maps some characters to nothing.
_LONGEST_LABEL, _LONGEST_UNMAPPED = 59, 255
# The maximum number of combining marks (non-starters) in a row. Normalization sorts them, in time proportional to the
# square of their number. Real text has far fewer (UAX #15 section 13, Stream-Safe Text Format).
_MOST_MARKS = 30


def prepare(text: str, *, domain: bool = False) -> str | None:
    """Return a string in a form in which matching directory strings are equal; `None` if it matches no string.

    A string matches no string if it has a character that RFC 4518 prohibits, or more than 30 combining marks in a row.

    `domain`: whether the string is a domainComponent. A U-label then matches its A-label (RFC 5280 7.3).
    """
    if not text.isascii():
        # Check this before any mapping: `map_table_b2` maps newer letters by Python's own version of Unicode.
        if any(map(stringprep.in_table_a1, set(text))):
            return None
        if domain:
            return _a_label(text)
    if text.isascii() and text.isprintable():  # most names take this fast path, which has the same result
        return _SPACES.sub(" ", text.lower()).strip(" ")
    kept = _SPACE.sub(" ", _NOTHING.sub("", text))
    folded = {char: _folded(char) for char in set(kept)}
    mapped = "".join([folded[char] for char in kept])
    if _has_too_many_marks(mapped):
        return None
    normal = unicode.normalize("NFKC", mapped)
    if any(map(_prohibited, set(normal))):
        return None
    return _SPACES.sub(_one_space, normal).strip(" ")


def _folded(char: str) -> str:
    """Return the character after the case folding of RFC 3454 table B.2, which is that of Unicode 3.2.

    `stringprep` takes some small letters from Python's own version of Unicode. If Unicode 3.2 does not assign the
    small letter, its table has no entry: for example, Cherokee and Georgian had no case then.
    """
    folded = stringprep.map_table_b2(char)
    return char if any(map(stringprep.in_table_a1, folded)) else folded


def _a_label(text: str) -> str | None:
    """Return the lower-case A-label of a U-label; `None` if the U-label has no A-label."""
    try:
        if len(text) > _LONGEST_UNMAPPED or len(idna.nameprep(text)) > _LONGEST_LABEL:
            return None
        return prepare(idna.ToASCII(text).decode("ascii"))
    except UnicodeError:
        return None


def _has_too_many_marks(text: str) -> bool:
    # Decompose each character first: U+0F73 is a starter, but it decomposes to two non-starters.
    shapes = {
        char: "".join("m" if unicode.combining(each) else "s" for each in unicode.normalize("NFKD", char))
        for char in set(text)
    }
    return "m" * (_MOST_MARKS + 1) in "".join([shapes[char] for char in text])


def _prohibited(char: str) -> bool:
    """Return whether RFC 4518 2.4 prohibits the character.

    RFC 4518 prohibits unassigned and private code points, noncharacters, surrogates, characters that change the
    display, and U+FFFD.
    """
    return (
        stringprep.in_table_a1(char)  # check unassigned code points again, because a mapping can produce one
        or stringprep.in_table_c3(char)
        or stringprep.in_table_c4(char)
        or stringprep.in_table_c5(char)
        or stringprep.in_table_c8(char)
        or char == "\ufffd"
    )


def _one_space(run: re.Match[str]) -> str:
    """Return the replacement for a run of spaces. A space before a combining mark does not count (RFC 4518 2.6.1)."""
    if unicode.combining(run.string[run.end() : run.end() + 1] or " "):
        return (" " if len(run[0]) > 1 else "") + _LETTER_SPACE
    return " "
