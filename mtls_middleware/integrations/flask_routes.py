"""`require_scopes`: a decorator for Flask views that require an access token with scopes."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import flask

from mtls_middleware.integrations.route_scopes import check_view, decorator_scopes
from mtls_middleware.responses import LayerResponse

View = TypeVar("View", bound=Callable[..., Any])

_EXAMPLE = (
    '@app.get("/invoices") above @require_scopes("invoices:read") above the view; '
    "for a class-based view decorators = [require_scopes(...)]"
)


def require_scopes(
    *scopes: str, realm: str | None = None, resource_metadata: str | None = None
) -> Callable[[View], View]:
    """Return a decorator that requires an access token with all of `scopes` for a view, sync or async.

    Without `scopes`, any access token is accepted.

    Write this decorator below the route decorator. Above the route decorator, it checks nothing, because Flask has
    already registered the undecorated view. For a class-based view, put this decorator into the list `decorators`.

    Arguments:
        scopes: the required scopes, one string for each scope.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1). Use the values of the layer.

    Raises `ConfigurationError` for an invalid argument. The response is 401 without a token, 403 `insufficient_scope`
    if a scope is missing, and 500 if no layer of `mtls_middleware` wraps the application.

    Example: `@require_scopes("invoices:read")`, and in the view `access_token(flask.request).subject`
    """
    route_scopes = decorator_scopes(scopes, _EXAMPLE, realm=realm, resource_metadata=resource_metadata)

    def decorate(view: View) -> View:
        check_view(view, _EXAMPLE)

        @functools.wraps(view)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            request = flask.request
            result = route_scopes.check(request.environ, method=request.method, path=request.path)
            if isinstance(result, LayerResponse):
                flask.abort(flask.Response(result.body, result.status, headers=list(result.headers)))
            return flask.current_app.ensure_sync(view)(*arguments, **named)

        return cast("View", wrapper)

    return decorate
