"""Finds the peer of an ASGI request: the other end of the connection, as the server reports it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtls_middleware import wsgi_peer
from mtls_middleware.request import Peer

# The scope keys under which adapters that run ASGI applications on a WSGI server keep the environ.
# a2wsgi.ASGIMiddleware uses the first key.
_WSGI_KEYS = "wsgi_environ", "wsgi.environ", "environ"
WSGI_KEYS = frozenset(_WSGI_KEYS)


def peer_of(scope: Mapping[str, Any], forwarded: Sequence[bytes], ports: Sequence[bytes]) -> Peer:
    """Return the peer. `forwarded` and `ports`: the values of X-Forwarded-For and X-Forwarded-Port."""
    found = connection_of(scope, forwarded, ports)
    return found if isinstance(found, Peer) else Peer(found)


def connection_of(scope: Mapping[str, Any], forwarded: Sequence[bytes], ports: Sequence[bytes]) -> str | Peer:
    """Return every value on which the peer depends, as part of a cache key: its address, or in rare cases the peer.

    Under ASGI, names arrive as they were sent, so the peer is not `spoofable`, unless a WSGI server is below the scope.

    Programs that rewrite `client` from X-Forwarded-For leave that field in place. They set port 0 (uvicorn, hypercorn,
    granian), the port in X-Forwarded-For (uvicorn from 0.54) or the port in X-Forwarded-Port (daphne). The address
    alone proves nothing: a client on the proxy's host has the proxy's address.
    """
    if not scope.keys().isdisjoint(WSGI_KEYS):
        environ = next(scope[key] for key in _WSGI_KEYS if key in scope)
        return wsgi_peer.peer_of(environ if isinstance(environ, Mapping) else {})
    client = scope.get("client")
    if not client or not client[0]:
        return _unnamed(scope.get("server"))
    address, port = client[0], client[1]
    if port and not _may_be_rewritten(address, port, forwarded, ports):
        return address if isinstance(address, str) else Peer()
    return Peer(
        doubt="the peer's address may come from X-Forwarded-For, which any client can send: run uvicorn with "
        "--no-proxy-headers (FORWARDED_ALLOW_IPS=''), other servers with the corresponding option, or use a "
        "shared_secret= alone"
    )


def _may_be_rewritten(address: Any, port: Any, forwarded: Sequence[bytes], ports: Sequence[bytes]) -> bool:
    """Whether the header fields contain the address and port of `client`."""
    if not forwarded:
        return False
    line = b",".join(forwarded)
    if str(address).encode("utf-8", "replace") in line:  # a client can send 64 kB of commas
        marks = f"{address}:", f"[{address}]:"
        parts = str(line, "latin-1").split(",")
        if any(part.strip().startswith(marks) for part in parts):  # servers strip the blanks of latin-1 as well
            return True
    return bool(ports) and any(_is_number(each, port) for each in ports)


def _unnamed(server: Any) -> Peer:
    """Return a peer without an address. It uses a unix socket if the server reports one."""
    match server:
        case (str(path), None) if path:  # ASGI: the server's own socket path, and no client
            return Peer(unix=True)
    return Peer()


def _is_number(value: bytes, port: Any) -> bool:
    """Whether `int`, with which daphne reads ports, reads this port. `int` accepts blanks, signs and all digits."""
    try:
        return int(bytes(value).decode("utf-8")) == int(port)
    except ValueError:
        return False
