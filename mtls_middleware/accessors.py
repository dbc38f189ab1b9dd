"""Returns the client certificate, access token or OAuth client of a request, for applications in any framework.

The functions read only keys that the layers set in the environ or scope on every request. They read no header fields.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.attached import CERTIFICATE_KEY, CLIENT_KEY, TOKEN_KEY
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.token_endpoint.clients import RegisteredClient

T = TypeVar("T")

# The attributes of requests that contain the scope or environ. `scope`: Starlette, Quart, Litestar, Django and Falcon
# under ASGI. `environ`: Werkzeug, Flask and Django under WSGI. `env`: Falcon under WSGI.
_ATTRIBUTES = ("scope", "environ", "env")


class _NoQueryParameter:
    """Makes `Depends(client_certificate)` fail when the route is defined.

    With `Depends(client_certificate)`, FastAPI would read the parameter `request` from the query. This annotation
    prevents that: when FastAPI asks pydantic for the schema of the parameter, the function raises an exception.
    """

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> NoReturn:
        raise ConfigurationError(
            "client_certificate, access_token and oauth_client are not dependencies: FastAPI would read their "
            "parameter from the query of the URL. Expected Depends(require_certificate()) or a CertificateBoundToken "
            "of mtls_middleware.integrations.fastapi_routes. Or call the function inside the route: a route with the "
            "parameter request: Request can call client_certificate(request)"
        )


# A request of any framework. For type checkers, this is `Any`.
AnyRequest = Annotated[Any, _NoQueryParameter()]


def client_certificate(request: AnyRequest) -> ClientCertificate | None:
    """Return the client certificate of this request, or `None` if the request has no accepted certificate.

    `request`: a request or websocket of Flask/Werkzeug, Django, Starlette/FastAPI, Quart, Litestar or Falcon, or a WSGI
    environ or ASGI scope. Raises `TypeError` for any other object.

    The certificate may be unverified: see `ClientCertificate.verification`.

    Example: `client_certificate(request).subject`
    """
    return _attached(request, CERTIFICATE_KEY, ClientCertificate)


def access_token(request: AnyRequest) -> AccessToken | None:
    """Return the access token that was accepted for this request, or `None` if the request has no accepted token.

    `request`: see `client_certificate`. Example: `"invoices:read" in access_token(request).scopes`
    """
    return _attached(request, TOKEN_KEY, AccessToken)


def oauth_client(request: AnyRequest) -> RegisteredClient | None:
    """Return the OAuth client that the layer authenticated by its certificate, or `None`.

    On a path that is not in the layer's `paths`, the result is always `None`. An endpoint that requires a client must
    reject a request without a client. `request`: see `client_certificate`.

    Example: `oauth_client(request).client_id`
    """
    return _attached(request, CLIENT_KEY, RegisteredClient)


def route_certificate(request: AnyRequest) -> ClientCertificate:
    """Return the client certificate of this request, in a route with `require_certificate`. The result is never `None`.

    `request`: see `client_certificate`. Raises `ConfigurationError` if the request has no accepted certificate, because
    the route then lacks `require_certificate`.

    Example: `route_certificate(request).subject`
    """
    found = client_certificate(request)
    if found is None:
        raise ConfigurationError(
            "the request has no client certificate: protect the route, for example with @require_certificate()"
        )
    return found


def route_token(request: AnyRequest) -> AccessToken:
    """Return the access token of this request, in a route with `require_scopes`. The result is never `None`.

    `request`: see `client_certificate`. Raises `ConfigurationError` if the request has no accepted token, because the
    route then lacks `require_scopes`.

    Example: `route_token(request).subject`
    """
    found = access_token(request)
    if found is None:
        raise ConfigurationError(
            "the request has no access token: protect the route, for example with @require_scopes()"
        )
    return found


def _attached(request: Any, key: str, kind: type[T]) -> T | None:
    found = carrier(request).get(key)
    return found if isinstance(found, kind) else None


def carrier(request: Any) -> Mapping[str, Any]:
    """Return the environ or scope of a framework's request. Raises `TypeError` if the object has neither.

    Example: `carrier(request)["mtls_middleware.token"]`
    """
    for name in _ATTRIBUTES:
        carrier = getattr(request, name, None)
        if isinstance(carrier, Mapping):
            return carrier
    if isinstance(request, Mapping):
        return request
    raise TypeError(f"{type(request).__name__} is not a request: expected a framework's request, an environ or a scope")
