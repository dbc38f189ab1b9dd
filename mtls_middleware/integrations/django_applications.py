"""Builds a `RegisteredClient` from an application of django-oauth-toolkit, and finds contradictions between them.

This module does not import Django, so that a `models.py` can import it. It uses the attributes `client_id`,
`client_type` and `client_secret` of the application.
"""

from collections.abc import Mapping
from typing import Any

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.token_endpoint.clients import RegisteredClient, RegistrationError
from mtls_middleware.token_endpoint.credentials import BASIC, PKI, POST, PUBLIC, SELF_SIGNED

# The toolkit verifies secrets, and this package verifies certificates. Neither of them verifies client assertions
# (JWT).
METHODS = (BASIC, POST, PKI, SELF_SIGNED, PUBLIC)


def registered_client(application: Any, metadata: Mapping[str, Any] | None = None) -> RegisteredClient:
    """Return the client that an application and its registration metadata describe.

    Without `token_endpoint_auth_method`, a public application has the method `none`, and a confidential application
    has `client_secret_basic`. Raises `RegistrationError` for invalid metadata.

    Example: `registered_client(application, {"token_endpoint_auth_method": "client_secret_post"})`
    """
    members = {name: value for name, value in (metadata or {}).items() if value is not None}
    members.setdefault("token_endpoint_auth_method", PUBLIC if application.client_type == "public" else BASIC)
    if members.get("client_id", application.client_id) != application.client_id:
        raise RegistrationError.of(
            application.client_id,
            f"its metadata has client_id={members['client_id']!r}: omit client_id from the metadata, or use the "
            "client_id of the application",
        )
    return RegisteredClient.from_metadata({**members, "client_id": application.client_id})


def check_registration(application: Any, client: RegisteredClient) -> None:
    """Check that an application and its registration agree. Call this function before you save one of the two.

    Raises `ConfigurationError` if only one of the two says that the client is public, if they have different values of
    `client_id`, if no code can verify the registered method, or if the method needs a secret and the application has
    none.

    Example: `check_registration(application, registered_client(application, metadata))`
    """
    reason = disagreement(application, client)
    if reason is not None:
        raise ConfigurationError(reason)


def disagreement(application: Any, client: RegisteredClient) -> str | None:
    """Return how the application and its registration disagree, and what to change; `None` if they agree.

    Example: `disagreement(application, registered_client(application, metadata))`
    """
    method, kind = client.token_endpoint_auth_method, application.client_type
    subject = f"client {client.client_id!r}: token_endpoint_auth_method is {method!r}"
    if application.client_id != client.client_id:
        return f"{subject}, but the application is {application.client_id!r}: both must have the same client_id"
    if method not in METHODS:
        return (
            f"{subject}, which django-oauth-toolkit cannot verify: register one of {', '.join(METHODS)}, for example "
            f"{PKI!r} with the client's certificate"
        )
    expected = "public" if method == PUBLIC else "confidential"
    if kind != expected:
        return (
            f"{subject}, but the application's client_type is {kind!r}: set client_type to {expected!r}, or register "
            + (f"{PUBLIC!r}" if kind == "public" else "the method that the client uses")
        )
    if method in (BASIC, POST) and not application.client_secret:
        return f"{subject}, but the application has no client_secret: set a client_secret, or register another method"
    return None
