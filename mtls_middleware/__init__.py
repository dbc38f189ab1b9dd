"""Mutual TLS for Python web applications: client certificates and certificate-bound access tokens (RFC 8705).

The layers are in `mtls_middleware.wsgi` and `mtls_middleware.asgi`. Each name is imported when it is first used. pytest
loads the plugin of this package in every test run, so importing the package must be fast.
"""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.accessors import (
        access_token,
        client_certificate,
        oauth_client,
        route_certificate,
        route_token,
    )
    from mtls_middleware.certificate import ClientCertificate, Verification
    from mtls_middleware.errors import ConfigurationError, Refused
    from mtls_middleware.resource_server.token import AccessToken
    from mtls_middleware.token_endpoint.clients import RegisteredClient

__version__ = "0.1.0"

__all__ = [
    "AccessToken",
    "ClientCertificate",
    "ConfigurationError",
    "Refused",
    "RegisteredClient",
    "Verification",
    "access_token",
    "client_certificate",
    "oauth_client",
    "route_certificate",
    "route_token",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "accessors": ["access_token", "client_certificate", "oauth_client", "route_certificate", "route_token"],
            "certificate": ["ClientCertificate", "Verification"],
            "errors": ["ConfigurationError", "Refused"],
            "resource_server.token": ["AccessToken"],
            "token_endpoint.clients": ["RegisteredClient"],
        },
    )
