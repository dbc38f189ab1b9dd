"""A WSGI environ as a `RequestView` (PEP 3333): what its keys mean, and under which keys header fields arrive.

Must never know: what is decided, or that anything is.
"""

import time
from collections.abc import Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.path_readings import Location, inner
from mtls_middleware.request import Attached, Passage, Peer, TLSFacts, attached_to
from mtls_middleware.sources.server import is_unix
from mtls_middleware.wsgi_server import ServerTraits, traits_of

# What says which resource an application serves, and how it reads the body; all else is what the server gave.
_OF_APPLICATION = (
    "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING",
    "CONTENT_LENGTH", "wsgi.input", "wsgi.input_terminated",
)  # fmt: skip


def _is_same(passage: Passage, environ: Mapping[str, Any]) -> bool:
    """A server that uses one environ for several requests makes each one's values anew. An application may add keys."""
    keys = [key for key in passage.original if key.startswith("HTTP_") or key == "wsgi.input"]
    return all(environ[key] is passage.original[key] for key in keys if key in environ)


def _is_around(passage: Passage) -> bool:
    """An environ is used in one thread at a time."""
    return passage.running


class EnvironView:
    """A `RequestView` of an environ. `start_response`: the server's, which shows some of its options.

    `prefixes`: those that the application removes from a path by itself.
    """

    __slots__ = ("_carrier", "_environ", "_prefixes", "_start_response", "attached", "body", "now")

    def __init__(
        self,
        environ: MutableMapping[str, Any],
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

    def drop(self, environ: MutableMapping[str, Any], keys: frozenset[str]) -> None:
        """Keep these keys from the application, and from layers further in."""
        for carrier in (environ,) if self._environ is environ else (environ, self._environ):
            for key in keys.intersection(carrier):
                del carrier[key]

    @property
    def method(self) -> str:
        found: str = self._environ.get("REQUEST_METHOD", "")
        return found

    @property
    def path(self) -> str:
        """PEP 3333 lays the path's octets out as latin-1, applications and ASGI read them as UTF-8.

        Octets that are no UTF-8 become U+FFFD, as they do there: left as latin-1, "/caf%E9" would be the path "/café"
        here and another one to the application.
        """
        return _decoded(self._environ.get("PATH_INFO", ""))

    @property
    def location(self) -> Location:
        """Most frameworks read `PATH_INFO`, CherryPy reads `SCRIPT_NAME` followed by `PATH_INFO`."""
        root, path = self._environ.get("SCRIPT_NAME") or "", self._environ.get("PATH_INFO", "")
        stated = self.attached.root_path
        own = () if self._prefixes is None else self._prefixes.now()
        # CherryPy joins them with one slash. Joined before they are decoded: a character may be cut in two.
        whole = _decoded(root.rstrip("/") + path)
        return Location(
            _decoded(path), _decoded(root), whole, own=own, stated=stated is not None and root == _encoded(stated)
        )

    def mount(self, root: str) -> None:
        """Write the operator's `root_path=` into the environ, so that the application reads the same path."""
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
    def peer(self) -> Peer:
        return peer_of(self._environ, self._start_response)

    @property
    def tls(self) -> TLSFacts:
        return TLSFacts(environ=self._environ)

    def headers(self, name: str) -> tuple[str, ...]:
        value = self._environ.get(_key(name))
        return () if value is None else (value,)

    def field_names(self) -> Iterable[str]:
        return (key[5:].lower().replace("_", "-") for key in self._environ if key.startswith("HTTP_"))


def _decoded(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _encoded(path: str) -> str:
    return path.encode("utf-8").decode("latin-1")


@lru_cache(maxsize=64)
def _key(name: str) -> str:
    """A field's name in environ (RFC 3875 4.1.3 and 4.1.18)."""
    key = name.upper().replace("-", "_")
    return key if key == "CONTENT_TYPE" else "HTTP_" + key


def peer_of(environ: Mapping[str, Any], start_response: object = None) -> Peer:
    """The peer of the server that made this environ."""
    traits = traits_of(environ, start_response)
    if is_unix(environ, traits.name):
        return Peer(unix=True, spoofable=traits.folding)
    if "PROXY_PROTOCOL" in environ:  # gunicorn sets it; a peer that speaks that protocol can name any address
        doubt = "the peer's address comes from the PROXY protocol: use a shared_secret= alone"
        return Peer(doubt=doubt, spoofable=traits.folding)
    # waitress deletes these fields, unless it goes by them (trusted_proxy=), and then they are all that tells it.
    if traits.name == "waitress" and ("HTTP_X_FORWARDED_FOR" in environ or "HTTP_FORWARDED" in environ):
        return Peer(
            doubt="the peer's address seems to come from X-Forwarded-For or Forwarded, which no trust can rest on: "
            "run waitress without trusted_proxy=, or use a shared_secret= alone"
        )
    if traits.address_doubt is not None:
        return Peer(doubt=traits.address_doubt, spoofable=traits.folding)
    original = environ.get("werkzeug.proxy_fix.orig")
    if original is not None:  # ProxyFix overwrote REMOTE_ADDR from a header, and kept the transport's
        return _peer_at(original.get("REMOTE_ADDR"), traits)
    return _peer_at(environ.get("REMOTE_ADDR"), traits)


# A service has few peers, its proxies, and the same ones come again and again.
@lru_cache(maxsize=1024)
def _peer_at(address: str | None, traits: ServerTraits) -> Peer:
    return Peer(address, spoofable=traits.folding)


def keys(names: Iterable[str]) -> frozenset[str]:
    """CGI folds dashes and underscores into one name, so one key removes every twin; uWSGI keeps a trailing blank."""
    folded = {"HTTP_" + name.upper().replace("-", "_") for name in names}
    return frozenset(folded | {key + " " for key in folded})
