"""Reads the access token from the `Authorization` header (RFC 6750 section 2.1).

A token in the body is ignored. If the request has a token both in the header and in the query, it is rejected.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError, Refused

# The schemes that a layer can accept. `mtls_pop` is the scheme of Microsoft's libraries for certificate-bound tokens.
Scheme = Literal["Bearer", "mtls_pop"]
SCHEMES: tuple[Scheme, ...] = ("Bearer", "mtls_pop")

# The grammar of RFC 6750 2.1 is "Bearer" 1*SP b64token. The scheme's name is case-insensitive (RFC 9110 11.1).
_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]++=*+")
_SCHEME = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?: +\S.*)?")
# Matches a second scheme in one value, as in "Basic ..., Bearer ...". Some servers join two field lines with a comma.
_SECOND_SCHEME = re.compile(r",\s*(?:bearer|dpop|basic|mtls_pop)\s", re.IGNORECASE)
# Matches the parameter access_token in an undecoded query, in which each character may be percent-encoded. The query is
# not split and decoded, because this takes 0.1 s for a query of 64 kB that consists of "&".
_ACCESS_TOKEN = re.compile(
    r"(?:\A|[&;])" + "".join(f"(?:{each}|%(?i:{ord(each):x}))" for each in "access_token") + r"(?:[=&;]|\Z)"
)

# Maximum number of characters in a token. Real tokens have 2,000 to 4,000 characters.
MAX_TOKEN = 16_384


class PresentedToken(NamedTuple):
    """The access token of a request as a string, and the scheme with which the client sent it."""

    scheme: Scheme
    text: str


def presented_token(
    authorization: Sequence[str], query: str, schemes: Sequence[Scheme] = ("Bearer",)
) -> PresentedToken:
    """Return the access token of a request.

    `authorization`: the values of all `Authorization` fields. `query`: the undecoded query string. `schemes`: the
    accepted schemes.

    Raises `Refused("missing_token")` without a token with one of these schemes, `Refused("invalid_request")` if the
    field is malformed or the request has a second token, and `Refused("invalid_token")` if the token is too long.
    """
    if not authorization:
        raise Refused("missing_token", "the request has no Authorization header")
    if len(authorization) > 1:
        raise Refused("invalid_request", "the request has more than one Authorization header")
    value = authorization[0]
    name, blank, text = value.partition(" ")
    text = text.lstrip(" ")
    scheme = None
    for each in schemes:
        if each.lower() == name.lower():
            scheme = each
    if scheme is None or not blank or _B64TOKEN.fullmatch(text) is None:
        other = _SCHEME.fullmatch(value) if value.isascii() and value.isprintable() else None
        if other is None or scheme is not None or _SECOND_SCHEME.search(value):
            raise Refused(
                "invalid_request", f"malformed Authorization header; expected {' or '.join(schemes)} and one token"
            )
        raise Refused("missing_token", f"the Authorization scheme is not {' or '.join(schemes)}")
    if has_token(query):
        raise Refused(
            "invalid_request", "the request has a token in the Authorization header and another token in the query"
        )
    if len(text) > MAX_TOKEN:
        raise Refused("invalid_token", f"the token has {len(text)} characters; expected at most {MAX_TOKEN}")
    return PresentedToken(scheme, text)


def has_token(query: str) -> bool:
    """Return whether the query of a request has the parameter `access_token` (RFC 6750 section 2.3)."""
    return bool(query) and _ACCESS_TOKEN.search(query) is not None


def checked_schemes(schemes: Sequence[Scheme]) -> tuple[Scheme, ...]:
    """Return the argument `schemes` of a layer without its order. Raises `ConfigurationError` for any other value."""
    found = tuple(options.string_list("schemes", schemes, '"Bearer"'))
    if not found or len(set(found)) != len(found) or not set(found) <= set(SCHEMES):
        raise ConfigurationError(f"schemes={schemes!r}: expected 'Bearer', 'mtls_pop' or both")
    return tuple(each for each in SCHEMES if each in found)
