"""Writes long lists into messages for the operator."""

from collections.abc import Sequence


def short_list(items: Sequence[str], most: int) -> str:
    """Return the first `most` items, separated by commas, and the number of the other items.

    Example: `short_list(["a", "b", "c"], 1)` is `"a, and 2 more"`.
    """
    more = len(items) - most
    return ", ".join(items[:most]) + (f", and {more} more" if more > 0 else "")
