"""`ASGIRequest`: reads an ASGI scope as a request, and sets keys and header fields of the scope for the application."""

import hashlib
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from mtls_middleware.asgi_messages import Receive, body, replaying
from mtls_middleware.asgi_peer import WSGI_KEYS, connection_of, peer_of
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.layers.attached import ORIGINAL_HEADERS_KEY, Attached, Passage, attach, attached_to
from mtls_middleware.layers.interface import Facts, Layer
from mtls_middleware.layers.websocket_lifetime import Recheck
from mtls_middleware.path_readings import Location, inner
from mtls_middleware.request import Peer, TLSFacts
from mtls_middleware.resource_server.bearer import has_token
from mtls_middleware.sources.server import tls_identity

Pair = tuple[bytes, bytes]
_BYTES_OR_NONE = frozenset({bytes, type(None)})
# Changes each byte of a name that an application may fold: capital letters, underscores, and bytes outside ASCII.
_FOLDED = bytes(range(128)).lower().replace(b"_", b"-").ljust(256, b"-")
_OF_PEER = (b"x-forwarded-for", b"x-forwarded-port")  # the fields that `connection_of` reads

# The keys that determine which resource an application serves. All other keys come from the server.
_OF_APPLICATION = ("type", "method", "path", "raw_path", "root_path", "query_string")


def _is_same(passage: Passage, scope: Mapping[str, Any]) -> bool:
    """Return whether the scope still belongs to the request of this passage.

    A server that uses one scope for several requests makes a new list of headers for each request.
    """
    return scope.get("headers") is passage.kept


# The innermost passage around the running code. A task starts with the value of the task that created it (PEP 567).
_INNERMOST: ContextVar[Passage | None] = ContextVar("mtls_middleware.passage", default=None)


def enter(passage: Passage) -> Passage | None:
    """Mark the application of this passage as running. Pass the result to `leave` when it ends."""
    outside = _INNERMOST.get()
    _INNERMOST.set(passage)
    passage.running = True
    return outside


def leave(passage: Passage, outside: Passage | None) -> None:
    """Mark the application of this passage as ended. `outside`: the result of `enter`."""
    passage.running = False
    # If Python closes an abandoned coroutine during another request, the innermost passage is that of this request.
    if _INNERMOST.get() is passage:
        _INNERMOST.set(outside)


def _is_around(passage: Passage) -> bool:
    """Return whether the application of this passage has called the running code.

    The result is `False` if the code runs in another task, such as a background task of Starlette after a response.
    """
    current = _INNERMOST.get() if passage.running else None
    while current is not None and current is not passage:
        current = None if current.outer is None else current.outer.passage
    return current is passage


class ASGIRequest:
    """A `GatewayRequest` that reads an ASGI scope.

    Arguments:
        receive: the server's `receive`. If a layer reads the body, `self.receive` replays it for the application.
        prefixes: path prefixes that the application itself removes.
    """

    __slots__ = (
        "_by_name", "_carrier", "_fields", "_is_plain", "_lower", "_prefixes", "_scope",
        "attached", "body", "cache_key", "is_websocket", "layer", "now", "receive", "rechecks",
    )  # fmt: skip

    layer: Layer  # the stack sets this attribute
    _fields: list[Pair]
    _lower: list[Pair]  # with names in lower case
    _by_name: dict[bytes, bytes]  # the last value of each field
    _is_plain: bool  # whether every name is as most servers give it, so that no application folds it

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive | None = None,
        prefixes: ApplicationPrefixes | None = None,
    ) -> None:
        self._carrier = scope
        self._prefixes = prefixes
        self.receive = receive
        self.now: float = time.time()
        self.attached: Attached = attached_to(scope, self.now, _OF_APPLICATION, _is_same, _is_around)
        # A copy: an application changes its scope while a websocket is open, and the websocket is checked again.
        self._scope = self.attached.passage.original
        self.body: bytes = b""
        self.cache_key: Hashable | None = None
        # Copy the headers. In ASGI, they may be an iterable that can be read only once, or a list that grows later
        # (uvicorn adds trailer fields).
        self._read(self._scope.get("headers", ()))
        self._scope["headers"] = self._fields
        self.is_websocket: bool = scope.get("type") == "websocket"
        self.rechecks: list[tuple[Layer, Recheck]] = []

    def _read(self, fields: Iterable[Any]) -> None:
        self._fields: list[Pair] = [*map(tuple, fields)]
        try:
            self._by_name = dict(self._fields)
        except TypeError:  # a middleware may pass other bytes-like objects
            self._fields = [(bytes(name), bytes(value)) for name, value in self._fields]
            self._by_name = dict(self._fields)
        self._lower = self._fields
        names = b"".join(self._by_name)
        self._is_plain = names.translate(_FOLDED) == names
        if not self._is_plain:
            self._fields = [(bytes(name), value) for name, value in self._fields]  # a view has no `lower`
            self._lower = [(name.lower(), value) for name, value in self._fields]
            self._by_name = dict(self._lower)

    def drop(self, names: frozenset[str]) -> None:
        """Remove the fields with these names, in every spelling, for the inner layers and for the application."""
        if names:
            self._fields = self._lower = self._without(names)
            if not self._is_plain:
                self._lower = [(name.lower(), value) for name, value in self._fields]
            self._by_name = dict(self._lower)

    def _without(self, names: frozenset[str]) -> list[Pair]:
        """Return the fields, without those that an application can read under one of these names."""
        plain, folded = _spellings(names)
        if self._is_plain:
            return [field for field in self._fields if field[0] not in plain]
        fields = zip(self._lower, self._fields, strict=True)
        return [field for (name, _), field in fields if _folded(name) not in folded]

    def place(self, names: frozenset[str]) -> None:
        """Remove the fields with these names from the scope, and attach the results of the layers."""
        passage = self.attached.passage
        # After a dispatcher tried another application, the fields of that application's layers are hidden as well.
        passage.hidden = names | passage.hidden if passage.hidden else names
        passage.kept = self._carrier["headers"] = self._without(passage.hidden)
        if passage.outer is None:
            self._carrier[ORIGINAL_HEADERS_KEY] = self._scope["headers"]
        attach(self._carrier, self.attached)

    async def read_body(self) -> None:
        """Read the whole body. Raises `Refused`."""
        if self.receive is None:
            raise RuntimeError("the server passed no receive for this request")
        self.body = await body(self.receive)
        self.receive = replaying(self.body, self.receive)
        self.now = time.time()

    @property
    def method(self) -> str:
        if self.is_websocket:
            return "GET"  # a websocket handshake is a GET (RFC 6455 4.1); ASGI gives no method for it
        found: str = self._scope.get("method", "GET")
        return found

    @property
    def path(self) -> str:
        root, path = self._scope.get("root_path", ""), self._scope["path"]
        return inner(path, root) if root and isinstance(root, str) else str(path)

    @property
    def location(self) -> Location:
        """The path and the root.

        Frameworks disagree on whether `path` contains `root_path`, and on where in `path` the root ends.
        """
        scope, stated = self._scope, self.attached.root_path
        path, root = scope["path"], scope.get("root_path") or ""
        if _is_routed(scope):
            return Location(path)
        own = () if self._prefixes is None else self._prefixes.now()
        others = _before_mount(scope)
        if stated is not None and root == stated and f"{path}/".startswith(f"{stated}/"):
            return Location(inner(path, stated), root, path, others, own, root_is_configured=True)
        whole = root.rstrip("/") + path if isinstance(root, str) else path
        return Location(path, root, whole, others, own)

    def mount(self, root: str) -> None:
        """Write the operator's `root_path=` into the scope, so that the application uses the layer's mount point.

        ASGI requires that `path` contains `root_path`. A path that does not begin with a slash is left unchanged,
        because ASGI has no rule for it.
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
    def origin(self) -> str | None:
        return self.peer.address

    @property
    def peer(self) -> Peer:
        return peer_of(self._scope, self._values(b"x-forwarded-for"), self._values(b"x-forwarded-port"))

    @property
    def tls(self) -> TLSFacts:
        return TLSFacts(
            extension=(self._scope.get("extensions") or {}).get("tls"), lambda_event=self._scope.get("aws.event")
        )

    def headers(self, name: str) -> Sequence[str]:
        # `name` contains hyphens, so a field with underscores, such as x_ssl_client_cert, does not match. `str` also
        # decodes a memoryview, which a middleware may give as the value.
        return [str(value, "latin-1") for value in self._values(name.encode("latin-1", "replace"))]

    def _values(self, name: bytes) -> list[bytes]:
        return [value for lower, value in self._lower if lower == name]

    def has_one_line(self, name: str) -> bool:
        is_separate = self._scope.keys().isdisjoint(WSGI_KEYS)  # a WSGI server below the scope has joined the lines
        return is_separate and len(self._values(name.encode("latin-1", "replace"))) == 1

    def field_names(self) -> Iterable[str]:
        return dict.fromkeys(str(name, "latin-1") for name, _ in self._lower)


def facts_reader(facts: Facts) -> Callable[[ASGIRequest], tuple[object, ...] | None]:
    """A function that reads these facts of a request as a cache key; `None` if the request must not be cached."""
    fields, single_lines = tuple(name.encode("ascii") for name in sorted(facts.fields)), sorted(facts.single_lines)
    reads_peer, reads_tls, reads_credentials = facts.peer, facts.tls, facts.credentials
    names = {*fields, *([b"authorization"] if reads_credentials else []), *(_OF_PEER if reads_peer else [])}

    def read(request: ASGIRequest) -> tuple[object, ...] | None:
        by_name, scope = request._by_name, request._scope
        if len(by_name) < len(request._lower) and _has_repeated(request._lower, names):
            return None
        connection = digest = identity = None
        if reads_peer:
            forwarded, port = by_name.get(b"x-forwarded-for"), by_name.get(b"x-forwarded-port")
            connection = connection_of(
                scope, () if forwarded is None else (forwarded,), () if port is None else (port,)
            )
        if reads_tls:
            identity = tls_identity(request.tls)
            if identity is None:
                return None
        if reads_credentials:
            authorization = by_name.get(b"authorization")
            if type(authorization) is not bytes or (scope.get("query_string") and has_token(request.query)):
                return None
            # With more blanks, a client could create many keys for one token.
            if authorization.find(b" ") != authorization.rfind(b" "):
                return None
            digest = hashlib.sha256(authorization).digest()
        values = [*map(by_name.get, fields)]
        if not _BYTES_OR_NONE.issuperset(map(type, values)):  # a buffer may change
            return None
        single = () if not single_lines else tuple(map(request.has_one_line, single_lines))
        return (connection, identity, digest, single, *values)

    return read


def _has_repeated(fields: list[Pair], names: set[bytes]) -> bool:
    """Whether there are two lines of one of the fields with these names."""
    found = [name for name, _ in fields if name in names]
    return len(found) > len(set(found))


def _is_routed(scope: Mapping[str, Any]) -> bool:
    """Return whether Litestar has already chosen the view. `path` is then the path by which it chose."""
    handler = scope.get("route_handler")
    return handler is not None and "path_template" in scope and type(handler).__name__ != "ASGIRouteHandler"


def _before_mount(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the whole path if a mount of Litestar has removed its own part from `path`."""
    if not getattr(scope.get("route_handler"), "is_mount", False):
        return ()
    return (unquote_to_bytes(scope.get("raw_path") or b"").decode("utf-8", "replace"),)


@lru_cache(maxsize=64)  # one entry for each layer
def _spellings(names: frozenset[str]) -> tuple[frozenset[bytes], frozenset[str]]:
    """Return these names in lower case with hyphens, and in the forms into which applications fold them."""
    plain = frozenset(name.encode("ascii") for name in names)
    return plain, frozenset(map(_folded, plain))


def _folded(name: bytes) -> str:
    """Return the form to which Django and WSGI adapters fold a name: upper case, with hyphens instead of underscores.

    The letter "ß" (byte 0xDF) becomes "SS".
    """
    return name.decode("latin-1").upper().replace("_", "-")
