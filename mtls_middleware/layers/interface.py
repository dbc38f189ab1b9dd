"""`Layer`: what a layer is to the gateways."""

from typing import Any, Protocol

from mtls_middleware.effects.flow import Decision
from mtls_middleware.errors import Refused
from mtls_middleware.layers import decisions
from mtls_middleware.layers.paths import PathSet
from mtls_middleware.path_readings import one_answer
from mtls_middleware.request import RequestView
from mtls_middleware.resource_server.metadata import ServedDocument
from mtls_middleware.responses import LayerResponse

# Seconds that a client may take to send a body that a layer reads: a form of some hundred octets.
_LONGEST_BODY = 60.0


class Layer(decisions.Layer, Protocol):
    """One layer's decision, as the gateways drive it. `name` is also that of what it finds, in `Attached`."""

    @property
    def drop_headers(self) -> frozenset[str]:
        """Field names, lower case with dashes, that the application must not see in any spelling."""

    @property
    def vary(self) -> str | None: ...
    @property
    def body_paths(self) -> PathSet | None:
        """The paths where a POST is decided with its body in view, `MAX_BODY` octets at most."""

    @property
    def root_path(self) -> str | None:
        """The operator's statement of where the application is mounted."""

    @property
    def published(self) -> ServedDocument | None:
        """A document that the layer serves itself, to every client."""

    def decide(self, view: RequestView) -> Decision[Any]:
        """What is to be attached. Raises `Refused`, and whatever else goes wrong."""


def does_more(layer: Layer) -> bool:
    """Whether the layer is to be asked for a document, or wants to see bodies: few do."""
    return layer.published is not None or layer.body_paths is not None


def document(layer: Layer, view: RequestView) -> LayerResponse | None:
    """What the layer publishes, where this request asks for it: no token, and no application, has to do with that."""
    published = layer.published
    if published is None or not one_answer(view.location, lambda path: path == published.path):
        return None
    if view.method not in ("GET", "HEAD"):
        raise Refused("read_only", f"{view.method} of a document")
    return published.answer


def reads_body(layer: Layer, view: RequestView) -> bool:
    """Whether the layer decides on this request with its body."""
    return view.method == "POST" and layer.body_paths is not None and layer.body_paths.covers(view)


def after_body(begun: float, now: float) -> float:
    """The time to decide at, if reading the body of a request that began at `begun` ended at `now`.

    Raises `Refused` after a minute. The layers further out have decided about the certificate before the body came: a
    client must not be able to begin requests with a valid certificate, and complete them when it has expired.
    """
    if now - begun > _LONGEST_BODY:
        raise Refused("invalid_request", f"the body took {now - begun:.0f} s; expected: at most {_LONGEST_BODY:g} s")
    return now
