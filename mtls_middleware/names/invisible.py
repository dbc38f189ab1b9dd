"""Characters that a log or a terminal does not show, or that change the text around them.

A table of code points, so that the result is the same with every version of Python, and so of Unicode.
"""

import re

# General categories Cc, Cf, Zl and Zp of Unicode 15.1.
_RANGES = (
    (0x0000, 0x001F),
    (0x007F, 0x009F),
    (0x00AD, 0x00AD),
    (0x0600, 0x0605),
    (0x061C, 0x061C),
    (0x06DD, 0x06DD),
    (0x070F, 0x070F),
    (0x0890, 0x0891),
    (0x08E2, 0x08E2),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x2064),
    (0x2066, 0x206F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
)
# Default_Ignorable_Code_Point of Unicode 15.1, as far as it is not above: fillers, variation selectors, tags, and code
# points that are reserved for more of them. The blank U+2800 is here because it has no glyph, either.
_WITHOUT_GLYPH = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2065, 0x2065),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0xE0000, 0xE0FFF),
)
# Private use (Co) and noncharacters: what they look like depends on the terminal.
_UNDEFINED = (
    (0xE000, 0xF8FF),
    (0xF0000, 0x10FFFF),
    (0xFDD0, 0xFDEF),
    *((plane << 16 | 0xFFFE, plane << 16 | 0xFFFF) for plane in range(15)),
)

INVISIBLE = re.compile(
    "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in (*_RANGES, *_WITHOUT_GLYPH, *_UNDEFINED)) + "]"
)


def escaped(text: str) -> str:
    r"""The text with invisible characters as Python escapes, for a line on a terminal.

    Example: `escaped("a\u202eb")` is `"a\\u202eb"`
    """
    return INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
