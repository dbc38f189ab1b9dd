"""Characters that a log or a terminal does not show, or that change the text around them."""

import re
import unicodedata

# Characters that `str.isprintable` admits although they have no glyph: Default_Ignorable_Code_Point of Unicode
# (fillers, variation selectors), and the blank U+2800. They can hide text inside of a name.
_NO_GLYPH = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def is_invisible(char: str) -> bool:
    """Whether the character is not shown, or changes how others are shown. Blanks (category Zs) are visible."""
    if (
        not char.isprintable()
    ):  # controls, directions of writing, separators of lines, tags, private and unassigned ones
        return unicodedata.category(char) != "Zs"
    return _NO_GLYPH.match(char) is not None


def escaped(text: str) -> str:
    r"""The text with invisible characters as Python escapes, for a line on a terminal.

    Example: `escaped("a\u202eb")` is `"a\\u202eb"`
    """
    return "".join(each.encode("unicode_escape").decode() if is_invisible(each) else each for each in text)
