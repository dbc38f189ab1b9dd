"""An ASGI scope as a `RequestView` (ASGI 3): what its keys mean, and which header fields applications may see.

Must never know: what is decided, or that anything is.
"""

import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from itertools import compress
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.path_readings import Location, inner
from mtls_middleware.request import (
    ORIGINAL_HEADERS_KEY,
    Attached,
    Passage,
    Peer,
    TLSFacts,
    attach,
    attached_to,
    peer_at,
)
from mtls_middleware.wsgi_request import peer_of

Pair = tuple[bytes, bytes]

# Shapes that are remembered, the longest of them in octets, and what a name weighs beside its own: a service's clients
# have some dozen shapes of some twenty names. 2 MB where somebody invents others.
_REMEMBERED, _LONGEST, _WEIGHT = 128, 4096, 32


# What says which resource an application serves; all else is what the server gave.
_OF_APPLICATION = ("type", "method", "path", "raw_path", "root_path", "query_string")


def _is_same(passage: Passage, scope: Mapping[str, Any]) -> bool:
    """A server that uses one scope for several requests gives each its own list of headers."""
    return scope.get("headers") is passage.kept


# The innermost passage that the running code is in. A task begins with its creator's value (PEP 567).
_INNERMOST: ContextVar[Passage | None] = ContextVar("mtls_middleware.passage", default=None)


def enter(passage: Passage) -> Passage | None:
    """The application inside begins to run. Give the result to `leave`."""
    outside = _INNERMOST.get()
    _INNERMOST.set(passage)
    passage.running = True
    return outside


def leave(passage: Passage, outside: Passage | None) -> None:
    """The application inside has ended."""
    passage.running = False
    if _INNERMOST.get() is passage:  # not if Python closes an abandoned coroutine in the middle of another request
        _INNERMOST.set(outside)


def _is_around(passage: Passage) -> bool:
    """Not if its application still runs in another task, as a background task of Starlette does after a response."""
    current = _INNERMOST.get() if passage.running else None
    while current is not None and current is not passage:
        current = None if current.outer is None else current.outer.passage
    return current is passage


class ScopeView:
    """A `RequestView` of a scope. `kept`: the headers that the application may see.

    `prefixes`: those that the application removes from a path by itself.
    """

    __slots__ = ("_carrier", "_fields", "_first", "_prefixes", "_scope", "_shape", "attached", "body", "kept", "now")

    def __init__(
        self, scope: MutableMapping[str, Any], shapes: "Shapes", prefixes: ApplicationPrefixes | None = None
    ) -> None:
        self._carrier = scope
        self._prefixes = prefixes
        self.now: float = time.time()
        self.attached: Attached = attached_to(scope, self.now, _OF_APPLICATION, _is_same, _is_around)
        # A copy: an application changes its scope while a websocket is open, and the websocket is checked again.
        self._scope = self.attached.passage.original
        self.body: bytes = b""
        # ASGI: an iterable, which may be readable once only; a list may grow under way (uvicorn: by trailer fields).
        self.kept: list[Pair] = list(self._scope.get("headers", ()))
        self._scope["headers"] = self.kept
        self.part(shapes)

    def place(self, scope: MutableMapping[str, Any], hidden: frozenset[str]) -> None:
        """Replace the headers in this scope, and attach what was found. `hidden`: the `dropped` of `Shapes`."""
        passage = self.attached.passage
        if passage.hidden:  # of the layers around an application that was tried before
            self.kept = [pair for pair in self.kept if _folded(pair[0]) not in passage.hidden]
        passage.hidden |= hidden
        passage.kept = self.kept
        scope["headers"] = self.kept
        if passage.outer is None:
            scope[ORIGINAL_HEADERS_KEY] = self._scope["headers"]
        attach(scope, self.attached)

    def part(self, shapes: "Shapes") -> None:
        """Keep these fields from the application, and from layers further in."""
        fields = self.kept
        try:
            shape = shapes.of(fields)
        except TypeError:  # not all pairs of octets, as servers give them: each is read this once
            fields = [(bytes(name), bytes(value)) for name, value in fields]
            shape = shapes.of(fields)
        self._fields, self._shape, self._first = fields, shape, shape.first
        self.kept = list(compress(fields, shape.kept))

    def leave(self) -> None:
        """The layer has decided: those further in see no more than the application."""
        self._first = self._shape.first_kept

    @property
    def method(self) -> str:
        if self._scope.get("type") == "websocket":
            return "GET"  # RFC 6455 4.1; ASGI gives none
        found: str = self._scope.get("method", "GET")
        return found

    @property
    def path(self) -> str:
        root, path = self._scope.get("root_path", ""), self._scope["path"]
        return inner(path, root) if root and isinstance(root, str) else str(path)

    @property
    def location(self) -> Location:
        """Frameworks disagree about `root_path`: whether `path` contains it, and where it ends."""
        scope, stated = self._scope, self.attached.root_path
        path, root = scope["path"], scope.get("root_path") or ""
        if _is_routed(scope):
            return Location(path)
        own = () if self._prefixes is None else self._prefixes.now()
        others = _before_mount(scope)
        if stated is not None and root == stated and f"{path}/".startswith(f"{stated}/"):
            return Location(inner(path, stated), root, path, others, own, stated=True)
        whole = root.rstrip("/") + path if isinstance(root, str) else path
        return Location(path, root, whole, others, own)

    def mount(self, root: str) -> None:
        """Write the operator's `root_path=` into the scope, so that the application reads the same path.

        ASGI: `path` contains `root_path`. A path that does not begin with a slash stays: no rule for it exists.
        """
        path = self._scope["path"]
        if not _is_routed(self._scope):
            for scope in (self._scope, self._carrier):
                scope["root_path"] = root
                if path == "" or path.startswith("/"):
                    scope["path"] = root + inner(path, root)
        self.attached.root_path = root

    @property
    def query(self) -> str:
        given = self._scope.get("query_string")
        return bytes(given).decode("latin-1") if given else ""

    @property
    def peer(self) -> Peer:
        """Names come as they were sent, so this peer is not `spoofable`, unless a WSGI server is below this scope."""
        if not self._scope.keys().isdisjoint(_WSGI_KEYS):
            return _peer_of_wsgi(self._scope)
        client = self._scope.get("client")
        if not client or not client[0]:
            return _unnamed(self._scope.get("server"))
        address, port = client[0], client[1]
        forwarded = self.headers("x-forwarded-for")
        ports = self.headers("x-forwarded-port") if forwarded and "x-forwarded-port" in self._first else ()
        if port and not ports and isinstance(address, str) and address not in "".join(forwarded):
            return peer_at(address)  # no header tells of this address, so none has written it
        return _maybe_rewritten(address, port, forwarded, ports)

    @property
    def tls(self) -> TLSFacts:
        return TLSFacts(extension=(self._scope.get("extensions") or {}).get("tls"))

    def headers(self, name: str) -> Sequence[str]:
        at = self._first.get(name)  # with dashes: x_ssl_client_cert is another field here
        if at is None:
            return ()
        value = str(self._fields[at][1], "latin-1")  # also where it is a view, as a middleware may give
        if name not in self._shape.further:
            return (value,)
        return [value, *(str(self._fields[each][1], "latin-1") for each in self._shape.further[name])]

    def field_names(self) -> Iterable[str]:
        return self._first


def _is_routed(scope: Mapping[str, Any]) -> bool:
    """Whether Litestar has chosen the view: its middleware runs then, and finds the path that it chose by in `path`."""
    handler = scope.get("route_handler")
    return handler is not None and "path_template" in scope and type(handler).__name__ != "ASGIRouteHandler"


def _before_mount(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """The whole path, if a mount of Litestar has cut it off `path`."""
    if not getattr(scope.get("route_handler"), "is_mount", False):
        return ()
    return (unquote_to_bytes(scope.get("raw_path") or b"").decode("utf-8", "replace"),)


class Shape(NamedTuple):
    """What follows from the names of a request's fields alone, in the order in which they came."""

    first: Mapping[str, int]  # the place of the first field of each name, which is in lower case
    first_kept: Mapping[str, int]  # the same without those that the application may not see
    further: Mapping[str, Sequence[int]]  # the places of the others, of a name that came more than once
    kept: Sequence[bool]  # of each field, whether the application may see it


_NAME = itemgetter(0)


class Shapes:
    """The shapes of requests, where these fields are kept from the application: in every spelling that it may fold.

    A client sends the same fields in the same order again and again. So what their names mean is found out once, and
    the next request of that shape is taken apart without a look at any name.
    """

    def __init__(self, drop: Iterable[str]) -> None:
        self.dropped: frozenset[str] = frozenset(_folded(name.encode("ascii")) for name in drop)
        self._remembered: dict[tuple[bytes, ...], Shape] = {}

    def of(self, fields: Sequence[Pair]) -> Shape:
        """The shape of a request with these fields. Raises `TypeError` where one is no pair of octets."""
        names = tuple(map(_NAME, fields))
        return self._remembered.get(names) or self._found(names)

    def _found(self, names: tuple[bytes, ...]) -> Shape:
        first: dict[str, int] = {}
        further: dict[str, list[int]] = {}
        for at, name in enumerate(names):
            if not isinstance(name, bytes):
                raise TypeError(f"{type(name).__name__} as the name of a field")
            lower = name.lower().decode("latin-1")
            if first.setdefault(lower, at) != at:
                further.setdefault(lower, []).append(at)
        kept = [_folded(name) not in self.dropped for name in names]  # alike for all fields of one name
        shape = Shape(first, {name: at for name, at in first.items() if kept[at]}, further, kept)
        if sum(map(len, names)) + _WEIGHT * len(names) <= _LONGEST:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[names] = shape
        return shape


def _folded(name: bytes) -> str:
    """A field's name as applications fold it, Django and WSGI adapters among them: the octet DF becomes SS."""
    return name.decode("latin-1").upper().replace("_", "-")


# Where adapters that run ASGI applications under a WSGI server keep the environ (a2wsgi.ASGIMiddleware: the first).
_WSGI_KEYS = ("wsgi_environ", "wsgi.environ", "environ")


def _peer_of_wsgi(scope: Mapping[str, Any]) -> Peer:
    """The peer of the WSGI server below: it has folded the names, and found the address."""
    environ = next(scope[key] for key in _WSGI_KEYS if key in scope)
    return peer_of(environ if isinstance(environ, Mapping) else {})


def _unnamed(server: Any) -> Peer:
    """A peer without address: on a unix socket, where the server says so."""
    match server:
        case (str(path), None) if path:  # ASGI: the server's own socket path, and no client
            return Peer(unix=True)
    return Peer()


def _maybe_rewritten(address: Any, port: Any, forwarded: Sequence[str], ports: Sequence[str]) -> Peer:
    """Whoever rewrites `client` leaves the header, and gives port 0 (uvicorn, hypercorn, granian), the header's port
    (uvicorn from 0.54) or that of X-Forwarded-Port (daphne). A bare address that is the peer's own proves nothing: a
    client on the proxy's host has it.
    """
    marks = f"{address}:", f"[{address}]:"
    lines = (
        line for line in forwarded if marks[0] in line or marks[1] in line
    )  # seldom one: anybody sends 64 kB of ","
    each = (part.strip() for line in lines for part in line.split(","))
    if port and not any(part.startswith(marks) for part in each) and not any(_is_number(each, port) for each in ports):
        return Peer(address)
    return Peer(
        doubt="the peer's address seems to come from X-Forwarded-For, which no trust can rest on: run uvicorn with "
        "--no-proxy-headers (FORWARDED_ALLOW_IPS=''), and the like for other servers, or use a shared_secret= alone"
    )


def _is_number(text: str, port: Any) -> bool:
    """Whether this is that port to `int`, which takes blanks, signs and the digits of all scripts."""
    try:
        return int(text.encode("latin-1").decode("utf-8")) == int(port)
    except ValueError:
        return False
