"""String preparation for comparing directory strings: RFC 4518 section 2, as RFC 5280 7.1 asks for.

The tables are those of Unicode 3.2, which RFC 3454 and so RFC 4518 fix. All work is linear in the length of the string.
"""

import re
import stringprep
from encodings import idna
from unicodedata import ucd_3_2_0 as unicode

# RFC 4518 2.2. To nothing: soft hyphens, joiners, variation selectors, controls, zero width space; to a space: every
# separator and the controls that are blank.
_NOTHING = re.compile(
    "[\u00ad\u1806\u034f\u180b-\u180d\ufe00-\ufe0f\ufffc\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f\u06dd\u070f"
    "\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2063\u206a-\u206f\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f]"
)
_SPACE = re.compile("[\u0009-\u000d\u0085\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_SPACES = re.compile(" +")
_LETTER_SPACE = "\0"  # stands for a space that carries a mark; NUL itself is mapped to nothing before
# A DNS label has 63 octets (RFC 1035 2.3.4), and Punycode takes at least one for each character after "xn--". Encoding
# takes the square of the length, so longer strings are never encoded. IDNA may map some characters to nothing.
_LONGEST_LABEL, _LONGEST_UNMAPPED = 59, 255
# Non-starters in a row. Normalising sorts them in the square of their number. Text in use has far fewer (UAX #15
# section 13, Stream-Safe Text Format).
_MOST_MARKS = 30


def prepared(text: str, *, domain: bool = False) -> str | None:
    """The form in which matching directory strings are equal, `None` for a string that matches none.

    RFC 4518 prohibits some characters. A string with more than 30 combining marks in a row matches none, either.

    `domain`: a domainComponent, whose U-label equals its A-label (RFC 5280 7.3).
    """
    if not text.isascii():
        # Before anything is mapped: `map_table_b2` maps newer letters by the Unicode version of Python.
        if any(map(stringprep.in_table_a1, set(text))):
            return None
        if domain:
            return _a_label(text)
    if text.isascii() and text.isprintable():  # the same result for nearly every name there is, sooner
        return _SPACES.sub(" ", text.lower()).strip(" ")
    kept = _SPACE.sub(" ", _NOTHING.sub("", text))
    folded = {char: stringprep.map_table_b2(char) for char in set(kept)}
    mapped = "".join([folded[char] for char in kept])
    if _has_too_many_marks(mapped):
        return None
    normal = unicode.normalize("NFKC", mapped)
    if any(map(_prohibited, set(normal))):
        return None
    return _SPACES.sub(_one_space, normal).strip(" ")


def _a_label(text: str) -> str | None:
    """A U-label as A-label, in lower case; `None` if it has none."""
    try:
        if len(text) > _LONGEST_UNMAPPED or len(idna.nameprep(text)) > _LONGEST_LABEL:
            return None
        return prepared(idna.ToASCII(text).decode("ascii"))
    except UnicodeError:
        return None


def _has_too_many_marks(text: str) -> bool:
    # Decomposed one by one: U+0F73 is a starter, and two non-starters once it is decomposed.
    shapes = {
        char: "".join("m" if unicode.combining(each) else "s" for each in unicode.normalize("NFKD", char))
        for char in set(text)
    }
    return "m" * (_MOST_MARKS + 1) in "".join([shapes[char] for char in text])


def _prohibited(char: str) -> bool:
    """RFC 4518 2.4: unassigned, private, non-characters, surrogates, changing display, U+FFFD."""
    return (
        stringprep.in_table_a1(char)  # a mapping can lead to one, too
        or stringprep.in_table_c3(char)
        or stringprep.in_table_c4(char)
        or stringprep.in_table_c5(char)
        or stringprep.in_table_c8(char)
        or char == "\ufffd"
    )


def _one_space(run: re.Match[str]) -> str:
    """RFC 4518 2.6.1: a space that a combining mark follows is a letter, not a space."""
    if unicode.combining(run.string[run.end() : run.end() + 1] or " "):
        return (" " if len(run[0]) > 1 else "") + _LETTER_SPACE
    return " "
