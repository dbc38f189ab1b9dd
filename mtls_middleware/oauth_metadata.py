"""Checks and assembles OAuth metadata, for authorization servers (RFC 8414) and protected resources (RFC 9728)."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware.errors import ConfigurationError

BOUND = "tls_client_certificate_bound_access_tokens"


def check_https(name: str, address: object) -> None:
    """Raises `ConfigurationError` unless `address` is an https URL without fragment. `name`: the argument."""
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme != "https" or not parts.netloc or parts.fragment:
        raise ConfigurationError(
            f"{name}={address!r}: expected an https URL without fragment, for example 'https://as.example'"
        )


def string_list(name: str, given: Iterable[str]) -> list[str]:
    """Return `given` as a list of strings. Raises `ConfigurationError`. `name`: the argument."""
    strings = None if isinstance(given, (str, bytes)) or not isinstance(given, Iterable) else list(given)
    if strings is None or not all(isinstance(each, str) for each in strings):
        raise ConfigurationError(f"{name}={given!r}: expected a list of strings")
    return strings


def check_boolean(given: object) -> bool:
    """Check the value of `tls_client_certificate_bound_access_tokens`. Raises `ConfigurationError`."""
    if not isinstance(given, bool):  # the string "true" is not accepted
        raise ConfigurationError(f"{BOUND}={given!r}: expected True or False")
    return given


def complete(document: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return `document` with the further members `others`, without empty members. Raises `ConfigurationError`."""
    for name in others:
        if name in document:
            raise ConfigurationError(f"{name} cannot be given as a further member")
        if name in _DRAFTS:
            raise ConfigurationError(f"{name} is the name in drafts of RFC 8705: expected {BOUND}")
    whole = {**document, **others}
    return {name: value for name, value in whole.items() if value is not None and value not in ([], {}, ())}


# Member names in drafts of RFC 8705 that the RFC does not contain.
_DRAFTS = frozenset({"mutual_tls_sender_constrained_access_tokens"})
