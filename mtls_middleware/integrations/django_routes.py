"""`require_scopes` and `require_certificate`: decorators for Django views that require a token or a certificate."""

import functools
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse

from mtls_middleware.accessors import carrier
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.route_checks import RouteCertificate, RouteCheck, check_view, decorator_scopes
from mtls_middleware.responses import LayerResponse
from mtls_middleware.rule import Rule

View = TypeVar("View", bound=Callable[..., Any])

_EXAMPLE = (
    '@require_scopes("invoices:read") above the view; for class-based views '
    'path("invoices", require_scopes("invoices:read")(Invoices.as_view())), and above a method '
    '@method_decorator(require_scopes("invoices:read"))'
)
_CERTIFICATE_EXAMPLE = (
    '@require_certificate(Subject("CN=ops,O=Acme")) above the view; for class-based views '
    'path("admin", require_certificate(...)(Admin.as_view())), and above a method '
    "@method_decorator(require_certificate(...))"
)


def require_scopes(
    *scopes: str, realm: str | None = None, resource_metadata: str | None = None
) -> Callable[[View], View]:
    """Return a decorator that requires an access token with all of `scopes` for a view, sync or async.

    Without `scopes`, any access token is accepted.

    For a class-based view, apply the decorator to the result of `as_view()`, or use Django's `method_decorator` on a
    method or on `dispatch`. Decorators above this decorator run first, so write a decorator that caches responses below
    this decorator.

    Arguments:
        scopes: the required scopes, one string for each scope.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1). Use the values of the layer.

    Raises `ConfigurationError` for an invalid argument. The response is 401 without a token, 403 `insufficient_scope`
    if a scope is missing, and 500 if no layer of `mtls_middleware` wraps the application.

    Example: `@require_scopes("invoices:read")`, and in the view `route_token(request).subject`
    """
    return _decorator(decorator_scopes(scopes, _EXAMPLE, realm=realm, resource_metadata=resource_metadata), _EXAMPLE)


def require_certificate(rule: Rule | None = None) -> Callable[[View], View]:
    """Return a decorator that requires a client certificate for a view, sync or async.

    With `rule`, the certificate must match the rule. Without `rule`, any verified certificate is accepted. The rule
    applies in addition to `allow=` of the layer. The value of the path in `allow=` may be `ANYONE`.

    Apply this decorator to class-based views in the same way as `require_scopes`.

    Raises `ConfigurationError` for an object that is not a rule. Convert a function with `policy.as_rule`. The response
    is 403 `client_certificate_required` without a certificate, 403 `client_certificate_refused` if the rule does not
    allow the certificate, and 500 if no layer of `mtls_middleware` wraps the application.

    Example: `@require_certificate(Subject("CN=ops,O=Acme"))`, and in the view `route_certificate(request).subject`
    """
    return _decorator(RouteCertificate(rule), _CERTIFICATE_EXAMPLE)


def _decorator(check: RouteCheck[Any], example: str) -> Callable[[View], View]:
    def rejection(request: Any) -> HttpResponse | None:
        try:
            result = check.check(carrier(request), method=request.method, path=request.path_info)
        except (TypeError, AttributeError):
            raise ConfigurationError(
                f"the function that {check.decorator} decorates did not receive a request; expected a view, for "
                f"example {example}"
            ) from None
        return http_response(request.method, result) if isinstance(result, LayerResponse) else None

    def decorate(view: View) -> View:
        check_view(check, view, example)

        @functools.wraps(view)
        async def async_wrapper(request: Any, *arguments: Any, **named: Any) -> Any:
            response = rejection(request)
            return await view(request, *arguments, **named) if response is None else response

        @functools.wraps(view)
        def sync_wrapper(request: Any, *arguments: Any, **named: Any) -> Any:
            response = rejection(request)
            return view(request, *arguments, **named) if response is None else response

        return cast("View", async_wrapper if iscoroutinefunction(view) else sync_wrapper)

    return decorate


class _AwaitableResponse(HttpResponse):
    """A response that can also be awaited.

    For an async class-based view, Django awaits the result of `dispatch`, although `dispatch` itself is not async.
    """

    def __await__(self) -> Generator[None, None, "_AwaitableResponse"]:
        yield from ()
        return self


def http_response(method: str, response: LayerResponse) -> HttpResponse:
    """Return the response of a layer as a response of Django. Example: `http_response(request.method, response)`"""
    body = b"" if method == "HEAD" else response.body
    return _AwaitableResponse(body, status=response.status, headers=dict(response.headers))
