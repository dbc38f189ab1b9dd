"""Reads JSON that others wrote, with the same limits on every Python version, in time linear in its length."""

import itertools
import json
import re
from typing import Any, NoReturn

# Arrays and objects within each other. Claims, key sets and metadata have fewer than ten. Python 3.11 reads several
# hundred, depending on the stack of its caller, and Python 3.13 reads thousands.
MOST_NESTED = 64
# Digits of an integer: an IEEE 754 double (RFC 8259 section 6) has at most 309. int() takes the square of the number
# of digits, and its own limit can be switched off.
_MOST_DIGITS = 1_000

# One string, closed or not, so that each character is read once.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(each for each in range(256) if each not in b"[]{}")
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def json_value(data: bytes | str) -> Any:
    """One JSON value in UTF-8 (RFC 8259) without two members of one name, which parsers read differently.

    Raises `ValueError`, also for more than 64 arrays and objects within each other.
    """
    octets = data.encode("utf-8") if isinstance(data, str) else data
    if _is_nested_too_deeply(octets):
        raise ValueError(f"JSON nested too deeply: expected at most {MOST_NESTED} arrays and objects within each other")
    try:
        return _DECODER.decode(octets.decode("utf-8"))
    except (ValueError, RecursionError):  # RecursionError: the caller's own stack is nearly full
        raise ValueError("not JSON in UTF-8, or a name twice in one object") from None


def json_document(data: bytes | str) -> Any:
    """`json_value` for a file or an HTTP body, which may begin with a byte order mark (RFC 8259 section 8.1)."""
    return json_value(data.removeprefix("\ufeff") if isinstance(data, str) else data.removeprefix(b"\xef\xbb\xbf"))


def json_object(data: bytes) -> dict[str, Any]:
    """`json_value` for an object. Raises `ValueError`."""
    value = json_value(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _is_nested_too_deeply(octets: bytes) -> bool:
    if octets.count(b"[") + octets.count(b"{") <= MOST_NESTED:
        return False
    brackets = _STRING.sub(b"", octets).translate(None, _NOT_BRACKETS)
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MOST_NESTED


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"an integer of more than {_MOST_DIGITS} digits")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer)
