"""`WSGIRequest`: reads a WSGI environ as a request (PEP 3333), and finds the environ keys of header fields."""

import hashlib
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.layers.attached import Attached, Passage, attach, attached_to
from mtls_middleware.layers.interface import Facts, Layer
from mtls_middleware.layers.websocket_lifetime import Recheck
from mtls_middleware.path_readings import Location, inner
from mtls_middleware.request import Peer, TLSFacts
from mtls_middleware.resource_server.bearer import has_token
from mtls_middleware.sources.server import tls_identity
from mtls_middleware.wsgi_messages import body
from mtls_middleware.wsgi_peer import connection_of, peer_of
from mtls_middleware.wsgi_server import field_lines

# The keys that say which resource an application serves and how it reads the body. All other keys come from the server.
_OF_APPLICATION = (
    "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING",
    "CONTENT_LENGTH", "wsgi.input", "wsgi.input_terminated",
)  # fmt: skip


def _is_same(passage: Passage, environ: Mapping[str, Any]) -> bool:
    """Return whether the environ still belongs to the request of this passage.

    A server that uses one environ for several requests makes new values for each request. An application may add keys.
    """
    keys = [key for key in passage.original if key.startswith("HTTP_") or key == "wsgi.input"]
    return all(environ[key] is passage.original[key] for key in keys if key in environ)


def _is_around(passage: Passage) -> bool:
    """Return whether the application of this passage is running. Only one thread at a time uses an environ."""
    return passage.running


class WSGIRequest:
    """A `GatewayRequest` that reads a WSGI environ.

    Arguments:
        start_response: the server's `start_response`. Its attributes show some options of the server.
        prefixes: path prefixes that the application itself removes.
    """

    __slots__ = (
        "_carrier", "_environ", "_prefixes", "_start_response",
        "attached", "body", "cache_key", "layer", "now",
    )  # fmt: skip

    layer: Layer  # the stack sets it
    is_websocket = False
    rechecks: list[tuple[Layer, Recheck]]  # only websockets have rechecks

    def __init__(
        self,
        environ: dict[str, Any],
        start_response: object = None,
        prefixes: ApplicationPrefixes | None = None,
    ) -> None:
        self._carrier = environ
        self._prefixes = prefixes
        self._start_response = start_response
        self.now: float = time.time()
        self.attached: Attached = attached_to(environ, self.now, _OF_APPLICATION, _is_same, _is_around)
        passage = self.attached.passage
        self._environ = passage.original.copy() if passage.retried else environ
        self.body: bytes = b""
        self.cache_key: Hashable | None = None

    def drop(self, names: frozenset[str]) -> None:
        """Remove the fields with these names, in every spelling, for the inner layers and for the application."""
        if names:
            for environ in (self._carrier,) if self._environ is self._carrier else (self._carrier, self._environ):
                for key in keys(names).intersection(environ):
                    del environ[key]

    def place(self, keys: frozenset[str]) -> None:
        """Remove these keys from the environ, and attach the results of the layers."""
        environ = self._carrier
        for key in keys.intersection(environ):
            del environ[key]
        attach(environ, self.attached)

    def read_body(self) -> None:
        """Read the whole body. Raises `Refused`."""
        self.body = body(self._carrier)
        self.now = time.time()
        self.attached.passage.original["wsgi.input"] = self._carrier["wsgi.input"]

    @property
    def method(self) -> str:
        found: str = self._environ.get("REQUEST_METHOD", "")
        return found

    @property
    def path(self) -> str:
        """The path, decoded as UTF-8, as applications and ASGI decode it. PEP 3333 decodes its bytes as latin-1.

        Bytes that are not UTF-8 become U+FFFD, as they do in applications. As latin-1, "/caf%E9" would be the path
        "/café" here, and a different path to the application.
        """
        return _decoded(self._environ.get("PATH_INFO", ""))

    @property
    def location(self) -> Location:
        """The path and the root. Most frameworks read `PATH_INFO`.

        CherryPy reads `SCRIPT_NAME` followed by `PATH_INFO`.
        """
        root, path = self._environ.get("SCRIPT_NAME") or "", self._environ.get("PATH_INFO", "")
        stated = self.attached.root_path
        own = () if self._prefixes is None else self._prefixes.now()
        # CherryPy joins them with one slash. They are joined before decoding, because the bytes of one character may be
        # in both.
        whole = _decoded(root.rstrip("/") + path)
        return Location(
            _decoded(path),
            _decoded(root),
            whole,
            app_prefixes=own,
            root_is_configured=stated is not None and root == _encoded(stated),
        )

    def mount(self, root: str) -> None:
        """Write the operator's `root_path=` into the environ, so that the application uses the layer's mount point."""
        wire = _encoded(root)
        whole = (self._environ.get("SCRIPT_NAME") or "") + self._environ.get("PATH_INFO", "")
        for carrier in (self._carrier,) if self._environ is self._carrier else (self._carrier, self._environ):
            carrier["SCRIPT_NAME"], carrier["PATH_INFO"] = wire, inner(whole, wire)
        self.attached.root_path = root

    @property
    def query(self) -> str:
        found: str = self._environ.get("QUERY_STRING", "")
        return found

    @property
    def origin(self) -> str | None:
        return self.peer.address

    @property
    def peer(self) -> Peer:
        return peer_of(self._environ, self._start_response)

    @property
    def tls(self) -> TLSFacts:
        return TLSFacts(environ=self._environ)

    def headers(self, name: str) -> tuple[str, ...]:
        value = self._environ.get(_key(name))
        return () if value is None else (value,)

    def has_one_line(self, name: str) -> bool:
        lines, key = field_lines(self._start_response), _key(name)
        if lines is None:
            return False
        found = [value for sent, value in lines if len(sent) == len(name) and _is_spelling(sent, key)]
        return len(found) == 1 and found[0] == self._environ.get(key)

    def field_names(self) -> Iterable[str]:
        return (key[5:].lower().replace("_", "-") for key in self._environ if key.startswith("HTTP_"))


def facts_reader(facts: Facts) -> Callable[[WSGIRequest], tuple[object, ...] | None]:
    """A function that reads these facts of a request as a cache key; `None` if the request must not be cached."""
    fields, single_lines = tuple(_key(name) for name in sorted(facts.fields)), sorted(facts.single_lines)
    reads_peer, reads_tls, reads_credentials = facts.peer, facts.tls, facts.credentials

    def read(request: WSGIRequest) -> tuple[object, ...] | None:
        environ = request._environ
        connection = digest = identity = None
        if reads_peer:
            connection = connection_of(environ, request._start_response)
        if reads_tls:
            identity = tls_identity(TLSFacts(environ=environ))
            if identity is None:
                return None
        if reads_credentials:
            authorization, query = environ.get("HTTP_AUTHORIZATION"), environ.get("QUERY_STRING")
            if not isinstance(authorization, str) or (query and has_token(query)):
                return None
            # With more blanks, a client could create many keys for one token.
            if authorization.find(" ") != authorization.rfind(" "):
                return None
            digest = hashlib.sha256(authorization.encode("utf-8", "surrogateescape")).digest()
        single = () if not single_lines else tuple(map(request.has_one_line, single_lines))
        return (connection, identity, digest, single, *map(environ.get, fields))

    return read


def _decoded(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _encoded(path: str) -> str:
    return path.encode("utf-8").decode("latin-1")


def _is_spelling(name: str, key: str) -> bool:
    """Whether the server joins a field of this name to the value of `key`."""
    return name.upper().replace("-", "_") == key.removeprefix("HTTP_")


@lru_cache(maxsize=64)
def _key(name: str) -> str:
    """Return the environ key of a field (RFC 3875 4.1.3 and 4.1.18)."""
    key = name.upper().replace("-", "_")
    return key if key == "CONTENT_TYPE" else "HTTP_" + key


@lru_cache(maxsize=64)  # one set for each layer
def keys(names: frozenset[str]) -> frozenset[str]:
    """Return the keys of these fields: one for all spellings (RFC 3875 4.1.18), and one with a blank, for uWSGI."""
    folded = {"HTTP_" + name.upper().replace("-", "_") for name in names}
    return frozenset(folded | {key + " " for key in folded})
