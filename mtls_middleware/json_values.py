"""Parses untrusted JSON in linear time, with the same limits on every Python version."""

import itertools
import json
import re
from typing import Any, NoReturn

# Maximum number of levels of nested arrays and objects. Claims, key sets and metadata have fewer than ten levels.
# Without this limit, the maximum depends on the Python version: Python 3.11 reads several hundred levels, and Python
# 3.13 reads thousands.
MAX_NESTING = 64
# Maximum number of digits in an integer. An IEEE 754 double (RFC 8259 section 6) has at most 309 digits before the
# decimal point. `int` takes quadratic time, and an application can disable Python's own limit.
_MAX_DIGITS = 1_000
# Maximum number of characters of a value in a message.
_MAX_SHOWN = 80
_SCALARS = (bool, int, float, type(None))

# Matches a JSON string, even if the closing quote is missing, so that the search reads each character only once.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(each for each in range(256) if each not in b"[]{}")
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def memory_of(data: bytes) -> int:
    """Return an upper limit for the bytes of memory that this JSON needs as Python objects.

    The objects need up to forty times the length of the JSON. Example: `memory_of(b'[1, 2]')`
    """
    return len(data) + 240 * (data.count(b"{") + data.count(b"[")) + 110 * (data.count(b",") + data.count(b":"))


def json_value(data: bytes | str) -> Any:
    """Parse one JSON value in UTF-8 (RFC 8259).

    Raises `ValueError` for invalid JSON, for more than 64 levels of nesting, and for duplicate member names, because
    parsers read duplicate names differently.
    """
    octets = data.encode("utf-8") if isinstance(data, str) else data
    if _is_nested_too_deeply(octets):
        raise ValueError(f"JSON nested too deeply: expected at most {MAX_NESTING} levels of arrays and objects")
    try:
        return _DECODER.decode(octets.decode("utf-8"))
    except (ValueError, RecursionError):  # RecursionError is raised if the stack of the caller is nearly full
        raise ValueError("not JSON in UTF-8, or a duplicate member name") from None


def json_document(data: bytes | str) -> Any:
    """Parse the JSON in a file or an HTTP body. Like `json_value`, but ignores a byte order mark (RFC 8259 8.1)."""
    return json_value(data.removeprefix("\ufeff") if isinstance(data, str) else data.removeprefix(b"\xef\xbb\xbf"))


def json_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object in UTF-8. Like `json_value`, but raises `ValueError` if the value is not an object."""
    value = json_value(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def shown(value: object) -> str:
    """Return a value from untrusted JSON for a message: in ASCII, and at most 80 characters of a string or a number.

    For an array or an object, the message contains only its type. Example: `shown("a")` is `"'a'"`, and `shown([1])` is
    `"of type list"`
    """
    if isinstance(value, str):
        return ascii(value[:_MAX_SHOWN])
    return ascii(value)[:_MAX_SHOWN] if isinstance(value, _SCALARS) else f"of type {type(value).__name__}"


def _is_nested_too_deeply(octets: bytes) -> bool:
    if octets.count(b"[") + octets.count(b"{") <= MAX_NESTING:
        return False
    brackets = _STRING.sub(b"", octets).translate(None, _NOT_BRACKETS)
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_NESTING


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a duplicate member name")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer of more than {_MAX_DIGITS} digits")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer)
