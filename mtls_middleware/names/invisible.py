"""Lists the characters that a log or a terminal does not show, or that change how other text is shown.

The table lists code points, so that the result does not depend on the Unicode version of Python.
"""

import re

# The general categories Cc, Cf, Zl and Zp of Unicode 15.1.
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
# The other code points of Default_Ignorable_Code_Point of Unicode 15.1: fillers, variation selectors, tags, and those
# that are reserved for more such characters. U+2800 (BRAILLE PATTERN BLANK) is added because it has no visible glyph
# either.
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
# Private use (Co) and noncharacters. How they look depends on the terminal.
_UNDEFINED = (
    (0xE000, 0xF8FF),
    (0xF0000, 0x10FFFF),
    (0xFDD0, 0xFDEF),
    *((plane << 16 | 0xFFFE, plane << 16 | 0xFFFF) for plane in range(15)),
)

INVISIBLE = re.compile(
    "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in (*_RANGES, *_WITHOUT_GLYPH, *_UNDEFINED)) + "]"
)


def escape_invisible(text: str) -> str:
    r"""Replace invisible characters by Python escapes, so that the string is safe to show on a terminal.

    Example: `escape_invisible("a\u202eb")` is `"a\\u202eb"`
    """
    return INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
