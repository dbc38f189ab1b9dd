"""Adapts Django's requests to the interface of a gateway's requests. The path is the path that Django routes on."""

from typing import Any

from mtls_middleware.asgi_request import ASGIRequest
from mtls_middleware.path_readings import Location
from mtls_middleware.request import TESTING_KEY
from mtls_middleware.wsgi_request import WSGIRequest, keys


class _Routed:
    """What both kinds of request have in common. `_request`: the request of Django."""

    __slots__ = ()

    _request: Any

    @property
    def path(self) -> str:
        path: str = self._request.path_info
        return path

    @property
    def location(self) -> Location:
        return Location(self.path)

    def _forget(self, names: frozenset[str]) -> None:
        """Remove header fields from what Django read from the server before the middleware ran."""
        for key in keys(names):
            self._request.META.pop(key, None)
        vars(self._request).pop("headers", None)  # Django computes `headers` from META when it is read again


class WSGIGatewayRequest(_Routed, WSGIRequest):
    """A `GatewayRequest` of Django's `WSGIRequest`."""

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        environ = request.environ
        # Django's test client creates the environ itself, so no header name was folded. No real client can send this
        # object.
        if type(environ.get("wsgi.input")).__module__ == "django.test.client":
            environ.setdefault(TESTING_KEY, True)
        super().__init__(environ)
        self._request = request

    def hide(self, names: frozenset[str]) -> None:
        """Remove these header fields from the request, and attach the results of the layers."""
        self.place(keys(names))
        self._forget(names)


class ASGIGatewayRequest(_Routed, ASGIRequest):
    """A `GatewayRequest` of Django's `ASGIRequest`."""

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        super().__init__(request.scope)
        self._request = request

    def hide(self, names: frozenset[str]) -> None:
        """Remove these header fields from the request, and attach the results of the layers."""
        self.place(names)
        self._forget(names)


DjangoRequest = WSGIGatewayRequest | ASGIGatewayRequest


def gateway_request(request: Any) -> DjangoRequest:
    """Return a request of Django as the layers see it. Example: `gateway_request(request).path`"""
    return WSGIGatewayRequest(request) if hasattr(request, "environ") else ASGIGatewayRequest(request)
