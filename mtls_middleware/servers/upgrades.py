"""Finds the HTTP/1 requests that ask for another protocol. A server closes the connection after each such request.

If a proxy forwards such a request, the client can write to the proxy's connection to the server, and everything that it
writes comes from the proxy's address. Therefore a server must not carry out an upgrade, except a websocket handshake.
This module performs no I/O.
"""

import enum
from collections.abc import Callable, Iterable
from typing import Any

Headers = Iterable[tuple[bytes, bytes]]
App = Callable[..., Any]


class ProtocolChange(enum.Enum):
    """The change of protocol that a request asks for."""

    NONE = "no other protocol"
    WEBSOCKET = "a websocket"
    UPGRADE = "another protocol"  # a server may ignore the field Upgrade (RFC 9110 section 7.8)
    TUNNEL = "CONNECT"  # the octets after the header section are not HTTP (RFC 9110 section 9.3.6)
    VERSION = "another version of HTTP"  # the preface of HTTP/2 is PRI * HTTP/2.0 (RFC 9113 section 3.4)

    @property
    def ends_connection(self) -> bool:
        """Whether the server must ignore octets after the request, and close the connection after the response."""
        return self not in {ProtocolChange.NONE, ProtocolChange.WEBSOCKET}

    @property
    def status(self) -> int:
        """The status with which the server responds instead of the application; 0 if the application responds."""
        return {ProtocolChange.TUNNEL: 501, ProtocolChange.VERSION: 505}.get(self, 0)


def protocol_change(method: str, http_version: str, headers: Headers, *, websockets: bool = True) -> ProtocolChange:
    """Return the change of protocol that an HTTP/1 request asks for.

    Arguments:
        method: the method of the request.
        http_version: the version of HTTP, for example `"1.1"`.
        headers: the header fields, with lower-case names.
        websockets: whether the server accepts websockets.
    """
    if not http_version.startswith("1."):
        return ProtocolChange.VERSION
    if method.upper() == "CONNECT":  # method names are case-sensitive, but a proxy may treat "connect" as CONNECT
        return ProtocolChange.TUNNEL
    fields = [(name, value.strip(b" \t").lower()) for name, value in headers if name in _FIELDS]
    if all(name != b"upgrade" for name, _ in fields):
        return ProtocolChange.NONE
    handshake = method == "GET" and http_version == "1.1" and websockets and _is_handshake(fields)
    return ProtocolChange.WEBSOCKET if handshake else ProtocolChange.UPGRADE


def _is_handshake(fields: list[tuple[bytes, bytes]]) -> bool:
    """Return whether the fields are those of a websocket handshake (RFC 6455 section 4.2.1) without a body.

    `websocket` must be the only value of `Upgrade`. A body is not allowed, because frames follow the header section.
    """
    options = [each.strip() for name, value in fields if name == b"connection" for each in value.split(b",")]
    return (
        [value for name, value in fields if name == b"upgrade"] == [b"websocket"]
        and b"upgrade" in options
        and not has_body(fields)
    )


def has_body(headers: Headers) -> bool:
    """Return whether the header fields announce a body (RFC 9112 section 6.3)."""
    framing = [(name, value.strip(b" \t")) for name, value in headers if name in _FRAMING]
    return any(name != b"content-length" or value.strip(b"0") or not value for name, value in framing)


def framing_fields(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the header fields that determine the length of the body: `Content-Length` and `Transfer-Encoding`."""
    return [(name, value) for name, value in headers if name in _FRAMING]


def without_upgrade(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the header fields without `Upgrade`."""
    return [(name, value) for name, value in headers if name.lower() != b"upgrade"]


def with_connection_close(app: App, status: int = 0) -> App:
    """Wrap `app` so that its response has `Connection: close`.

    If `status` is not 0, `app` is not called, and the response has this status and no body.
    """

    async def wrapped(scope: Any, receive: Any, send: Any, *rest: Any) -> None:
        async def send_with_close(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"]
                message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        await (_status_app(status) if status else app)(scope, receive, send_with_close, *rest)

    return wrapped


def _status_app(status: int) -> App:
    """Return an ASGI application that responds to every request with this status and no body."""

    async def respond(_scope: Any, _receive: Any, send: Any, *_rest: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return respond


_FRAMING = {b"content-length", b"transfer-encoding"}
_FIELDS = {b"upgrade", b"connection", *_FRAMING}
