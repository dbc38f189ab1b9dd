"""`Stack`: the layers of one gateway, and the order in which they decide about a request."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Protocol

from mtls_middleware.effects.flow import Call, Flow, ask
from mtls_middleware.errors import Refused
from mtls_middleware.layers.decision_cache import DecisionCache
from mtls_middleware.layers.interface import DeclaredView, Facts, FactsReader, Layer, LayerRequest
from mtls_middleware.layers.paths import one_root
from mtls_middleware.layers.websocket_lifetime import Recheck, rechecks
from mtls_middleware.responses import LayerResponse
from mtls_middleware.reusable import Reusable

# Maximum number of seconds for a client to send a body that a layer reads. Such a body is a form of some hundred bytes.
_LONGEST_BODY = 60.0


class GatewayRequest(LayerRequest, Protocol):
    """The interface of a gateway's request that a stack uses."""

    layer: Layer  # the layer that is deciding, or that decided last
    body: bytes
    now: float
    cache_key: Hashable | None
    is_websocket: bool
    rechecks: list[tuple[Layer, Recheck]]  # the checks to repeat while a websocket is open

    def mount(self, root: str) -> None:
        """Write the operator's `root_path=` into the environ or scope, so that the application uses it."""

    def drop(self, names: frozenset[str]) -> None:
        """Remove these fields from the request, for the application and for the inner layers."""

    def read_body(self) -> Any:
        """Read the whole body into `body`, and set `now` again. Under ASGI, this is a coroutine function.

        Raises `Refused`.
        """


class Stack:
    """The layers of one gateway, the outermost first. `reader`: see `DecisionCache`."""

    def __init__(self, layers: tuple[Layer, ...], reader: Callable[[Facts], FactsReader]) -> None:
        self.layers = layers
        self.root_path: str | None = one_root(layer.root_path for layer in layers)
        self.drop_headers: frozenset[str] = _union(layers)
        self.vary: tuple[str, ...] = tuple(layer.vary for layer in layers if layer.vary is not None)
        self._cache = DecisionCache(layers, reader)
        self._cached = len(self._cache.names)
        self._cached_headers = _union(layers[: self._cached])
        self._with_headers = [(layer, _union((layer,))) for layer in layers]

    def recall(self, request: GatewayRequest) -> int:
        """Attach the cached decisions about this request, if any decision is cached.

        Returns the number of layers with a cached decision. They are the outermost layers.
        """
        request.layer = self.layers[0]
        if self.root_path is not None:
            request.mount(self.root_path)
        if request.is_websocket:  # a layer adds the checks to repeat for a websocket when it decides
            return 0
        if not self._cache.recall(request):
            return 0
        request.layer = self.layers[self._cached - 1]
        if self._cached == len(self.layers):
            request.attached.cached = True
        else:
            request.drop(self._cached_headers)
        return self._cached

    def decide(self, request: GatewayRequest, first: int = 0) -> Flow[LayerResponse | None]:
        """Let the layers decide one after the other, from the layer with the number `first` to the innermost layer.

        Returns `None`, or a response that replaces that of the application. Raises `Refused`, or any other exception
        for an error in the code or configuration. `request.layer` is then the layer that raised the exception.
        """
        key = None if first else request.cache_key
        decided: list[Reusable[Any]] = []
        for layer, drop_headers in self._with_headers[first:]:
            request.layer = layer
            if not request.is_websocket:
                if (document := layer.document(request)) is not None:
                    return document
                if _reads_body(layer, request):
                    yield from _read_body(request)
            route = layer.fixed_route or layer.route(request)
            view: Any = request if layer.facts is None else DeclaredView(request, layer.facts)
            found = yield from layer.decide(view, route)
            request.attached.set(layer.name, found.value)
            if request.is_websocket:
                request.rechecks += rechecks(layer, request)
            request.drop(drop_headers)
            decided.append(found)
        if key is not None:  # cache the decisions, because every layer has accepted the request
            self._cache.store(key, decided[: self._cached])
        return None


def _union(layers: tuple[Layer, ...]) -> frozenset[str]:
    """The names of all fields that these layers drop."""
    return _first_of_equals(frozenset[str]().union(*(layer.drop_headers for layer in layers)))


@lru_cache(maxsize=64)
def _first_of_equals(names: frozenset[str]) -> frozenset[str]:
    """Return the first of all equal sets, so that equal sets are one object.

    The gateways look up data by such a set for each request. A look-up by an equal set that is another object takes
    1 us more (benchmark 10).
    """
    return names


def _reads_body(layer: Layer, request: LayerRequest) -> bool:
    return layer.body_paths is not None and request.method == "POST" and layer.body_paths.covers(request)


def _read_body(request: GatewayRequest) -> Flow[None]:
    """Read the body. Raises `Refused` if the client does not send the whole body within a minute.

    The outer layers decide about the certificate before the body arrives. Without this limit, a client could begin a
    request with a valid certificate, and complete it after the certificate has expired.
    """
    begun = request.now
    yield from ask(Call(request.read_body, ()))
    if request.now - begun > _LONGEST_BODY:
        seconds = f"{request.now - begun:.0f}"
        raise Refused("invalid_request", f"the body took {seconds} s; expected at most {_LONGEST_BODY:g} s")
