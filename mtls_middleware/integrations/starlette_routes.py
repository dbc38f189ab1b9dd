"""`require_scopes` and `require_certificate`: decorators for Starlette endpoints and websockets."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.route_checks import (
    Required,
    RouteCertificate,
    RouteCheck,
    check_view,
    decorator_scopes,
)
from mtls_middleware.responses import LayerResponse
from mtls_middleware.rule import Rule

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_EXAMPLE = (
    '@require_scopes("invoices:read") above the endpoint of Route("/invoices", endpoint); '
    "for a class-based endpoint above its methods"
)
_CERTIFICATE_EXAMPLE = (
    '@require_certificate(Subject("CN=ops,O=Acme")) above the endpoint of Route("/admin", endpoint); '
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

    Example: `@require_scopes("invoices:read")`, and in the endpoint `route_token(request).subject`
    """
    return _decorator(decorator_scopes(scopes, _EXAMPLE, realm=realm, resource_metadata=resource_metadata), _EXAMPLE)


def require_certificate(rule: Rule | None = None) -> Callable[[Endpoint], Endpoint]:
    """Return a decorator that requires a client certificate for an endpoint, sync or async.

    With `rule`, the certificate must match the rule. Without `rule`, any verified certificate is accepted. The rule
    applies in addition to `allow=` of the layer. The value of the path in `allow=` may be `ANYONE`.

    The decorator finds the request or websocket among the arguments, so it also works on the methods of a class.

    Raises `ConfigurationError` for an object that is not a rule. Convert a function with `policy.as_rule`. The response
    is 403 `client_certificate_required` without a certificate, 403 `client_certificate_refused` if the rule does not
    allow the certificate, and 500 if no layer of `mtls_middleware` wraps the application. A websocket is rejected
    before it is accepted.

    Example: `@require_certificate(Subject("CN=ops,O=Acme"))`, and in the endpoint `route_certificate(request).subject`
    """
    return _decorator(RouteCertificate(rule), _CERTIFICATE_EXAMPLE)


def _decorator(check: RouteCheck[Any], example: str) -> Callable[[Endpoint], Endpoint]:
    def decorate(endpoint: Endpoint) -> Endpoint:
        check_view(check, endpoint, example)

        @functools.wraps(endpoint)
        async def async_wrapper(*arguments: Any, **named: Any) -> Any:
            connection = _connection(check, example, *arguments, *named.values())
            result = check_connection(check, connection)
            return await (
                reject(connection, result) if isinstance(result, LayerResponse) else endpoint(*arguments, **named)
            )

        @functools.wraps(endpoint)
        # Starlette runs a plain function like this one in a thread.
        def sync_wrapper(*arguments: Any, **named: Any) -> Any:
            connection = _connection(check, example, *arguments, *named.values())
            result = check_connection(check, connection)
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


def check_connection(check: RouteCheck[Required], connection: HTTPConnection) -> Required | LayerResponse:
    """Return the token or certificate that the route requires, or the response that rejects the request or websocket.

    Example: `check_connection(RouteCertificate(), websocket)`
    """
    method, path = connection.scope.get("method", "GET"), connection.scope["path"]
    return check.check(connection.scope, method=method, path=path)


def _connection(check: RouteCheck[Any], example: str, *arguments: Any) -> HTTPConnection:
    for each in arguments:
        if isinstance(each, HTTPConnection):
            return each
    raise ConfigurationError(
        f"the function that {check.decorator} decorates received neither a Request nor a WebSocket; expected for "
        f"example {example}"
    )


def _is_async(endpoint: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(endpoint) or inspect.iscoroutinefunction(type(endpoint).__call__)
