"""What an authorization server and a protected resource publish about mutual TLS: RFC 8414, RFC 8705 5, RFC 9728.

Must never know: where it is served. Names of the drafts are never written.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.well_known import inserted

BOUND = "tls_client_certificate_bound_access_tokens"
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
    _https("issuer", issuer)
    if urlsplit(issuer).query:
        raise ConfigurationError(f"issuer={issuer!r}: without query (RFC 8414 2)")
    methods = _texts("token_endpoint_auth_methods_supported", token_endpoint_auth_methods_supported)
    document = {
        "issuer": issuer,
        "token_endpoint": token_endpoint,
        "token_endpoint_auth_methods_supported": methods,
        BOUND: _boolean(tls_client_certificate_bound_access_tokens),
        "mtls_endpoint_aliases": _aliases(mtls_endpoint_aliases or {}),
    }
    for name, address in {"token_endpoint": token_endpoint, **others}.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            _https(name, address)
    return _published(document, others)


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
    _https("resource", resource)
    if others.get("jwks_uri") is not None:
        _https("jwks_uri", others["jwks_uri"])
    if "none" in (others.get("resource_signing_alg_values_supported") or ()):
        raise ConfigurationError("resource_signing_alg_values_supported: never 'none' (RFC 9728 2)")
    document = {
        "resource": resource,
        "authorization_servers": _texts("authorization_servers", authorization_servers),
        "scopes_supported": _texts("scopes_supported", scopes_supported),
        "bearer_methods_supported": ["header"],
        BOUND: _boolean(tls_client_certificate_bound_access_tokens),
    }
    return _published(document, others)


def well_known(identifier: str, name: str = "oauth-authorization-server") -> str:
    """Where the document of an issuer or a resource is found: the path is put between host and path (RFC 8414 3).

    Example: `well_known("https://as.example/tenant")` is
    `"https://as.example/.well-known/oauth-authorization-server/tenant"`; for resources,
    `name="oauth-protected-resource"`. Raises `ConfigurationError` for what is no https address.
    """
    _https("identifier", identifier)
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
        _https(name, address)
    return dict(aliases)


def _https(name: str, address: object) -> None:
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme != "https" or not parts.netloc or parts.fragment:
        raise ConfigurationError(
            f"{name}={address!r}: an https address without fragment, for example 'https://as.example'"
        )


def _texts(name: str, given: Iterable[str]) -> list[str]:
    texts = None if isinstance(given, (str, bytes)) or not isinstance(given, Iterable) else list(given)
    if texts is None or not all(isinstance(each, str) for each in texts):
        raise ConfigurationError(f"{name}={given!r}: a list of texts")
    return texts


def _boolean(given: object) -> bool:
    if not isinstance(given, bool):  # the string "true" is not accepted
        raise ConfigurationError(f"{BOUND}={given!r}: True or False")
    return given


def _published(document: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    for name in others:
        if name in document:
            raise ConfigurationError(f"{name} is not yours to set: it says what our layer reads")
        if name in _DRAFTS:
            raise ConfigurationError(f"{name} is a draft's name, which nobody reads any more: {BOUND}")
    whole = {**document, **others}
    return {name: value for name, value in whole.items() if value is not None and value not in ([], {}, ())}


# Members of drafts of RFC 8705 that the RFC itself does not have.
_DRAFTS = frozenset({"mutual_tls_sender_constrained_access_tokens"})
