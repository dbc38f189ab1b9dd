"""Mutual TLS for Python web applications: client certificates and certificate-bound access tokens (RFC 8705).

The layers are in `mtls_middleware.wsgi` and `mtls_middleware.asgi`.
"""

from mtls_middleware.accessors import access_token, client_certificate, oauth_client
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.token_endpoint.clients import RegisteredClient

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
]
