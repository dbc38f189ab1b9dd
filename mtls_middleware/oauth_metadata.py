"""Checks and assembles OAuth metadata, for authorization servers (RFC 8414) and protected resources (RFC 9728)."""

from collections.abc import Mapping
from typing import Any

from mtls_middleware.errors import ConfigurationError

BOUND = "tls_client_certificate_bound_access_tokens"


def complete(document: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Add the members `others` to `document`, and return the result without empty members.

    Raises `ConfigurationError` if a member is already in `document`, or has the name of a draft.
    """
    for name in others:
        if name in document:
            raise ConfigurationError(f"{name} is a member that the function sets itself; expected other members only")
        if name in _DRAFTS:
            raise ConfigurationError(f"{name} is a name from drafts of RFC 8705; expected {BOUND}")
    whole = {**document, **others}
    return {name: value for name, value in whole.items() if value is not None and value not in ([], {}, ())}


# Member names from drafts of RFC 8705 that the RFC itself does not contain.
_DRAFTS = frozenset({"mutual_tls_sender_constrained_access_tokens"})
