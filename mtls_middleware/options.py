"""Checks the arguments of constructors. Each check returns the argument, or raises `ConfigurationError`.

A message contains the argument that was given, what is expected, and an example.
"""

import re
from collections.abc import Collection
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mtls_middleware.errors import ConfigurationError

T = TypeVar("T")

# The URL of a proxy: a host name or an IP address, an optional port, and an optional user and password before them.
_PROXY = re.compile(r"https?://(?:[^\s/?#@\\]+@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?/?")


# Matches one scope (`scope-token` of RFC 6749 3.3).
_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


def is_scope(given: Any) -> bool:
    """Return whether `given` is one scope (RFC 6749 3.3). Example: `is_scope("invoices:read")`"""
    return isinstance(given, str) and bool(_SCOPE.fullmatch(given))


def string(name: str, given: Any, example: str) -> str:
    """Check that `given` is a non-empty string. Example: `string("issuer", issuer, "https://as.example")`"""
    if not isinstance(given, str) or not given:
        raise ConfigurationError(f"{name}={given!r}: expected a string, for example {example!r}")
    return given


def strings(name: str, given: Any, example: str) -> frozenset[str]:
    """Check that `given` is a collection of strings, and return its strings as a set.

    Rejects a single string, because it would be a collection of characters. Rejects an iterator, because an iterator
    can be read only once. Example: `strings("scopes", scopes, '"invoices:read"')`
    """
    wrong_kind = isinstance(given, (str, bytes)) or not isinstance(given, Collection)
    if wrong_kind or not all(isinstance(each, str) for each in given):
        raise ConfigurationError(f"{name}={given!r}: expected a list of strings, for example [{example}]")
    return frozenset(given)


def string_list(name: str, given: Any, example: str) -> list[str]:
    """Check that `given` is a collection of strings, and return its strings as a list, in the same order.

    Example: `string_list("scopes_supported", scopes, '"invoices:read"')`
    """
    strings(name, given, example)
    return list(given)


def boolean(name: str, given: Any) -> bool:
    """Check that `given` is `True` or `False`: for example, the string `"false"` would count as true.

    Example: `boolean("allow_http", allow_http)`
    """
    if not isinstance(given, bool):
        raise ConfigurationError(f"{name}={given!r}: expected True or False")
    return given


def seconds(name: str, given: Any, least: float, most: float, example: float) -> float:
    """Check that `given` is a number of seconds from `least` to `most`, and return it as a float.

    Example: `seconds("timeout", timeout, 0.05, 60, 5)`
    """
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not least <= given <= most:
        raise ConfigurationError(
            f"{name}={given!r}: expected seconds from {least:g} to {most:g}, for example {example:g}"
        )
    return float(given)


def integer(name: str, given: Any, least: int, most: int, example: int) -> int:
    """Check that `given` is an integer from `least` to `most`. Example: `integer("max_depth", max_depth, 0, 16, 5)`"""
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise ConfigurationError(f"{name}={given!r}: expected an integer from {least} to {most}, for example {example}")
    return given


def one_of(name: str, given: T, choices: tuple[T, ...]) -> T:
    """Check that `given` is one of `choices`. Example: `one_of("binding", binding, ("required", "when_present"))`"""
    if not isinstance(given, (str, type(None))) or given not in choices:
        *others, last = map(repr, choices)
        expected = f"{', '.join(others)} or {last}" if others else last
        raise ConfigurationError(f"{name}={given!r}: expected {expected}")
    return given


def object_with_method(name: str, given: T, method: str, example: str) -> T:
    """Check that `given` is an object that has the method `method`. Rejects a class: an instance is expected.

    Example: `object_with_method("tokens", tokens, "validate", "JWTAccessTokens(issuer=..., audience=..., jwks=...)")`
    """
    if not callable(getattr(given, method, None)) or isinstance(given, type):
        raise ConfigurationError(
            f"{name}={given!r}: expected an object with the method {method}, for example {example}"
        )
    return given


def proxy_url(name: str, given: Any) -> str | None:
    """Check that `given` is the URL of an HTTP proxy, or `None`, and return it.

    The message of the exception does not contain the URL, which may have a password.

    Example: `proxy_url("proxy", "http://egress.internal:3128")`
    """
    if given is None:
        return None
    try:
        parts = urlsplit(given) if isinstance(given, str) and given.isascii() and given.isprintable() else None
        is_proxy = parts is not None and parts.port != 0 and bool(_PROXY.fullmatch(str(given)))
    except ValueError:
        is_proxy = False
    if not is_proxy:
        raise ConfigurationError(
            f"{name}: expected the URL of an HTTP proxy, for example 'http://egress.internal:3128'"
        )
    return str(given)


def https_url(name: str, given: Any, example: str = "https://as.example") -> str:
    """Check that `given` is an https URL without fragment. Example: `https_url("issuer", issuer)`"""
    try:
        parts = urlsplit(given) if isinstance(given, str) else None
    except ValueError:
        parts = None
    if not isinstance(given, str) or parts is None or parts.scheme != "https" or not parts.netloc or "#" in given:
        raise ConfigurationError(f"{name}={given!r}: expected an https URL without fragment, such as {example!r}")
    return given
