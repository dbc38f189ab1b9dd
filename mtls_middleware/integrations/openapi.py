"""Certificate-bound access tokens in an OpenAPI 3.1 document: the security schemes, and what an operation requires.

Must never know: which framework writes the document. OpenAPI 3.0 has no `mutualTLS`; one object of requirements means
all of its schemes together, several objects in the list mean one of them (OpenAPI 3.1.0, Security Requirement Object).
"""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.paths import collection
from mtls_middleware.responses import Challenge

# The names of both schemes, under `components.securitySchemes`.
MUTUAL_TLS = "mtls"
OAUTH2 = "oauth2"


def security_schemes(
    *, token_url: str, scopes: Mapping[str, str], authorization_url: str | None = None
) -> dict[str, dict[str, Any]]:
    """Both schemes, for `components.securitySchemes` of an OpenAPI 3.1 document, as dicts of your own.

    Arguments:
        token_url: the https address where clients get their tokens: the one of `mtls_endpoint_aliases`, where the
            authorization server has these (RFC 8705 5).
        scopes: each scope, and what it allows, in words for people.
        authorization_url: the https address where users consent. With it the flow is `authorizationCode`, without it
            `clientCredentials`.

    Raises `ConfigurationError`.

    Example: `security_schemes(token_url="https://as.example/token", scopes={"invoices:read": "Read invoices"})`
    """
    if not isinstance(scopes, Mapping) or not all(isinstance(text, str) for text in scopes.values()):
        raise ConfigurationError(
            f"scopes={scopes!r}: a dict of texts, for example {{'invoices:read': 'Read invoices'}}"
        )
    Challenge(scopes=tuple(scopes))  # which knows what a scope may be
    flow: dict[str, Any] = {"tokenUrl": _https("token_url", token_url), "scopes": dict(scopes)}
    kind = "clientCredentials"
    if authorization_url is not None:
        kind, flow["authorizationUrl"] = "authorizationCode", _https("authorization_url", authorization_url)
    return {MUTUAL_TLS: {"type": "mutualTLS"}, OAUTH2: {"type": "oauth2", "flows": {kind: flow}}}


def security_requirement(scopes: Collection[str] = ()) -> dict[str, list[str]]:
    """One object for an operation's `security`: a certificate, and a token with all of `scopes`.

    Raises `ConfigurationError`.

    Example: `operation["security"] = [security_requirement(["invoices:read"])]`
    """
    collection("scopes", scopes, '"invoices:read"')
    listed = tuple(dict.fromkeys(scopes))
    Challenge(scopes=listed)
    return {MUTUAL_TLS: [], OAUTH2: list(listed)}


def check_version(version: object) -> None:
    """Raises `ConfigurationError` for the version of a document that cannot say `mutualTLS`."""
    if not isinstance(version, str) or version.startswith(("2.", "3.0")):
        raise ConfigurationError(
            f"an OpenAPI document of version {version!r}: mutualTLS needs 3.1, for example '3.1.0'"
        )


def _https(name: str, address: object) -> str:
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
    except ValueError:  # brackets that are no IPv6 address
        parts = None
    if not isinstance(address, str) or parts is None or parts.scheme != "https" or not parts.netloc or parts.fragment:
        raise ConfigurationError(f"{name}={address!r}: an https address, for example 'https://as.example/token'")
    return address
