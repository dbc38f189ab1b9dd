"""Builds the security schemes and requirements of certificate-bound access tokens for an OpenAPI 3.1 document.

This module does not depend on the framework that writes the document. OpenAPI 3.0 has no `mutualTLS`. A requirement
object requires all of its schemes. If an operation lists several requirement objects, one of them is enough (OpenAPI
3.1.0, "Security Requirement Object").
"""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.responses import Challenge

# The names of the two schemes in `components.securitySchemes`.
MUTUAL_TLS = "mtls"
OAUTH2 = "oauth2"


def security_schemes(
    *, token_url: str, scopes: Mapping[str, str], authorization_url: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return two schemes for `components.securitySchemes` of an OpenAPI 3.1 document. You may change the result.

    Arguments:
        token_url: the https URL of the token endpoint. If the authorization server has `mtls_endpoint_aliases`, use the
            `token_endpoint` in it (RFC 8705 5).
        scopes: a mapping from each scope to a description of what the scope allows.
        authorization_url: the https URL of the authorization endpoint. If it is given, the flow is
            `authorizationCode`. If not, the flow is `clientCredentials`.

    Raises `ConfigurationError` for an invalid argument.

    Example: `security_schemes(token_url="https://as.example/token", scopes={"invoices:read": "Read invoices"})`
    """
    if not isinstance(scopes, Mapping) or not all(isinstance(text, str) for text in scopes.values()):
        raise ConfigurationError(
            f"scopes={scopes!r}: expected a dict of strings, for example {{'invoices:read': 'Read invoices'}}"
        )
    Challenge(scopes=tuple(scopes))  # the constructor raises ConfigurationError for an invalid scope
    flow: dict[str, Any] = {"tokenUrl": _https("token_url", token_url), "scopes": dict(scopes)}
    kind = "clientCredentials"
    if authorization_url is not None:
        kind, flow["authorizationUrl"] = "authorizationCode", _https("authorization_url", authorization_url)
    return {MUTUAL_TLS: {"type": "mutualTLS"}, OAUTH2: {"type": "oauth2", "flows": {kind: flow}}}


def security_requirement(scopes: Collection[str] = ()) -> dict[str, list[str]]:
    """Return an object for the `security` of an operation. It requires a certificate, and a token with all `scopes`.

    Raises `ConfigurationError` for an invalid scope.

    Example: `operation["security"] = [security_requirement(["invoices:read"])]`
    """
    options.strings("scopes", scopes, '"invoices:read"')
    listed = tuple(dict.fromkeys(scopes))
    Challenge(scopes=listed)  # the constructor raises ConfigurationError for an invalid scope
    return {MUTUAL_TLS: [], OAUTH2: list(listed)}


def check_version(version: object) -> None:
    """Raise `ConfigurationError` for an OpenAPI version that has no `mutualTLS`."""
    if not isinstance(version, str) or version.startswith(("2.", "3.0")):
        raise ConfigurationError(
            f"the OpenAPI document has version {version!r}: mutualTLS needs 3.1 or later, for example '3.1.0'"
        )


def _https(name: str, address: object) -> str:
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
    except ValueError:  # the address cannot be parsed, for example because its brackets contain no IPv6 address
        parts = None
    if not isinstance(address, str) or parts is None or parts.scheme != "https" or not parts.netloc or parts.fragment:
        raise ConfigurationError(f"{name}={address!r}: expected an https URL, for example 'https://as.example/token'")
    return address
