"""Reads the metadata of an authorization server (RFC 8414, OpenID Connect Discovery), for clients with a certificate.

This module performs no I/O and reads no clock.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.remote_document import UnusableDocument
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.json_values import excerpt, json_document
from mtls_middleware.oauth_metadata import BOUND
from mtls_middleware.token_endpoint.metadata import mtls_endpoint

Method = Literal["tls_client_auth", "self_signed_tls_client_auth"]


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """The token endpoint for clients with a certificate, and whether the server says that it binds tokens."""

    token_endpoint: str
    binds_tokens: bool


def read_metadata(body: bytes, issuer: str, method: Method, hosts: Collection[str]) -> ServerMetadata:
    """Parse a metadata document. Raises `UnusableDocument` with the reason.

    Arguments:
        issuer: the document's `issuer` must be exactly this string (RFC 8414 3.3).
        method: the document must list this method, if it lists methods.
        hosts: the host of the token endpoint must be the issuer's host, a subdomain of it, or one of these.
    """
    document = json_document(body)
    if not isinstance(document, dict):
        raise UnusableDocument("it is not a JSON object")
    if document.get("issuer") != issuer:
        raise UnusableDocument(f"its issuer is {excerpt(document.get('issuer'))}; expected exactly {issuer!a}")
    methods = document.get("token_endpoint_auth_methods_supported")
    if methods is not None and not (isinstance(methods, list) and method in methods):
        raise UnusableDocument(f"its token_endpoint_auth_methods_supported does not contain {method}")
    return ServerMetadata(_token_endpoint(document, issuer, hosts), document.get(BOUND) is True)


def _token_endpoint(document: dict[str, Any], issuer: str, hosts: Collection[str]) -> str:
    endpoint = mtls_endpoint(document, "token_endpoint")
    if endpoint is None:
        raise UnusableDocument("it has no token_endpoint")
    try:
        check_address("token_endpoint", endpoint, allow_http=False)
    except ConfigurationError:
        raise UnusableDocument("its token_endpoint is not an https address without user and fragment") from None
    host, own = _host(endpoint), _host(issuer)
    if host != own and not host.endswith(f".{own}") and host not in hosts:
        raise UnusableDocument(
            f"its token endpoint is on the host {excerpt(host)}, and the issuer is on {own!a}; if this is "
            f"correct, give token_hosts=[{excerpt(host)}]"
        )
    return endpoint


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")
