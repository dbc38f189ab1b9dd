"""Finds the layers of mtls-middleware in an application, and the adapters between the layers and the server.

This module reads the attributes of the application, and calls none of the application's functions.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.client import ClientLayer
from mtls_middleware.layers.token import TokenLayer

Gateway = Literal["WSGI", "ASGI"]

# The attributes in which applications, middleware and adapters store the application that they wrap.
_INNER_NAMES = (
    "_app",
    "app",
    "wsgi_app",
    "asgi_app",
    "wsgi_application",
    "application",
    "_application",
    "wrapped",
)
_MAX_DEPTH = 64
# Package and class of each adapter that runs a WSGI application on an ASGI (or other) server. Every adapter writes
# X_SSL_Client_Cert and X-SSL-Client-Cert into the same key of the environ.
_FOLDING_ADAPTERS = {
    ("a2wsgi", "WSGIMiddleware"),
    ("aiohttp_wsgi", "WSGIHandler"),
    ("asgiref", "WsgiToAsgi"),
    ("hypercorn", "AsyncioWSGIMiddleware"),
    ("hypercorn", "TrioWSGIMiddleware"),
    ("hypercorn", "WSGIWrapper"),
    ("starlette", "WSGIMiddleware"),
    ("tornado", "WSGIContainer"),
    ("twisted", "WSGIResource"),
    ("uvicorn", "WSGIMiddleware"),  # uvicorn uses the class of a2wsgi if a2wsgi is installed
    ("uvicorn", "_WSGIMiddleware"),
}
# The packages whose classes, outside of their modules `middleware`, are applications and not middleware.
_FRAMEWORKS = frozenset(
    {"aiohttp", "asgiref", "bottle", "cherrypy", "django", "falcon", "fastapi", "flask", "litestar", "pyramid", "quart"}
    | {"starlette", "tornado", "twisted"}
)
# The adapters that run an ASGI application on a WSGI server. The WSGI server decides whether X_SSL_Client_Cert and
# X-SSL-Client-Cert arrive under the same name.
_ASGI_ON_WSGI_ADAPTERS = {("a2wsgi", "ASGIMiddleware")}


@dataclass(frozen=True, slots=True)
class LayerPlacement:
    """A layer and its place in the application.

    Attributes:
        layer: the layer of mtls-middleware.
        gateway: the interface of the application that the layer wraps.
        served: the interface that the server calls. It differs from `gateway` if an adapter is between the server and
            the layer.
        folding: the name of the adapter around the layer that joins header names, or `None`.
        inner: the application that the layer wraps.
        is_mounted: whether the layer is in an application that another application mounts at a path.
        outside: the names of other middleware around the layer, the outermost first.
    """

    layer: Any
    gateway: Gateway
    served: Gateway
    folding: str | None
    inner: Any
    is_mounted: bool = False
    outside: tuple[str, ...] = ()


def layers_of(application: Any) -> Iterator[LayerPlacement]:
    """Yield the layers around and inside `application`, outermost first."""
    yield from _walk(application, set(), None, None, ())


def _walk(
    application: Any, seen: set[int], folding: str | None, served: Gateway | None, outside: tuple[str, ...]
) -> Iterator[LayerPlacement]:
    current = application
    for _ in range(_MAX_DEPTH):
        if current is None or id(current) in seen:
            return
        seen.add(id(current))
        if (name := _known_class(_FOLDING_ADAPTERS, current)) is not None:
            folding, served = folding or name, served or "ASGI"
        if _known_class(_ASGI_ON_WSGI_ADAPTERS, current) is not None:
            served = served or "WSGI"
        layers = _get(current, "layers")
        for layer in layers if isinstance(layers, tuple) else ():
            if isinstance(layer, (CertificateLayer, TokenLayer, ClientLayer)):
                gateway = _gateway_of_layer(current)
                yield LayerPlacement(
                    layer, gateway, served or gateway, folding, _get(current, "application"), False, outside
                )
        for gateway, layer in _django_layers(current):
            yield LayerPlacement(layer, gateway, served or gateway, folding, None, False, outside)
        for middleware in _sequence(current, "user_middleware"):  # Starlette lists middleware outermost first
            layer = _starlette_layer(middleware)
            yield from _walk(layer, seen, folding, served, outside)
            if layer is None:
                outside += (_name(_get(middleware, "cls")),)
        for inner in (*_router_mounts(current), *_dispatcher_mounts(current)):
            yield from (replace(each, is_mounted=True) for each in _walk(inner, seen, folding, served, outside))
        if _is_middleware(current):
            outside += (_name(type(current)),)
        inner_applications = (_inner_application(current, name) for name in _INNER_NAMES)
        current = next((inner for inner in inner_applications if inner is not None), None)


def gateway_of_application(application: Any) -> Gateway | None:
    """Return the interface that an application implements, or `None` if its signature does not show the interface."""
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(_get(application, "__call__")):
        return "ASGI"
    if isinstance(_get(application, "layers"), tuple):
        return _gateway_of_layer(application)
    try:
        parameters = inspect.signature(application).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    return "WSGI" if len(required) == 2 and all(parameter.kind in positional for parameter in required) else None


# The handlers of Django, and the interface of each handler.
_DJANGO_HANDLERS: dict[tuple[str, str], Gateway] = {
    ("django", "WSGIHandler"): "WSGI",
    ("django", "ASGIHandler"): "ASGI",
}


def _django_layers(application: Any) -> Iterator[tuple[Gateway, Any]]:
    """Yield the layers of `ClientCertificateMiddleware` in Django's `MIDDLEWARE`, the outermost first."""
    cls = type(application)
    gateway = _DJANGO_HANDLERS.get((cls.__module__.partition(".")[0], cls.__name__))
    current = None if gateway is None else _get(application, "_middleware_chain")
    for _ in range(_MAX_DEPTH):
        if current is None or gateway is None:
            return
        if type(current).__module__.startswith("mtls_middleware.integrations."):
            for layer in _get(current, "layers") or ():
                yield gateway, layer
        # The attributes that hold the next callable: of the function that Django wraps around a middleware, of the
        # middleware itself, and of asgiref's SyncToAsync and AsyncToSync.
        found = (_get(current, name) for name in ("__wrapped__", "get_response", "func", "awaitable"))
        current = next((each for each in found if each is not None), None)


def _gateway_of_layer(layer: Any) -> Gateway:
    modules = {cls.__module__ for cls in type(layer).__mro__}
    return "WSGI" if "mtls_middleware.wsgi" in modules else "ASGI"


def _get(owner: Any, name: str) -> Any:
    """Return the value of an attribute, or `None` if the attribute is missing or reading it raises an exception.

    Outside a request, a proxy object may raise any exception.
    """
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 (a property may raise any exception)
        return None


def _known_class(known: set[tuple[str, str]], owner: Any) -> str | None:
    """Return the package and name of the first class of `owner` that `known` contains, or `None`.

    The classes of `owner` are its own class and the base classes.
    """
    for cls in type(owner).__mro__:
        package = cls.__module__.partition(".")[0]
        if (package, cls.__name__) in known:
            return f"{package}'s {cls.__name__}"
    return None


def _name(cls: Any) -> str:
    return f"{getattr(cls, '__module__', '').partition('.')[0]}'s {getattr(cls, '__qualname__', 'middleware')}"


def _is_middleware(owner: Any) -> bool:
    """Return whether this object wraps one application, and is not a layer, a framework, an adapter or a router."""
    cls = type(owner)
    module = cls.__module__
    if module.startswith("mtls_middleware.") or inspect.isroutine(owner):
        return False
    if _known_class(_FOLDING_ADAPTERS | _ASGI_ON_WSGI_ADAPTERS, owner) is not None:
        return False
    if module.partition(".")[0] in _FRAMEWORKS and "middleware" not in module:
        return False
    return all(_get(owner, name) is None for name in ("mounts", "routes", "url_map", "user_middleware"))


def _sequence(owner: Any, name: str) -> list[Any]:
    value = _get(owner, name)
    return list(value) if isinstance(value, (list, tuple)) else []


def _router_mounts(owner: Any) -> Iterator[Any]:
    """Yield the applications that a router mounts (Starlette, FastAPI)."""
    for route in _sequence(owner, "routes"):
        if _get(route, "routes") is not None:  # only a mount has the attribute `routes`; a plain route has an endpoint
            yield _get(route, "app")


def _dispatcher_mounts(owner: Any) -> Iterator[Any]:
    """Yield the applications that a dispatcher mounts (werkzeug, hypercorn)."""
    mounts = _get(owner, "mounts")
    if isinstance(mounts, dict):
        yield from mounts.values()


def _inner_application(owner: Any, name: str) -> Any:
    value = _get(owner, name)
    # A bound method of the owner, such as Flask's own wsgi_app, is not an inner application.
    return None if _get(value, "__self__") is owner or not callable(value) else value


def _starlette_layer(middleware: Any) -> Any:
    """Build the layer that Starlette keeps as `Middleware(cls, ...)`, around an empty application.

    Returns `None` if the class is not from this package.
    """
    cls = _get(middleware, "cls")
    if cls is None or not getattr(cls, "__module__", "").startswith("mtls_middleware."):
        return None

    async def empty_application(*_: Any) -> None: ...

    return cls(empty_application, *middleware.args, **middleware.kwargs)
