"""What an application reads: the certificate and the token of any framework's request, or of environ and scope.

Must never know: headers. The keys are set by the layers on every request.
"""

from collections.abc import Mapping
from typing import Any

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.layers.attached import CERTIFICATE_KEY, CLIENT_KEY, TOKEN_KEY
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.token_endpoint.clients import RegisteredClient

# Where frameworks keep what the gateway gave them: Starlette, Quart, Litestar, Django (ASGI); Werkzeug, Flask,
# Django (WSGI); Falcon (ASGI has `scope`, WSGI `env`).
_ATTRIBUTES = ("scope", "environ", "env")


def client_certificate(request: Any) -> ClientCertificate | None:
    """The client certificate of this request, or `None`.

    `request`: of Flask/Werkzeug, Django, Starlette/FastAPI, Quart, Litestar or Falcon, a websocket, or a bare
    environ/scope. Raises `TypeError` for anything else.

    Attached is not verified: see `ClientCertificate.verification`. Example: `client_certificate(request).subject`
    """
    found = carrier(request).get(CERTIFICATE_KEY)
    return found if isinstance(found, ClientCertificate) else None


def access_token(request: Any) -> AccessToken | None:
    """The access token that was accepted for this request, or `None`. Arguments as for `client_certificate`.

    Example: `"invoices:read" in access_token(request).scopes`
    """
    found = carrier(request).get(TOKEN_KEY)
    return found if isinstance(found, AccessToken) else None


def oauth_client(request: Any) -> RegisteredClient | None:
    """The OAuth client that authenticated by its certificate, or `None`. Arguments as for `client_certificate`.

    `None` is also what an endpoint sees whose path the layer does not know: demand a client there.

    Example: `oauth_client(request).client_id`
    """
    found = carrier(request).get(CLIENT_KEY)
    return found if isinstance(found, RegisteredClient) else None


def carrier(request: Any) -> Mapping[str, Any]:
    """The environ or scope that a framework's request was made from. Raises `TypeError` where there is none.

    Example: `carrier(request)["mtls_middleware.token"]`
    """
    for name in _ATTRIBUTES:
        carrier = getattr(request, name, None)
        if isinstance(carrier, Mapping):
            return carrier
    if isinstance(request, Mapping):
        return request
    raise TypeError(f"{type(request).__name__} is no request: give a framework's request, an environ or a scope")
