"""Defines `require_scopes` and `require_certificate` for Flask views, and `current_certificate`."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import flask
from werkzeug.local import LocalProxy

from mtls_middleware.accessors import client_certificate
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.integrations.route_checks import RouteCertificate, RouteCheck, check_view, decorator_scopes
from mtls_middleware.responses import LayerResponse
from mtls_middleware.rule import Rule

View = TypeVar("View", bound=Callable[..., Any])

_EXAMPLE = (
    '@app.get("/invoices") above @require_scopes("invoices:read") above the view; '
    "for a class-based view decorators = [require_scopes(...)]"
)
_CERTIFICATE_EXAMPLE = (
    '@app.get("/admin") above @require_certificate(Subject("CN=ops,O=Acme")) above the view; '
    "for a class-based view decorators = [require_certificate(...)]"
)


def _certificate_of_request() -> ClientCertificate:
    found = client_certificate(flask.request)
    if found is None:
        # Flask's own proxies do the same: `bool(current_certificate)` is then `False`.
        raise RuntimeError(
            "this request has no client certificate: test `if current_certificate:` before, or protect the route with "
            "@require_certificate()"
        )
    return found


# The client certificate of the current request: a proxy for a `ClientCertificate`, like Flask's `current_app`. Without
# a certificate, `bool(current_certificate)` is `False`, and reading an attribute raises `RuntimeError`. Do not compare
# it with `None`: a proxy is never `None`. The certificate may be unverified: see `ClientCertificate.verification`.
current_certificate: ClientCertificate = cast("ClientCertificate", LocalProxy(_certificate_of_request))


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

    Example: `@require_scopes("invoices:read")`, and in the view `route_token(flask.request).subject`
    """
    return _decorator(decorator_scopes(scopes, _EXAMPLE, realm=realm, resource_metadata=resource_metadata), _EXAMPLE)


def require_certificate(rule: Rule | None = None) -> Callable[[View], View]:
    """Return a decorator that requires a client certificate for a view, sync or async.

    With `rule`, the certificate must match the rule. Without `rule`, any verified certificate is accepted. The rule
    applies in addition to `allow=` of the layer. The value of the path in `allow=` may be `ANYONE`.

    Write this decorator below the route decorator, like `require_scopes`.

    Raises `ConfigurationError` for an object that is not a rule. Convert a function with `policy.as_rule`. The response
    is 403 `client_certificate_required` without a certificate, 403 `client_certificate_refused` if the rule does not
    allow the certificate, and 500 if no layer of `mtls_middleware` wraps the application.

    Example: `@require_certificate(Subject("CN=ops,O=Acme"))`, and in the view `route_certificate(flask.request)`
    """
    return _decorator(RouteCertificate(rule), _CERTIFICATE_EXAMPLE)


def _decorator(check: RouteCheck[Any], example: str) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        check_view(check, view, example)

        @functools.wraps(view)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            request = flask.request
            result = check.check(request.environ, method=request.method, path=request.path)
            if isinstance(result, LayerResponse):
                flask.abort(flask.Response(result.body, result.status, headers=list(result.headers)))
            return flask.current_app.ensure_sync(view)(*arguments, **named)

        return cast("View", wrapper)

    return decorate
