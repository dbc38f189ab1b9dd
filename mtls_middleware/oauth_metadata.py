"""What the metadata documents of authorization servers and of protected resources have in common."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware.errors import ConfigurationError

BOUND = "tls_client_certificate_bound_access_tokens"


def check_https(name: str, address: object) -> None:
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme != "https" or not parts.netloc or parts.fragment:
        raise ConfigurationError(
            f"{name}={address!r}: an https address without fragment, for example 'https://as.example'"
        )


def string_list(name: str, given: Iterable[str]) -> list[str]:
    texts = None if isinstance(given, (str, bytes)) or not isinstance(given, Iterable) else list(given)
    if texts is None or not all(isinstance(each, str) for each in texts):
        raise ConfigurationError(f"{name}={given!r}: a list of texts")
    return texts


def check_boolean(given: object) -> bool:
    if not isinstance(given, bool):  # the string "true" is not accepted
        raise ConfigurationError(f"{BOUND}={given!r}: True or False")
    return given


def complete(document: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    for name in others:
        if name in document:
            raise ConfigurationError(f"{name} is not yours to set: it says what our layer reads")
        if name in _DRAFTS:
            raise ConfigurationError(f"{name} is a draft's name, which nobody reads any more: {BOUND}")
    whole = {**document, **others}
    return {name: value for name, value in whole.items() if value is not None and value not in ([], {}, ())}


# Members of drafts of RFC 8705 that the RFC itself does not have.
_DRAFTS = frozenset({"mutual_tls_sender_constrained_access_tokens"})
