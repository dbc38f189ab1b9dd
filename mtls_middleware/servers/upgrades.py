"""Which HTTP/1 requests are the last of their connection, because they ask for another protocol. Pure: no I/O.

A client behind a proxy that forwards such a request can then write to the proxy's connection. Whatever it writes comes
from the proxy's address. So a server carries out no upgrade but a websocket handshake, and ends the connection.
"""

import enum
from collections.abc import Callable, Iterable
from typing import Any

Headers = Iterable[tuple[bytes, bytes]]
App = Callable[..., Any]


class Asks(enum.Enum):
    """What a request asks for."""

    NOTHING = "no other protocol"
    WEBSOCKET = "a websocket"
    UPGRADE = "another protocol"  # RFC 9110 section 7.8: a server may ignore the Upgrade field
    TUNNEL = "CONNECT"  # RFC 9110 section 9.3.6: what follows the head is not HTTP
    VERSION = "another version"  # the preface of HTTP/2 is PRI * HTTP/2.0 (RFC 9113 section 3.4)

    @property
    def ends(self) -> bool:
        """Whether the connection ends after the response, and no octet after the request is read."""
        return self not in {Asks.NOTHING, Asks.WEBSOCKET}

    @property
    def status(self) -> int:
        """Of the response that stands for the application's, or 0."""
        return {Asks.TUNNEL: 501, Asks.VERSION: 505}.get(self, 0)


def asked(method: str, http_version: str, headers: Headers, *, websockets: bool = True) -> Asks:
    """What a request of HTTP/1 asks for. `headers`: lower-case names. `websockets`: whether the server takes them."""
    if not http_version.startswith("1."):
        return Asks.VERSION
    if method.upper() == "CONNECT":  # methods are case-sensitive, but not every proxy may know it
        return Asks.TUNNEL
    fields = [(name, value.strip(b" \t").lower()) for name, value in headers if name in _FIELDS]
    if all(name != b"upgrade" for name, _ in fields):
        return Asks.NOTHING
    handshake = method == "GET" and http_version == "1.1" and websockets and _is_handshake(fields)
    return Asks.WEBSOCKET if handshake else Asks.UPGRADE


def _is_handshake(fields: list[tuple[bytes, bytes]]) -> bool:
    """RFC 6455 section 4.2.1, for one protocol and without a body: frames follow the head."""
    options = [each.strip() for name, value in fields if name == b"connection" for each in value.split(b",")]
    return (
        [value for name, value in fields if name == b"upgrade"] == [b"websocket"]
        and b"upgrade" in options
        and not has_body(fields)
    )


def has_body(headers: Headers) -> bool:
    """Whether the head announces a body (RFC 9112 section 6.3)."""
    framing = [(name, value.strip(b" \t")) for name, value in headers if name in _FRAMING]
    return any(name != b"content-length" or value.strip(b"0") or not value for name, value in framing)


def framing(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The fields that say where the body ends."""
    return [(name, value) for name, value in headers if name in _FRAMING]


def without_upgrade(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The fields, as if the client had not asked for another protocol."""
    return [(name, value) for name, value in headers if name.lower() != b"upgrade"]


def last_response(app: App, status: int = 0) -> App:
    """`app`, whose response says that the connection ends. With a `status`, a response with it replaces the app's."""

    async def closing(scope: Any, receive: Any, send: Any, *rest: Any) -> None:
        async def send_last(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"]
                message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        await (rejecting(status) if status else app)(scope, receive, send_last, *rest)

    return closing


def rejecting(status: int) -> App:
    """An ASGI application that responds with this status alone."""

    async def rejects(_scope: Any, _receive: Any, send: Any, *_rest: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return rejects


_FRAMING = {b"content-length", b"transfer-encoding"}
_FIELDS = {b"upgrade", b"connection", *_FRAMING}
