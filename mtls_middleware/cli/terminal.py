"""Writes what a command prints: JSON, or text whose colours appear only on a terminal."""

import json
import os
import sys
from typing import Any, Literal

Colour = Literal["red", "yellow", "green"]

# The parameters of SGR (ECMA-48 8.3.117).
_PARAMETERS: dict[Colour, str] = {"red": "31", "yellow": "33", "green": "32"}


def coloured(text: str, colour: Colour) -> str:
    """Return `text` in this colour if standard output is a terminal. Otherwise, return `text` unchanged.

    The environment variable `NO_COLOR` turns colours off. Example: `coloured("error", "red")`
    """
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if is_plain else f"\x1b[{_PARAMETERS[colour]}m{text}\x1b[0m"


def write_json(value: Any) -> None:
    """Print `value` as JSON in ASCII on one line."""
    sys.stdout.write(json.dumps(value) + "\n")
