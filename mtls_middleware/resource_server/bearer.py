"""The bearer token of a request: RFC 6750 section 2, `Authorization` header alone.

Must never know: what a token means. Form and query are not read, but a second token there is noticed.
"""

import re
import string
from collections.abc import Sequence

from mtls_middleware.errors import Refused

# RFC 6750 2.1: "Bearer" 1*SP b64token; the scheme's name has no case (RFC 9110 11.1).
_OF_TOKENS = (string.ascii_letters + string.digits + "-._~+/").encode("ascii")
_OTHERS_CHANGED = bytes(each if each in _OF_TOKENS else _OF_TOKENS[0] for each in range(256))
_SCHEME = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?: +\S.*)?")
# A WSGI server has joined two field lines by a comma: "Basic ..., Bearer ..." (RFC 9449 7.2).
_SECOND = re.compile(r",\s*(?:bearer|dpop|basic)\s", re.IGNORECASE)
# The parameter of that name in a query, each of its characters plain or percent-encoded. Matched as it stands: to split
# and decode 64 kB of "&" takes a tenth of a second, and anybody may send them.
_ACCESS_TOKEN = re.compile(
    r"(?:\A|[&;])" + "".join(f"(?:{each}|%(?i:{ord(each):x}))" for each in "access_token") + r"(?:[=&;]|\Z)"
)

# Far above real tokens (2 to 4 kB), far below what would cost something to look at.
MAX_TOKEN = 16_384


def bearer_token(authorization: Sequence[str], query: str) -> str:
    """The token's text. Raises `Refused`: `missing_token`, `invalid_request`, or `invalid_token` for one too long."""
    if not authorization:
        raise Refused("missing_token", "no Authorization header")
    if len(authorization) > 1:
        raise Refused("invalid_request", "more than one Authorization header")
    value = authorization[0]
    text = value[7:].lstrip(" ")
    if value[:7].lower() != "bearer " or not _is_b64token(text):
        scheme = _SCHEME.fullmatch(value) if value.isascii() and value.isprintable() else None
        if scheme is None or scheme[1].lower() == "bearer" or _SECOND.search(value):
            raise Refused("invalid_request", "malformed Authorization header")
        raise Refused("missing_token", "another Authorization scheme")
    if has_token(query):
        raise Refused("invalid_request", "a token in the header and one in the query")
    if len(text) > MAX_TOKEN:
        raise Refused("invalid_token", f"a token of more than {MAX_TOKEN} characters")
    return text


def has_token(query: str) -> bool:
    """Whether the query of a request has the parameter `access_token` (RFC 6750 section 2.3)."""
    return bool(query) and _ACCESS_TOKEN.search(query) is not None


def _is_b64token(text: str) -> bool:
    """By one look-up for each octet: a regular expression takes three times as long, on every request."""
    octets = text.rstrip("=").encode("ascii", "replace")
    return octets != b"" and octets == octets.translate(_OTHERS_CHANGED)
