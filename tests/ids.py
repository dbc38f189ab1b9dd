"""Ids of parametrised tests that are the same in each process, so that runs in parallel agree on them."""

import re


def shown(value: object) -> str:
    """`repr`, without addresses in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
