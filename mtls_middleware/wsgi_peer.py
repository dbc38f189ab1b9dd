"""Finds the peer of a WSGI request: the other end of the connection, as the server reports it."""

import re
import socket
from collections.abc import Hashable, Mapping
from typing import Any

from mtls_middleware.request import Peer
from mtls_middleware.sources.server import SOCKET_KEYS
from mtls_middleware.wsgi_server import (
    HTTP_1,
    SERVER_KEYS,
    SOFTWARE_OF_INPUT,
    ServerTraits,
    settings_of,
    traits_of,
    traits_of_software,
)

# Every value on which the peer depends, if `SERVER_SOFTWARE` identifies the server: `SERVER_SOFTWARE`, whether the
# request came over HTTP/2, gunicorn's settings, whether the connection is a unix socket, and `REMOTE_ADDR`.
Connection = tuple[str, bool, Hashable, bool | None, str]

# With one of these keys, the peer depends on more values.
_RARE_KEYS = SERVER_KEYS | {"PROXY_PROTOCOL", "werkzeug.proxy_fix.orig"}


def peer_of(environ: Mapping[str, Any], start_response: object = None) -> Peer:
    """Return the peer of the server that made this environ."""
    found = connection_of(environ, start_response)
    if isinstance(found, Peer):
        return found
    software, http2, settings, unix, address = found
    return _peer(traits_of_software(software, http2, settings), unix=unix is True, address=address)


def connection_of(environ: Mapping[str, Any], start_response: object) -> Connection | Peer:
    """Return every value on which the peer depends, as part of a cache key.

    Usually, `peer_of` computes the peer from these values alone. In the rare cases, the value is the peer itself. So
    two requests with an equal key have an equal peer. To compute each peer takes 0.7 us more (benchmark 10).
    """
    software, address = environ.get("SERVER_SOFTWARE"), environ.get("REMOTE_ADDR")
    if (
        not software
        or not isinstance(software, str)
        or not isinstance(address, str)
        or software.startswith(SOFTWARE_OF_INPUT)
        or not environ.keys().isdisjoint(_RARE_KEYS)
    ):
        return _rare_peer(environ, start_response)
    server = getattr(start_response, "__self__", None)
    return (
        software,
        environ.get("SERVER_PROTOCOL", "HTTP/1.1") not in HTTP_1,
        None if server is None else settings_of(server),
        _has_unix_socket(environ),
        address,
    )


def _peer(traits: ServerTraits, *, unix: bool, address: object) -> Peer:
    if unix:
        return Peer(unix=True, spoofable=traits.folding)
    if traits.address_doubt is not None:
        return Peer(doubt=traits.address_doubt, spoofable=traits.folding)
    return Peer(address if isinstance(address, str) else None, spoofable=traits.folding)


_REPEATED_FIX = (
    "the peer's address may come from X-Forwarded-For, because ProxyFix may be around the application twice: wrap it "
    "once, or use a shared_secret= alone"
)


def _rare_peer(environ: Mapping[str, Any], start_response: object) -> Peer:
    traits = traits_of(environ, start_response)
    if _is_unix(environ, traits.name):
        return _peer(traits, unix=True, address=None)
    if "PROXY_PROTOCOL" in environ:  # set by gunicorn; a peer that uses this protocol can claim any address
        doubt = "the peer's address comes from the PROXY protocol: use a shared_secret= alone"
        return Peer(doubt=doubt, spoofable=traits.folding)
    # waitress deletes these fields unless it uses them (trusted_proxy=). Nothing else in the environ shows that option.
    if traits.name == "waitress" and ("HTTP_X_FORWARDED_FOR" in environ or "HTTP_FORWARDED" in environ):
        return Peer(
            doubt="the peer's address may come from X-Forwarded-For or Forwarded, which any client can send: "
            "run waitress without trusted_proxy=, or use a shared_secret= alone"
        )
    original = environ.get("werkzeug.proxy_fix.orig")
    if original is not None and traits.address_doubt is None:
        # ProxyFix overwrote REMOTE_ADDR, and kept the original value here. A second ProxyFix keeps what the first one
        # wrote, which then is an address in this field.
        if str(original.get("REMOTE_ADDR")) in re.split(r"[\s,]+", str(environ.get("HTTP_X_FORWARDED_FOR", ""))):
            return Peer(doubt=_REPEATED_FIX, spoofable=traits.folding)
        environ = original
    return _peer(traits, unix=False, address=environ.get("REMOTE_ADDR"))


# The family as a number. The property `family` of a socket makes an enum member, which takes 1.0 us per request instead
# of 0.05 us. The whole request takes 4 us in benchmark 10.
_FAMILY = socket.SocketType.family.__get__
_UNIX = int(socket.AF_UNIX) if hasattr(socket, "AF_UNIX") else None


def _has_unix_socket(environ: Mapping[str, Any]) -> bool | None:
    """Whether the server's socket is a unix socket; `None` if the environ has no socket of gunicorn or werkzeug."""
    for key in SOCKET_KEYS:
        found = environ.get(key)
        if found is not None:
            family = _FAMILY(found) if isinstance(found, socket.SocketType) else getattr(found, "family", None)
            if family is not None:
                return bool(family == _UNIX)
    return None


def _is_unix(environ: Mapping[str, Any], software: str) -> bool:
    """Whether the WSGI server itself says that the peer uses a unix socket; an empty address alone says nothing.

    gunicorn and werkzeug: the family of their socket. waitress: the socket's path as `SERVER_PORT`. uWSGI, cheroot and
    other servers say so only in a form that a TCP listener could show as well. `software`: the server's name.
    """
    has_unix_socket = _has_unix_socket(environ)
    if has_unix_socket is not None:
        return has_unix_socket
    if software != "waitress" or not str(environ.get("SERVER_PORT", "")).startswith("/"):
        return False
    # With trusted_proxy= waitress writes what these fields say into SERVER_PORT, whether it is a number or not.
    return not any(key in environ for key in ("HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED"))
