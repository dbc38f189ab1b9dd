"""What a decision sees of one request, and what it leaves there: the same for both gateways.

Must never know: which gateway made it. `headers` asks by name, so that no copy of all headers is made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtls_middleware.certificate import ClientCertificate

# The keys in environ and scope. Always set, by the layer that owns them: no value from outside survives.
CERTIFICATE_KEY = "mtls_middleware.certificate"
TOKEN_KEY = "mtls_middleware.token"  # noqa: S105 (a key's name, no secret)
CLIENT_KEY = "mtls_middleware.client"
ATTACHED_KEY = "mtls_middleware.attached"


@dataclass(frozen=True, slots=True)
class Attached:
    """What the layers of this package have found so far, under `ATTACHED_KEY`.

    Its presence tells an inner layer that an outer one ran; a bare value under the public keys does not.
    """

    certificate: ClientCertificate | None = None
    token: Any = None  # an AccessToken, and
    client: Any = None  # a RegisteredClient: their classes live floors above
    certificate_layer: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of the transport, as the server itself says.

    `address` is text as the server gave it; `unix` only where the server says so; `doubt` says why the address may have
    been written by a header instead (DESIGN 4.7).
    """

    address: str | None = None
    unix: bool = False
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class TLSFacts:
    """`extension`: the ASGI TLS extension, where there is TLS. `environ`: the WSGI environ, where this is WSGI."""

    extension: Mapping[str, Any] | None = None
    environ: Mapping[str, Any] | None = None


# Octets of a body that a layer may ask for. Requests of OAuth clients have some hundred; one with a JWT in it some
# thousand.
MAX_BODY = 65_536


@dataclass(frozen=True, slots=True)
class RequestView:
    """One request as data.

    Attributes:
        headers: field name, lower case with dashes -> its values, one per field line the gateway can tell apart.
        tls: the server's own facts about the TLS connection: the ASGI extension, or the WSGI environ.
        attached: what outer layers of this package left, `None` where there is none.
        now: seconds since the epoch.
        body: the request's body where a layer asked for it, else empty.
        spoofable: why this server cannot show a header forged with underscores, `None` where it can.
    """

    method: str
    path: str
    query: str
    headers: Callable[[str], Sequence[str]]
    peer: Peer
    tls: TLSFacts
    attached: Attached | None
    now: float
    spoofable: str | None = None
    body: bytes = b""
