"""Defines the interface of a layer, and the facts of a request that a layer may read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mtls_middleware.cache import Cache
from mtls_middleware.effects.flow import Flow
from mtls_middleware.layers.attached import Attached
from mtls_middleware.layers.paths import PathSet
from mtls_middleware.path_readings import Location
from mtls_middleware.request import Peer, RequestView, TLSFacts
from mtls_middleware.responses import Challenge, LayerResponse
from mtls_middleware.reusable import Reusable
from mtls_middleware.sources.server import tls_only


class LayerRequest(RequestView, Protocol):
    """The request that a layer receives."""

    @property
    def attached(self) -> Attached:
        """The results of the outer layers, including the outer layers of the same gateway."""

    @property
    def body(self) -> bytes:
        """The body of the request if a layer reads it; otherwise empty bytes."""

    @property
    def origin(self) -> str | None:
        """The peer's address. It is used only to share connections fairly among clients. No decision depends on it."""


@dataclass(frozen=True)
class Facts:
    """The facts of a request that a layer reads, in addition to the route and to the results of outer layers.

    Attributes:
        fields: names of header fields, in lower case.
        peer: whether the layer reads the peer.
        tls: whether the layer reads what the server reports about the TLS connection.
        credentials: whether the layer reads the `Authorization` field, and looks for a token in the query.
        single_lines: names of header fields, in lower case. The layer reads whether each has exactly one field line.
    """

    fields: frozenset[str] = frozenset()
    peer: bool = False
    tls: bool = False
    credentials: bool = False
    single_lines: frozenset[str] = frozenset()

    def __or__(self, other: "Facts") -> "Facts":
        return Facts(
            self.fields | other.fields,
            self.peer or other.peer,
            self.tls or other.tls,
            self.credentials or other.credentials,
            self.single_lines | other.single_lines,
        )


class Route(NamedTuple):
    """The part of a decision that depends on the method, the path and the CORS fields of the request.

    A layer computes the route of every request. Only the rest of a decision is cached.

    Attributes:
        exempt: whether the layer never rejects the request.
        rule: the position of the path's rule among the layer's rules; `None` if no rule applies.
    """

    exempt: bool = False
    rule: int | None = None


class Layer(Protocol):
    """One layer. The attribute of `Attached` with the name `name` contains the object that the layer accepts."""

    @property
    def name(self) -> str: ...
    @property
    def challenge(self) -> Challenge: ...
    @property
    def facts(self) -> Facts | None:
        """The facts that the layer reads.

        `None` means that the layer may read anything, so its decisions are never cached.
        """

    @property
    def fixed_route(self) -> Route | None:
        """The route of every request, if the layer depends on neither the method nor the path; otherwise `None`."""

    @property
    def drop_headers(self) -> frozenset[str]:
        """The names of the fields that the application must not see in any spelling, in lower case and with hyphens."""

    @property
    def vary(self) -> str | None:
        """The value of the response field `Vary`: the names of the request fields on which the response depends."""

    @property
    def body_paths(self) -> PathSet | None:
        """The paths where the layer reads the body of a POST, up to `MAX_BODY` bytes."""

    @property
    def root_path(self) -> str | None:
        """The argument `root_path=`: where the application is mounted."""

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches of the source, the trust store or the validator of the layer.

        These caches share one memory with the caches of the other layers of the stack.
        """

    @property
    def cache_size(self) -> int | None:
        """The maximum size in bytes of the memory of `caches`, if the operator gave one to this layer."""

    def route(self, request: LayerRequest) -> Route:
        """Return the route of a request.

        Raises `Refused` if frameworks read the path in different ways, and different rules apply to the results.
        """

    def document(self, request: LayerRequest) -> LayerResponse | None:
        """Return the document that the layer itself serves, if this request is for it; otherwise `None`.

        Raises `Refused`.
        """

    def decide(self, request: LayerRequest, route: Route) -> Flow[Reusable[Any]]:
        """Return the object to attach to the request, such as a `ClientCertificate`.

        Raises `Refused` to reject the request, or any other exception for an error in the code or configuration.
        """


class UndeclaredFact(RuntimeError):  # noqa: N818 (a defect of a layer, which the first test of that layer shows)
    """Raised if a layer reads a fact that it did not declare.

    The key of its cached decisions would be incomplete.
    """


class DeclaredView:
    """A `LayerRequest` with only those facts that a layer has declared.

    It has neither the method nor the path nor the body. A layer with declared facts may read the method and the path
    only in `route`.
    """

    __slots__ = ("_facts", "_request")

    def __init__(self, request: LayerRequest, facts: Facts) -> None:
        self._request, self._facts = request, facts

    @property
    def attached(self) -> Attached:
        return self._request.attached

    @property
    def now(self) -> float:
        return self._request.now

    @property
    def origin(self) -> str | None:
        return self._request.origin

    @property
    def peer(self) -> Peer:
        if not self._facts.peer:
            raise UndeclaredFact("peer")
        return self._request.peer

    @property
    def tls(self) -> TLSFacts:
        if not self._facts.tls:
            raise UndeclaredFact("tls")
        return tls_only(self._request.tls)

    @property
    def query(self) -> str:
        if not self._facts.credentials:
            raise UndeclaredFact("query")
        return self._request.query

    def headers(self, name: str) -> Sequence[str]:
        if name not in self._facts.fields and not (self._facts.credentials and name == "authorization"):
            raise UndeclaredFact(name)
        return self._request.headers(name)

    def has_one_line(self, name: str) -> bool:
        if name not in self._facts.single_lines:
            raise UndeclaredFact(f"the lines of {name}")
        return self._request.has_one_line(name)

    @property
    def method(self) -> str:
        raise UndeclaredFact("method")

    @property
    def path(self) -> str:
        raise UndeclaredFact("path")

    @property
    def location(self) -> Location:
        raise UndeclaredFact("location")

    @property
    def body(self) -> bytes:
        raise UndeclaredFact("body")

    def field_names(self) -> Iterable[str]:
        raise UndeclaredFact("field_names")


# A function that reads the declared facts of a request, as a cache key. It returns `None` if the decision must not be
# cached.
FactsReader = Callable[[Any], tuple[object, ...] | None]
