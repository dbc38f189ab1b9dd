"""`require_scopes`: a decorator for Starlette endpoints and websockets that require an access token with scopes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.route_scopes import check_view, decorator_scopes
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import LayerResponse

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_EXAMPLE = (
    '@require_scopes("invoices:read") above the endpoint of Route("/invoices", endpoint); '
    "for a class-based endpoint above its methods"
)


def require_scopes(
    *scopes: str, realm: str | None = None, resource_metadata: str | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Return a decorator that requires an access token with all of `scopes` for an endpoint, sync or async.

    Without `scopes`, any access token is accepted.

    The decorator finds the request or websocket among the arguments, so it also works on the methods of a class.
    Methods without the decorator require no token.

    Arguments:
        scopes: the required scopes, one string for each scope.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1). Use the values of the layer.

    Raises `ConfigurationError` for an invalid argument. The response is 401 without a token, 403 `insufficient_scope`
    if a scope is missing, and 500 if no layer of `mtls_middleware` wraps the application. A websocket is rejected
    before it is accepted.

    Example: `@require_scopes("invoices:read")`, and in the endpoint `access_token(request).subject`
    """
    route_scopes = decorator_scopes(scopes, _EXAMPLE, realm=realm, resource_metadata=resource_metadata)

    def check(connection: HTTPConnection) -> AccessToken | LayerResponse:
        method, path = connection.scope.get("method", "GET"), connection.scope["path"]
        return route_scopes.check(connection.scope, method=method, path=path)

    def decorate(endpoint: Endpoint) -> Endpoint:
        check_view(endpoint, _EXAMPLE)

        @functools.wraps(endpoint)
        async def async_wrapper(*arguments: Any, **named: Any) -> Any:
            connection = _connection(*arguments, *named.values())
            result = check(connection)
            return await (
                reject(connection, result) if isinstance(result, LayerResponse) else endpoint(*arguments, **named)
            )

        @functools.wraps(endpoint)
        def sync_wrapper(*arguments: Any, **named: Any) -> Any:  # Starlette runs this function in a thread
            connection = _connection(*arguments, *named.values())
            result = check(connection)
            return _response(connection, result) if isinstance(result, LayerResponse) else endpoint(*arguments, **named)

        return cast("Endpoint", async_wrapper if _is_async(endpoint) else sync_wrapper)

    return decorate


async def reject(connection: HTTPConnection, rejection: LayerResponse) -> Response | None:
    """Reject a request or a websocket. For a request, return the response that the caller must return to Starlette.

    A websocket is rejected at once, and the result is `None`. If the server supports denial responses, the websocket
    gets the response. If not, the websocket is closed with code 1008.

    Example: `return await reject(request, rejection)`
    """
    response = _response(connection, rejection)
    if not isinstance(connection, WebSocket):
        return response
    if "websocket.http.response" in connection.scope.get("extensions", {}):
        await connection.send_denial_response(response)
    else:
        await connection.close(1008)
    return None


def _response(connection: HTTPConnection, rejection: LayerResponse) -> Response:
    body = b"" if connection.scope.get("method") == "HEAD" else rejection.body
    return Response(body, rejection.status, dict(rejection.headers))


def _connection(*arguments: Any) -> HTTPConnection:
    for each in arguments:
        if isinstance(each, HTTPConnection):
            return each
    raise ConfigurationError(
        "the function that require_scopes decorates received neither a Request nor a WebSocket; expected for example "
        f"{_EXAMPLE}"
    )


def _is_async(endpoint: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(endpoint) or inspect.iscoroutinefunction(type(endpoint).__call__)
