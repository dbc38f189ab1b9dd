"""An ASGI scope as a `RequestView` (ASGI 3): what its keys mean, and which header fields applications may see.

Must never know: what is decided, or that anything is.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mtls_middleware.request import ATTACHED_KEY, Attached, Peer, TLSFacts, peer_at

Pair = tuple[bytes, bytes]

# Fields that layers ask for beside those that they keep to themselves.
_ASKED_FOR = frozenset({b"authorization", b"content-type", b"x-forwarded-for", b"x-forwarded-port"})
# Names that are remembered, and the longest of them: clients may send any, those of real requests are some hundred.
_REMEMBERED, _LONGEST = 1024, 64


class ScopeView:
    """A `RequestView` of a scope. `kept`: the headers that the application may see."""

    __slots__ = ("_asked", "_names", "_scope", "attached", "body", "kept", "now")

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope
        attached = scope.get(ATTACHED_KEY)
        self.attached = attached if isinstance(attached, Attached) else None
        self.now = time.time()
        self.body = b""
        given = scope["headers"]  # ASGI: an iterable, which may be readable once only
        self.kept: list[Pair] = given if type(given) is list else list(given)
        self._asked: list[Pair] = []
        self._names: Names | None = None

    def part(self, names: "Names") -> None:
        """Keep these fields from the application, and from layers further in."""
        self._names = names
        self.kept, self._asked = names.parted(self.kept)

    @property
    def method(self) -> str:
        found: str = self._scope.get("method", "GET")  # a websocket's handshake is a GET
        return found

    @property
    def path(self) -> str:
        root, path = self._scope.get("root_path", ""), self._scope["path"]
        inner: str = path[len(root) :] if root and f"{path}/".startswith(f"{root}/") else path
        return inner

    @property
    def query(self) -> str:
        given = self._scope.get("query_string")
        return bytes(given).decode("latin-1") if given else ""

    @property
    def peer(self) -> Peer:
        client = self._scope.get("client")
        if not client or not client[0]:
            return _unnamed(self._scope.get("server"))
        address, port = client[0], client[1]
        forwarded = self.headers("x-forwarded-for")
        ports = self.headers("x-forwarded-port") if forwarded else []
        if port and not ports and isinstance(address, str) and address not in "".join(forwarded):
            return peer_at(address)  # no header tells of this address, so none has written it
        return _maybe_rewritten(address, port, forwarded, ports)

    @property
    def tls(self) -> TLSFacts:
        return TLSFacts(extension=(self._scope.get("extensions") or {}).get("tls"))

    @property
    def spoofable(self) -> None:
        return None  # names come as they were sent

    def headers(self, name: str) -> list[str]:
        wanted = name.encode("ascii")  # with dashes: x_ssl_client_cert is another field here (case 007)
        if self._names is not None and wanted in self._names.asked:
            return [value.decode("latin-1") for key, value in self._asked if key == wanted]
        return [value.decode("latin-1") for key, value in self.kept if key.lower() == wanted]


class Names:
    """Which fields are kept from the application, in every spelling that applications fold to one of them."""

    def __init__(self, drop: frozenset[str]) -> None:
        self._dropped = frozenset(name.encode("ascii") for name in drop)
        self.asked = self._dropped | _ASKED_FOR
        self._kinds = _Kinds(frozenset(map(_folded, self._dropped)), self.asked)

    def parted(self, headers: list[Any]) -> tuple[list[Pair], list[Pair]]:
        """Those that are kept, and those that are asked for, named in lower case."""
        if not _is_plain(headers):
            return self._parted_one_by_one(headers)
        dropped, asked = self._dropped, self.asked
        kept = [pair for pair in headers if pair[0] not in dropped]
        return kept, [pair for pair in headers if pair[0] in asked]

    def _parted_one_by_one(self, headers: Iterable[Iterable[Any]]) -> tuple[list[Pair], list[Pair]]:
        """The same for names in any spelling, and for whatever ASGI calls an iterable: each pair is read this once."""
        kept: list[Pair] = []
        asked: list[Pair] = []
        kinds = self._kinds
        for key, octets in headers:
            name, value = bytes(key), bytes(octets)
            lower, is_kept, is_asked = kinds[name]
            if is_kept:
                kept.append((name, value))
            if is_asked:
                asked.append((lower, value))
        return kept, asked


def _is_plain(headers: list[Any]) -> bool:
    """Whether these are pairs, all of whose names have one spelling alone: no capital, no underscore, ASCII."""
    try:
        names = b",".join([pair[0] for pair in headers])
    except TypeError:  # not pairs, or not octets
        return False
    return b"_" not in names and names.isascii() and names == names.lower()


class _Kinds(dict[bytes, tuple[bytes, bool, bool]]):
    """Name -> in lower case, whether the application may see the field, whether layers ask for it; remembered.

    A look-up takes half the time that one in an `lru_cache` does.
    """

    def __init__(self, folded: Collection[str], asked: Collection[bytes]) -> None:
        super().__init__()
        self._folded, self._asked = folded, asked

    def __missing__(self, name: bytes) -> tuple[bytes, bool, bool]:
        lower = name.lower()
        kind = lower, _folded(name) not in self._folded, lower in self._asked
        if len(name) <= _LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[name] = kind
        return kind


def _folded(name: bytes) -> str:
    """A field's name as applications fold it, Django and WSGI adapters among them (A02): the octet DF becomes SS."""
    return name.decode("latin-1").upper().replace("_", "-")


def _unnamed(server: Any) -> Peer:
    """A peer without address: on a unix socket, where the server says so."""
    match server:
        case (str(path), None) if path:  # ASGI: the server's own socket path, and no client (case 017)
            return Peer(unix=True)
    return Peer()


def _maybe_rewritten(address: Any, port: Any, forwarded: list[str], ports: list[str]) -> Peer:
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
        address,
        doubt="the peer's address seems to come from X-Forwarded-For, which no trust can rest on: run uvicorn with "
        "--no-proxy-headers (FORWARDED_ALLOW_IPS=''), and the like for other servers, or use a shared_secret= alone",
    )


def _is_number(text: str, port: Any) -> bool:
    """Whether this is that port to `int`, which takes blanks, signs and the digits of all scripts."""
    try:
        return int(text.encode("latin-1").decode("utf-8")) == int(port)
    except ValueError:
        return False
