"""The metadata of a protected resource, served by its own layer where clients look for it: RFC 9728 3.

Must never know: a request's token. The document is for everybody, and made once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.refusal import Answer
from mtls_middleware.well_known import inserted

# As long as clients may go on with what they know: keys and addresses of servers last longer.
_MAX_AGE = 3600


@dataclass(frozen=True, slots=True)
class Published:
    """The document: `address` is what a challenge names, `path` where the layer answers for it, decoded."""

    address: str
    path: str
    answer: Answer


def published(document: Mapping[str, Any]) -> Published:
    """The document, as `protected_resource_metadata` makes it. Raises `ConfigurationError`."""
    resource = document.get("resource")
    example = 'protected_resource_metadata(resource="https://api.example", authorization_servers=[...])'
    try:
        parts = urlsplit(resource) if isinstance(resource, str) else None
        body = json.dumps(dict(document), allow_nan=False).encode("ascii")
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"resource_metadata cannot be written as JSON ({error}): {example}") from error
    if parts is None or parts.scheme != "https" or not parts.netloc or parts.query or "#" in (resource or ""):
        raise ConfigurationError(
            f"resource_metadata of {resource!r}: an https address without query and fragment: {example}"
        )
    address = inserted(str(resource), "oauth-protected-resource")
    headers = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", f"public, max-age={_MAX_AGE}"),
    )
    return Published(address, unquote(urlsplit(address).path), Answer(200, headers, body))
