"""What a decision sees of one request, and what it leaves there: the same for both gateways.

Must never know: which gateway made it. Everything is read where it is asked for, so that nothing is made that nobody
reads: a warm request asks for little.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.path_readings import Location

# The keys in environ and scope. Always set, by the layer that owns them: no value from outside survives.
CERTIFICATE_KEY = "mtls_middleware.certificate"
TOKEN_KEY = "mtls_middleware.token"  # noqa: S105 (a key's name, no secret)
CLIENT_KEY = "mtls_middleware.client"
ATTACHED_KEY = "mtls_middleware.attached"
# ASGI: the list of header fields as the server gave it. The list under "headers" is without certificates and secrets.
ORIGINAL_HEADERS_KEY = "mtls_middleware.original_headers"

# In the environ of a test's request, with the value `True`: no server made it, so no name was folded.
TESTING_KEY = "mtls_middleware.testing"


class Passage:
    """One gateway's passage of one request: whether the application inside is running, and what the gateway changed.

    Attributes:
        outer: what the gateway outside of this one attached, `None` for the outermost.
        running: whether the application inside is running. If it is not, this passage is around no other gateway: a
            dispatcher tries another application with the same scope or environ.
        original: a copy of the scope or environ as the gateway got it; under ASGI its headers are a list.
        retried: whether another application was tried before with the same scope or environ.
        kept: ASGI: the list of headers that the gateway put into the scope.
        hidden: ASGI: the folded names of the fields that are kept from applications.
    """

    running = False
    retried = False
    kept: object = None
    hidden: frozenset[str] = frozenset()

    def __init__(self, outer: "Attached | None", original: dict[str, Any]) -> None:
        self.outer: Attached | None = outer
        self.original: dict[str, Any] = original


class Attached:
    """What the layers of this package have found so far, under `ATTACHED_KEY`: of one gateway, each has its own.

    Its presence tells an inner layer that an outer one ran; a bare value under the public keys does not.
    """

    passage: Passage = Passage(None, {})  # of no gateway: replaced in what a gateway attaches
    watch: Any = None  # the WebsocketWatch of the outermost gateway that has one

    certificate: ClientCertificate | None = None
    token: Any = None  # an AccessToken, and
    client: Any = None  # a RegisteredClient: their classes live floors above
    root_path: str | None = None  # the operator's statement, which a layer has written into the environ or scope
    since: float = 0.0  # seconds since the epoch, when the outermost layer got the request

    @property
    def has_certificate_layer(self) -> bool:
        """Whether such a layer ran. Only what it found is set here; what stands above is what nobody looked for."""
        return "certificate" in vars(self)


def attached_to(
    carrier: Mapping[str, Any],
    now: float,
    of_application: Collection[str],
    is_same: Callable[[Passage, Mapping[str, Any]], bool],
    is_around: Callable[[Passage], bool],
) -> Attached:
    """What outer layers left in this environ or scope, to go on from; empty if there is no outer layer.

    If `is_around` is false for a layer's passage, the layer is not an outer one: a dispatcher has called it, and now
    tries another application. The request is then decided again from what the server gave to the first application,
    except for `of_application`: the keys that say which resource the application serves, and how it reads the body.

    `is_same`: whether this is still the request of a passage, and not another one for which a server uses the same
    dictionary. Another request is decided from its own facts.
    """
    attached, outer = Attached(), carrier.get(ATTACHED_KEY)
    original: dict[str, Any] | None = None
    hidden: frozenset[str] = frozenset()
    if isinstance(outer, Attached) and not is_around(outer.passage):
        same = is_same(outer.passage, carrier)
        while isinstance(outer, Attached) and not is_around(outer.passage):
            original = outer.passage.original if same else None
            hidden |= outer.passage.hidden
            outer = outer.passage.outer
    retried = original is not None
    if original is None:
        original = dict(carrier)
    else:
        original = {**original, **{key: carrier[key] for key in of_application if key in carrier}}
    if isinstance(outer, Attached):
        vars(attached).update(vars(outer))
    else:
        attached.since = now
    attached.passage = Passage(outer, original)
    attached.passage.hidden, attached.passage.retried = hidden, retried
    return attached


def attach(carrier: MutableMapping[str, Any], attached: Attached) -> None:
    """Set every key of the layers, so that no value from outside survives."""
    carrier[ATTACHED_KEY] = attached
    carrier[CERTIFICATE_KEY] = attached.certificate
    carrier[TOKEN_KEY] = attached.token
    carrier[CLIENT_KEY] = attached.client


# Tuples: they are made in a fraction of the time that a frozen dataclass takes.
class Peer(NamedTuple):
    """Who is at the other end of the transport, as the server itself says.

    `address` is the string that the server gave; `unix` is true only if the server says so. `doubt` says why a header
    field may have written the address. Then `address` is `None`: peers are cached, and a client chooses such a string.
    `spoofable` says why this server cannot show that a client forged a header field by a name with underscores.
    """

    address: str | None = None
    unix: bool = False
    doubt: str | None = None
    spoofable: str | None = None


# The plain peer at an address. A service has few peers, its proxies, and the same ones come again and again.
@lru_cache(maxsize=1024)
def peer_at(address: str) -> Peer:
    return Peer(address)


class TLSFacts(NamedTuple):
    """`extension`: the ASGI TLS extension, where there is TLS. `environ`: the WSGI environ, where this is WSGI."""

    extension: Mapping[str, Any] | None = None
    environ: Mapping[str, Any] | None = None


# Octets of a body that a layer may ask for. Requests of OAuth clients have some hundred; one with a JWT in it some
# thousand.
MAX_BODY = 65_536


class RequestView(Protocol):
    """One request as data; `wsgi.py` and `asgi.py` have one each."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str:
        """Decoded, without the root: for log records. Decisions read `location`."""

    @property
    def location(self) -> Location:
        """Path and root, as the server says them."""

    @property
    def query(self) -> str: ...
    @property
    def peer(self) -> Peer: ...
    @property
    def tls(self) -> TLSFacts:
        """The server's own facts about the TLS connection."""

    @property
    def attached(self) -> Attached:
        """What outer layers of this package found, those of the same gateway among them."""

    @property
    def now(self) -> float:
        """Seconds since the epoch, when the request came to this layer."""

    @property
    def body(self) -> bytes:
        """The request's body where a layer asked for it, else empty."""

    def headers(self, name: str) -> Sequence[str]:
        """The values of a field (lower case, with dashes), one for each field line the gateway can tell apart."""

    def field_names(self) -> Iterable[str]:
        """The names of all fields, in lower case, as `headers` takes them."""
