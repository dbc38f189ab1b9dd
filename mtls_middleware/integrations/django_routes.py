"""`require_scopes`: what a Django view demands of the access token of its request, under WSGI and ASGI.

Must never know: how a token is judged, which is `route_scopes.py`'s to say. It writes the answer in Django's way.
"""

import functools
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse

from mtls_middleware.accessors import carrier
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.route_scopes import check_view, decorating
from mtls_middleware.responses import LayerResponse

View = TypeVar("View", bound=Callable[..., Any])

_EXAMPLE = (
    '@require_scopes("invoices:read") above the view; for class based views '
    'path("invoices", require_scopes("invoices:read")(Invoices.as_view())), and above a method '
    '@method_decorator(require_scopes("invoices:read"))'
)


def require_scopes(
    *scopes: str, realm: str | None = None, resource_metadata: str | None = None
) -> Callable[[View], View]:
    """Decorate a view, sync or async, that needs an access token with all of `scopes`; without any, a token.

    It stands around what `as_view()` gives, and by Django's `method_decorator` above a method, or `dispatch`. A
    decorator above it runs before it: one that caches answers must stand below.

    Arguments:
        scopes: the single scopes, a text each.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1), as the layer has them.

    Raises `ConfigurationError`. Answers: 401 without token, 403 `insufficient_scope`, 500 without our layers.

    Example: `@require_scopes("invoices:read")`, and in the view `access_token(request).subject`
    """
    demanded = decorating(scopes, _EXAMPLE, realm=realm, resource_metadata=resource_metadata)

    def refusal(request: Any) -> HttpResponse | None:
        try:
            found = demanded.judge(carrier(request), method=request.method, path=request.path_info)
        except (TypeError, AttributeError):
            raise ConfigurationError(f"require_scopes around what gets no request: for example {_EXAMPLE}") from None
        return _response(request.method, found) if isinstance(found, LayerResponse) else None

    def decorate(view: View) -> View:
        check_view(view, _EXAMPLE)

        @functools.wraps(view)
        async def awaited(request: Any, *arguments: Any, **named: Any) -> Any:
            refused = refusal(request)
            return await view(request, *arguments, **named) if refused is None else refused

        @functools.wraps(view)
        def called(request: Any, *arguments: Any, **named: Any) -> Any:
            refused = refusal(request)
            return view(request, *arguments, **named) if refused is None else refused

        return cast("View", awaited if iscoroutinefunction(view) else called)

    return decorate


class _Response(HttpResponse):
    """`dispatch` of an async class is not async, and yet Django awaits what it gives: this may be awaited, or not."""

    def __await__(self) -> Generator[None, None, "_Response"]:
        yield from ()
        return self


def _response(method: str, answer: LayerResponse) -> HttpResponse:
    body = b"" if method == "HEAD" else answer.body
    return _Response(body, status=answer.status, headers=dict(answer.headers))
