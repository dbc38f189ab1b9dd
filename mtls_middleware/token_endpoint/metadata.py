"""Creates and reads authorization server metadata (RFC 8414, RFC 8705 section 5)."""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.oauth_metadata import BOUND, complete
from mtls_middleware.well_known import insert_well_known

METHODS = ("tls_client_auth", "self_signed_tls_client_auth")


def authorization_server_metadata(
    *,
    issuer: str,
    token_endpoint: str,
    token_endpoint_auth_methods_supported: Collection[str] = METHODS,
    mtls_endpoint_aliases: Mapping[str, str] | None = None,
    tls_client_certificate_bound_access_tokens: bool = True,
    **others: Any,
) -> dict[str, Any]:
    """Create the metadata document of RFC 8414 2, with the members of RFC 8705 3.3 and 5, as a dict for `json.dumps`.

    Arguments:
        issuer: an https URL without query and fragment.
        token_endpoint_auth_methods_supported: all supported methods, not only those of RFC 8705.
        mtls_endpoint_aliases: a mapping from endpoint name to URL, for a server that requests client certificates only
            on another host or port. `issuer`, `authorization_endpoint` and `jwks_uri` are rejected (RFC 8705 5).
        others: other members of the document, by name. Members that are empty or `None` are omitted (RFC 8414 3.2).
            Endpoints and `jwks_uri` must be https URLs.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `authorization_server_metadata(issuer="https://as.example", token_endpoint="https://as.example/token")`
    """
    options.https_url("issuer", issuer)
    if urlsplit(issuer).query:
        raise ConfigurationError(f"issuer={issuer!r}: expected a URL without query (RFC 8414 2)")
    methods = options.string_list(
        "token_endpoint_auth_methods_supported", token_endpoint_auth_methods_supported, '"tls_client_auth"'
    )
    document = {
        "issuer": issuer,
        "token_endpoint": token_endpoint,
        "token_endpoint_auth_methods_supported": methods,
        BOUND: options.boolean(BOUND, tls_client_certificate_bound_access_tokens),
        "mtls_endpoint_aliases": _aliases(mtls_endpoint_aliases or {}),
    }
    for name, address in {"token_endpoint": token_endpoint, **others}.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            options.https_url(name, address)
    return complete(document, others)


def well_known(identifier: str, name: str = "oauth-authorization-server") -> str:
    """Return the URL of the metadata document of an issuer or a resource.

    The URL has the well-known path directly after the host (RFC 8414 3, RFC 9728 3). For a resource, give
    `name="oauth-protected-resource"`. Raises `ConfigurationError` if `identifier` is not an https URL.

    Example: `well_known("https://as.example/tenant")` is
    `"https://as.example/.well-known/oauth-authorization-server/tenant"`
    """
    options.https_url("identifier", identifier)
    return insert_well_known(identifier, name)


def mtls_endpoint(metadata: Mapping[str, Any], name: str) -> str | None:
    """Return the URL of the endpoint `name` for a client that presents a certificate (RFC 8705 5).

    This is the endpoint's alias, if the metadata contains one. Returns `None` if the metadata contains neither an alias
    nor the endpoint.

    Example: `mtls_endpoint(metadata, "token_endpoint")`
    """
    aliases = metadata.get("mtls_endpoint_aliases")
    alias = aliases.get(name) if isinstance(aliases, Mapping) and name not in _NEVER_ALIASES else None
    found = alias or metadata.get(name)  # an empty alias counts as absent, because some servers publish empty aliases
    return found if isinstance(found, str) and found else None


_NEVER_ALIASES = frozenset({"issuer", "authorization_endpoint", "jwks_uri"})


def _aliases(aliases: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(aliases, Mapping):
        raise ConfigurationError(
            f"mtls_endpoint_aliases={aliases!r}: expected a mapping, for example "
            "{'token_endpoint': 'https://mtls.as.example/token'}"
        )
    for name, address in aliases.items():
        if name in _NEVER_ALIASES or not str(name).endswith("_endpoint"):
            raise ConfigurationError(f"mtls_endpoint_aliases: {name} is not an endpoint that clients call (RFC 8705 5)")
        options.https_url(name, address)
    return dict(aliases)
