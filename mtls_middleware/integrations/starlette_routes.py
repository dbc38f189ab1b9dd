"""`require_scopes`: what a Starlette endpoint demands of the access token of its request, or websocket.

Must never know: how a token is judged, which is `route_scopes.py`'s to say. It writes the answer in Starlette's way.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.route_scopes import check_view, decorating
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import LayerResponse

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_EXAMPLE = (
    '@require_scopes("invoices:read") above the endpoint that Route("/invoices", endpoint) has; '
    "a class based endpoint has it above its methods"
)


def require_scopes(
    *scopes: str, realm: str | None = None, resource_metadata: str | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Decorate an endpoint, sync or async, that needs an access token with all of `scopes`; without any, a token.

    It finds the request, or websocket, among the endpoint's arguments, so it does for methods of a class too: those
    that do not have it demand nothing.

    Arguments:
        scopes: the single scopes, a text each.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1), as the layer has them.

    Raises `ConfigurationError`. Answers: 401 without token, 403 `insufficient_scope`, 500 without our layers; a
    websocket is refused before accept.

    Example: `@require_scopes("invoices:read")`, and in the endpoint `access_token(request).subject`
    """
    demanded = decorating(scopes, _EXAMPLE, realm=realm, resource_metadata=resource_metadata)

    def judged(connection: HTTPConnection) -> AccessToken | LayerResponse:
        method, path = connection.scope.get("method", "GET"), connection.scope["path"]
        return demanded.judge(connection.scope, method=method, path=path)

    def decorate(endpoint: Endpoint) -> Endpoint:
        check_view(endpoint, _EXAMPLE)

        @functools.wraps(endpoint)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            connection = _connection(*arguments, *named.values())
            found = judged(connection)
            return await (
                refuse(connection, found) if isinstance(found, LayerResponse) else endpoint(*arguments, **named)
            )

        @functools.wraps(endpoint)
        def called(*arguments: Any, **named: Any) -> Any:  # in a thread, as the endpoint itself
            connection = _connection(*arguments, *named.values())
            found = judged(connection)
            return _response(connection, found) if isinstance(found, LayerResponse) else endpoint(*arguments, **named)

        return cast("Endpoint", awaited if _is_async(endpoint) else called)

    return decorate


async def refuse(connection: HTTPConnection, answer: LayerResponse) -> Response | None:
    """The response of an endpoint, or handler; a websocket is refused at once, as far as its server can tell it why.

    Example: `return await refuse(request, answer)`
    """
    response = _response(connection, answer)
    if not isinstance(connection, WebSocket):
        return response
    if "websocket.http.response" in connection.scope.get("extensions", {}):
        await connection.send_denial_response(response)
    else:
        await connection.close(1008)
    return None


def _response(connection: HTTPConnection, answer: LayerResponse) -> Response:
    body = b"" if connection.scope.get("method") == "HEAD" else answer.body
    return Response(body, answer.status, dict(answer.headers))


def _connection(*arguments: Any) -> HTTPConnection:
    for each in arguments:
        if isinstance(each, HTTPConnection):
            return each
    raise ConfigurationError(f"require_scopes around what gets neither Request nor WebSocket: for example {_EXAMPLE}")


def _is_async(endpoint: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(endpoint) or inspect.iscoroutinefunction(type(endpoint).__call__)
