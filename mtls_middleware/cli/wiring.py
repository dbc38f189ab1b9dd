"""Finds the layers of mtls-middleware in an application, and the adapters between them and the server.

It reads attributes and calls nothing of the application's.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.client import ClientLayer
from mtls_middleware.layers.token import TokenLayer

Gateway = Literal["WSGI", "ASGI"]

# Applications, middleware and adapters keep the application inside of them under one of these names.
_INNER = ("_app", "app", "wsgi_app", "asgi_app", "wsgi_application", "application", "_application", "wrapped")
_DEPTH = 64
# Package and class of each adapter that serves a WSGI application to an ASGI (or other) server. All of them write
# X_SSL_Client_Cert and X-SSL-Client-Cert into one key of the environ.
_FOLDING = {
    ("a2wsgi", "WSGIMiddleware"),
    ("aiohttp_wsgi", "WSGIHandler"),
    ("asgiref", "WsgiToAsgi"),
    ("hypercorn", "AsyncioWSGIMiddleware"),
    ("hypercorn", "TrioWSGIMiddleware"),
    ("hypercorn", "WSGIWrapper"),
    ("starlette", "WSGIMiddleware"),
    ("tornado", "WSGIContainer"),
    ("twisted", "WSGIResource"),
    ("uvicorn", "WSGIMiddleware"),  # a2wsgi's, if that is installed
    ("uvicorn", "_WSGIMiddleware"),
}
# Serves an ASGI application to a WSGI server, which decides about names.
_UNDER_WSGI = {("a2wsgi", "ASGIMiddleware")}


@dataclass(frozen=True, slots=True)
class Wired:
    """One layer where it was found.

    Attributes:
        layer: the layer.
        gateway: what its class wraps.
        served: what the server itself must serve: other than `gateway` under an adapter.
        folding: the adapter around it that joins header names, as the operator knows it.
        inner: the application inside of it.
    """

    layer: Any
    gateway: Gateway
    served: Gateway
    folding: str | None
    inner: Any


def layers_of(application: Any) -> Iterator[Wired]:
    """The layers around and in `application`, the outermost first."""
    yield from _walk(application, set(), None, None)


def _walk(application: Any, seen: set[int], folding: str | None, served: Gateway | None) -> Iterator[Wired]:
    current = application
    for _ in range(_DEPTH):
        if current is None or id(current) in seen:
            return
        seen.add(id(current))
        if (name := _among(_FOLDING, current)) is not None:
            folding, served = folding or name, served or "ASGI"
        if _among(_UNDER_WSGI, current) is not None:
            served = served or "WSGI"
        layers = _get(current, "_layers")
        for layer in layers if isinstance(layers, tuple) else ():
            if isinstance(layer, (CertificateLayer, TokenLayer, ClientLayer)):
                gateway = _gateway(current)
                yield Wired(layer, gateway, served or gateway, folding, _get(current, "_app"))
        for middleware in _sequence(current, "user_middleware"):  # Starlette's, outermost first
            yield from _walk(_built(middleware), seen, folding, served)
        for inner in (*_routed(current), *_mounted(current)):
            yield from _walk(inner, seen, folding, served)
        current = next((inner for name in _INNER if (inner := _attribute(current, name)) is not None), None)


def takes(application: Any) -> Gateway | None:
    """Which gateway an application is written for, `None` if its signature does not show it."""
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(_get(application, "__call__")):
        return "ASGI"
    if isinstance(_get(application, "_layers"), tuple):
        return _gateway(application)
    try:
        parameters = inspect.signature(application).parameters.values()
    except (TypeError, ValueError):
        return None
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [each for each in parameters if each.default is each.empty]
    return "WSGI" if len(required) == 2 and all(each.kind in plain for each in required) else None


def _gateway(layer: Any) -> Gateway:
    modules = {cls.__module__ for cls in type(layer).__mro__}
    return "WSGI" if "mtls_middleware.wsgi" in modules else "ASGI"


def _get(owner: Any, name: str) -> Any:
    """An attribute, `None` if there is none. A proxy object may raise anything outside of a request."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 (what another project's attribute raises)
        return None


def _among(known: set[tuple[str, str]], owner: Any) -> str | None:
    """Package and class of `owner`, or of a class that it extends, if they are known."""
    for cls in type(owner).__mro__:
        package = cls.__module__.partition(".")[0]
        if (package, cls.__name__) in known:
            return f"{package}'s {cls.__name__}"
    return None


def _sequence(owner: Any, name: str) -> list[Any]:
    value = _get(owner, name)
    return list(value) if isinstance(value, (list, tuple)) else []


def _routed(owner: Any) -> Iterator[Any]:
    """Applications that a router mounts (Starlette, FastAPI)."""
    for route in _sequence(owner, "routes"):
        if _get(route, "routes") is not None:  # a mount; a plain route has an endpoint only
            yield _get(route, "app")


def _mounted(owner: Any) -> Iterator[Any]:
    """Applications of a dispatcher (werkzeug, hypercorn)."""
    mounts = _get(owner, "mounts")
    if isinstance(mounts, dict):
        yield from mounts.values()


def _attribute(owner: Any, name: str) -> Any:
    value = _get(owner, name)
    # A method of the owner, such as Flask's own wsgi_app, is not an application inside of it.
    return None if _get(value, "__self__") is owner or not callable(value) else value


def _built(middleware: Any) -> Any:
    """A layer that Starlette has as `Middleware(cls, ...)`, made around nothing."""
    cls = _get(middleware, "cls")
    if cls is None or not getattr(cls, "__module__", "").startswith("mtls_middleware."):
        return None

    async def nothing(*_: Any) -> None: ...

    return cls(nothing, *middleware.args, **middleware.kwargs)
