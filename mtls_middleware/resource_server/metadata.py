"""Creates the metadata document of a protected resource (RFC 9728), which the token layer serves.

The document is the same for every client, so it is created only once, when the layer is constructed.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.oauth_metadata import BOUND, complete
from mtls_middleware.responses import LayerResponse
from mtls_middleware.well_known import insert_well_known

# Maximum number of seconds for which clients may cache the document. Its contents rarely change.
_MAX_AGE = 3600


def protected_resource_metadata(
    *,
    resource: str,
    authorization_servers: Collection[str] = (),
    scopes_supported: Collection[str] = (),
    tls_client_certificate_bound_access_tokens: bool = True,
    **others: Any,
) -> dict[str, Any]:
    """Return the metadata document of a resource behind the token layer, as a dict for `json.dumps` (RFC 9728 2).

    Arguments:
        resource: the resource's identifier: an https address without fragment.
        others: other members of the document, by name. Members that are empty or `None` are omitted (RFC 9728 3.2).

    `bearer_methods_supported` is always `["header"]`, because the layer reads only the `Authorization` header.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `protected_resource_metadata(resource="https://api.example", authorization_servers=["https://as.example"])`
    """
    options.https_url("resource", resource)
    if others.get("jwks_uri") is not None:
        options.https_url("jwks_uri", others["jwks_uri"])
    if "none" in (others.get("resource_signing_alg_values_supported") or ()):
        raise ConfigurationError("resource_signing_alg_values_supported contains 'none', which RFC 9728 2 forbids")
    document = {
        "resource": resource,
        "authorization_servers": options.string_list(
            "authorization_servers", authorization_servers, '"https://as.example"'
        ),
        "scopes_supported": options.string_list("scopes_supported", scopes_supported, '"invoices:read"'),
        "bearer_methods_supported": ["header"],
        BOUND: options.boolean(BOUND, tls_client_certificate_bound_access_tokens),
    }
    return complete(document, others)


@dataclass(frozen=True, slots=True)
class ServedDocument:
    """A metadata document and the path at which the layer serves it.

    Attributes:
        address: the https address of the document, for the `WWW-Authenticate` field.
        path: the decoded path where the layer serves it.
        response: the complete response that contains the document.
    """

    address: str
    path: str
    response: LayerResponse


def served_document(document: Mapping[str, Any]) -> ServedDocument:
    """Prepare a document from `protected_resource_metadata` for the layer. Raises `ConfigurationError`."""
    resource = document.get("resource")
    example = 'protected_resource_metadata(resource="https://api.example", authorization_servers=[...])'
    try:
        parts = urlsplit(resource) if isinstance(resource, str) else None
        body = json.dumps(dict(document), allow_nan=False).encode("ascii")
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"resource_metadata cannot be written as JSON ({error}): expected a document such as {example}"
        ) from error
    if parts is None or parts.scheme != "https" or not parts.netloc or parts.query or "#" in (resource or ""):
        raise ConfigurationError(
            f"resource_metadata with resource={resource!r}: expected an https address without query and fragment, for "
            f"example {example}"
        )
    address = insert_well_known(str(resource), "oauth-protected-resource")
    headers = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", f"public, max-age={_MAX_AGE}"),
    )
    return ServedDocument(address, unquote(urlsplit(address).path), LayerResponse(200, headers, body))
