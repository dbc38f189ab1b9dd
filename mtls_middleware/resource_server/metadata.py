"""The metadata of a protected resource, served by its own layer where clients look for it: RFC 9728 3.

Must never know: a request's token. The document is for everybody, and made once.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.oauth_metadata import BOUND, check_boolean, check_https, complete, string_list
from mtls_middleware.responses import LayerResponse
from mtls_middleware.well_known import insert_well_known

# As long as clients may go on with what they know: keys and addresses of servers last longer.
_MAX_AGE = 3600


def protected_resource_metadata(
    *,
    resource: str,
    authorization_servers: Collection[str] = (),
    scopes_supported: Collection[str] = (),
    tls_client_certificate_bound_access_tokens: bool = True,
    **others: Any,
) -> dict[str, Any]:
    """The document of RFC 9728 2 for a resource behind our token layer, ready for JSON.

    Arguments:
        resource: the identifier, https, without fragment.
        others: further members, by their own names; empty lists and `None` are left out (RFC 9728 3.2).

    `bearer_methods_supported` is `["header"]`, the one method that the layer reads. Raises `ConfigurationError`.

    Example: `protected_resource_metadata(resource="https://api.example", authorization_servers=["https://as.example"])`
    """
    check_https("resource", resource)
    if others.get("jwks_uri") is not None:
        check_https("jwks_uri", others["jwks_uri"])
    if "none" in (others.get("resource_signing_alg_values_supported") or ()):
        raise ConfigurationError("resource_signing_alg_values_supported: never 'none' (RFC 9728 2)")
    document = {
        "resource": resource,
        "authorization_servers": string_list("authorization_servers", authorization_servers),
        "scopes_supported": string_list("scopes_supported", scopes_supported),
        "bearer_methods_supported": ["header"],
        BOUND: check_boolean(tls_client_certificate_bound_access_tokens),
    }
    return complete(document, others)


@dataclass(frozen=True, slots=True)
class ServedDocument:
    """The document: `address` is what a challenge names, `path` where the layer answers for it, decoded."""

    address: str
    path: str
    answer: LayerResponse


def served_document(document: Mapping[str, Any]) -> ServedDocument:
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
    address = insert_well_known(str(resource), "oauth-protected-resource")
    headers = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", f"public, max-age={_MAX_AGE}"),
    )
    return ServedDocument(address, unquote(urlsplit(address).path), LayerResponse(200, headers, body))
