"""`RequestView`: the protocol by which sources read a request, the same for WSGI and ASGI."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mtls_middleware.path_readings import Location

# A test sets this key to `True` in the environ of its request. The library then knows that no server created the
# environ and folded header names.
TESTING_KEY = "mtls_middleware.testing"

# Maximum number of bytes in a body that a layer reads. Requests of OAuth clients are a few hundred bytes long, or a few
# thousand bytes with a JWT.
MAX_BODY = 65_536


class Peer(NamedTuple):
    """The other end of the transport connection, as the server reports it.

    The class is a tuple, because its objects are part of cache keys.

    Attributes:
        address: the peer's address, as the server gives it; `None` if the server gives no address, or an unreliable
            address.
        unix: whether the server reports that the peer is connected through a unix socket.
        doubt: the reason why the address may come from a header field; `None` if it cannot come from a field.
        spoofable: the reason why the server may pass a client's header name with underscores as a name with hyphens;
            `None` if the server keeps such names apart.

    Example:
        >>> Peer(address="192.0.2.7").unix
        False
    """

    address: str | None = None
    unix: bool = False
    doubt: str | None = None
    spoofable: str | None = None


class TLSFacts(NamedTuple):
    """The data about the TLS connection that the server reports.

    Attributes:
        extension: the ASGI TLS extension; `None` without TLS, and under WSGI.
        environ: the WSGI environ; `None` under ASGI.
        lambda_event: the event of AWS Lambda that mangum puts into the ASGI scope; `None` without mangum, and under
            WSGI.

    Example:
        >>> TLSFacts(environ={"SSL_CLIENT_VERIFY": "SUCCESS"}).environ["SSL_CLIENT_VERIFY"]
        'SUCCESS'
    """

    extension: Mapping[str, Any] | None = None
    environ: Mapping[str, Any] | None = None
    lambda_event: Mapping[str, Any] | None = None


class RequestView(Protocol):
    """The interface through which a source reads a request.

    Example: `view.headers("x-ssl-client-cert")` in the method `find` of a source
    """

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str:
        """The decoded path without the root. Use it only for log records, and use `location` for decisions."""

    @property
    def location(self) -> Location:
        """The path and the root of the request, as the server gives them."""

    @property
    def query(self) -> str: ...
    @property
    def peer(self) -> Peer: ...
    @property
    def tls(self) -> TLSFacts:
        """The data about the TLS connection that the server reports."""

    @property
    def now(self) -> float:
        """The time at which the request reached this layer, in seconds since the epoch."""

    def headers(self, name: str) -> Sequence[str]:
        """Return the values of the field `name`, one for each field line that the gateway can distinguish.

        `name`: the name in lower case, with hyphens.
        """

    def has_one_line(self, name: str) -> bool:
        """Return whether the gateway knows that the field `name` has exactly one field line.

        A WSGI server joins several field lines into one value. So the result is `False` if the gateway cannot read the
        separate lines from the server.
        """

    def field_names(self) -> Iterable[str]:
        """Return the names of all fields in lower case, as `headers` accepts them."""
