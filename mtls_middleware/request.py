"""`RequestView`: one request as data, the same for WSGI and ASGI."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mtls_middleware.path_readings import Location

# In the environ of a test's request, with the value `True`: no server made the environ, so no name was folded.
TESTING_KEY = "mtls_middleware.testing"

# Bytes of a body that a layer reads. Requests of OAuth clients have some hundred, with a JWT some thousand.
MAX_BODY = 65_536


class Peer(NamedTuple):
    """The other end of the transport, as the server itself reports it. A tuple, because it is part of cache keys.

    Attributes:
        address: the string that the server gave; `None` if there is no address, or if it is doubtful.
        unix: whether the server says that the peer is connected through a unix socket.
        doubt: why a header field may have written the address.
        spoofable: why this server cannot keep a client's name with underscores apart from a name with hyphens.
    """

    address: str | None = None
    unix: bool = False
    doubt: str | None = None
    spoofable: str | None = None


class TLSFacts(NamedTuple):
    """What the server reports about the TLS connection.

    Attributes:
        extension: the ASGI TLS extension; `None` without TLS, and under WSGI.
        environ: the WSGI environ; `None` under ASGI.
    """

    extension: Mapping[str, Any] | None = None
    environ: Mapping[str, Any] | None = None


class RequestView(Protocol):
    """One request as a source reads it."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str:
        """Decoded, without the root: for log records. Decisions read `location`."""

    @property
    def location(self) -> Location:
        """Path and root, as the server gives them."""

    @property
    def query(self) -> str: ...
    @property
    def peer(self) -> Peer: ...
    @property
    def tls(self) -> TLSFacts:
        """What the server reports about the TLS connection."""

    @property
    def now(self) -> float:
        """Seconds since the epoch, when the request came to this layer."""

    def headers(self, name: str) -> Sequence[str]:
        """The values of a field (lower case, with hyphens), one for each field line that the gateway can tell apart."""

    def field_names(self) -> Iterable[str]:
        """The names of all fields, in lower case, as `headers` accepts them."""
