"""`require_scopes`: what a Flask view demands of the access token of its request.

Must never know: how a token is judged, which is `route_scopes.py`'s to say. It writes the answer in Flask's way.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import flask

from mtls_middleware.integrations.route_scopes import check_view, decorating
from mtls_middleware.responses import LayerResponse

View = TypeVar("View", bound=Callable[..., Any])

_EXAMPLE = (
    '@app.get("/invoices") above @require_scopes("invoices:read") above the view; '
    "a class based view has decorators = [require_scopes(...)]"
)


def require_scopes(
    *scopes: str, realm: str | None = None, resource_metadata: str | None = None
) -> Callable[[View], View]:
    """Decorate a view, sync or async, that needs an access token with all of `scopes`; without any, a token.

    It stands below the route: above it, Flask has the bare view already, and nothing is checked. A class based view
    has it in `decorators`.

    Arguments:
        scopes: the single scopes, a text each.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1), as the layer has them.

    Raises `ConfigurationError`. Answers: 401 without token, 403 `insufficient_scope`, 500 without our layers.

    Example: `@require_scopes("invoices:read")`, and in the view `access_token(flask.request).subject`
    """
    demanded = decorating(scopes, _EXAMPLE, realm=realm, resource_metadata=resource_metadata)

    def decorate(view: View) -> View:
        check_view(view, _EXAMPLE)

        @functools.wraps(view)
        def checked(*arguments: Any, **named: Any) -> Any:
            request = flask.request
            found = demanded.judge(request.environ, method=request.method, path=request.path)
            if isinstance(found, LayerResponse):
                flask.abort(flask.Response(found.body, found.status, headers=list(found.headers)))
            return flask.current_app.ensure_sync(view)(*arguments, **named)

        return cast("View", checked)

    return decorate
