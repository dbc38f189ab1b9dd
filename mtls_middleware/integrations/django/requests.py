"""Adapts Django's requests to the interface of a gateway's requests. The path is the path that Django routes on."""

from typing import Any

from mtls_middleware.asgi_request import ASGIRequest
from mtls_middleware.path_readings import Location
from mtls_middleware.request import TESTING_KEY
from mtls_middleware.wsgi_request import WSGIRequest, keys


class WSGIGatewayRequest(WSGIRequest):
    """A `GatewayRequest` of Django's `WSGIRequest`."""

    __slots__ = ("_path",)

    def __init__(self, request: Any) -> None:
        environ = request.environ
        # Django's test client creates the environ itself, so no header name was folded. No real client can send this
        # object.
        if type(environ.get("wsgi.input")).__module__ == "django.test.client":
            environ.setdefault(TESTING_KEY, True)
        super().__init__(environ)
        self._path: str = request.path_info

    @property
    def path(self) -> str:
        return self._path

    @property
    def location(self) -> Location:
        return Location(self._path)


class ASGIGatewayRequest(ASGIRequest):
    """A `GatewayRequest` of Django's `ASGIRequest`."""

    __slots__ = ("_path",)

    def __init__(self, request: Any) -> None:
        super().__init__(request.scope)
        self._path: str = request.path_info

    @property
    def path(self) -> str:
        return self._path

    @property
    def location(self) -> Location:
        return Location(self._path)


def hide(request: Any, names: frozenset[str]) -> None:
    """Remove header fields from the data that Django read from the server before the middleware ran.

    `names`: in lower case, with hyphens. Example: `hide(request, stack.drop_headers)`
    """
    for key in keys(names):
        request.META.pop(key, None)
    vars(request).pop("headers", None)  # Django computes `headers` from META again when it is read
