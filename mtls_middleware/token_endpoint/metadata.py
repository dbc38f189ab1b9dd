"""The metadata of an authorization server: RFC 8414, RFC 8705 section 5."""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.oauth_metadata import BOUND, check_boolean, check_https, complete, string_list
from mtls_middleware.well_known import inserted

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
    """The document of RFC 8414 2 with the members of RFC 8705 3.3 and 5, ready for JSON.

    Arguments:
        issuer: https, without query and fragment.
        token_endpoint_auth_methods_supported: every method, those of RFC 8705 among them.
        mtls_endpoint_aliases: endpoint name -> address, for servers that ask for certificates on another host or port.
            `issuer`, `authorization_endpoint` and `jwks_uri` have no place there (RFC 8705 5).
        others: further members, by their own names; empty lists and `None` are left out (RFC 8414 3.2). Endpoints and
            `jwks_uri` are https.

    Raises `ConfigurationError`.

    Example: `authorization_server_metadata(issuer="https://as.example", token_endpoint="https://as.example/token")`
    """
    check_https("issuer", issuer)
    if urlsplit(issuer).query:
        raise ConfigurationError(f"issuer={issuer!r}: without query (RFC 8414 2)")
    methods = string_list("token_endpoint_auth_methods_supported", token_endpoint_auth_methods_supported)
    document = {
        "issuer": issuer,
        "token_endpoint": token_endpoint,
        "token_endpoint_auth_methods_supported": methods,
        BOUND: check_boolean(tls_client_certificate_bound_access_tokens),
        "mtls_endpoint_aliases": _aliases(mtls_endpoint_aliases or {}),
    }
    for name, address in {"token_endpoint": token_endpoint, **others}.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            check_https(name, address)
    return complete(document, others)


def well_known(identifier: str, name: str = "oauth-authorization-server") -> str:
    """Where the document of an issuer or a resource is found: the path is put between host and path (RFC 8414 3).

    Example: `well_known("https://as.example/tenant")` is
    `"https://as.example/.well-known/oauth-authorization-server/tenant"`; for resources,
    `name="oauth-protected-resource"`. Raises `ConfigurationError` for what is no https address.
    """
    check_https("identifier", identifier)
    return inserted(identifier, name)


def mtls_endpoint(metadata: Mapping[str, Any], name: str) -> str | None:
    """The address of an endpoint for a client that uses its certificate: the alias where there is one (RFC 8705 5).

    Example: `mtls_endpoint(metadata, "token_endpoint")`
    """
    aliases = metadata.get("mtls_endpoint_aliases")
    alias = aliases.get(name) if isinstance(aliases, Mapping) and name not in _NEVER_ALIASES else None
    found = metadata.get(name) if alias is None else alias
    return found if isinstance(found, str) else None


_NEVER_ALIASES = frozenset({"issuer", "authorization_endpoint", "jwks_uri"})


def _aliases(aliases: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(aliases, Mapping):
        raise ConfigurationError(f"mtls_endpoint_aliases={aliases!r}: a mapping, such as {{'token_endpoint': address}}")
    for name, address in aliases.items():
        if name in _NEVER_ALIASES or not str(name).endswith("_endpoint"):
            raise ConfigurationError(f"mtls_endpoint_aliases: {name} is no endpoint that clients call (RFC 8705 5)")
        check_https(name, address)
    return dict(aliases)
