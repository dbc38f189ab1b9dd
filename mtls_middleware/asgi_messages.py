"""Reads the body of a request from ASGI messages, and writes the response of a layer as ASGI messages."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from mtls_middleware.errors import Refused
from mtls_middleware.request import MAX_BODY
from mtls_middleware.responses import LayerResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Frameworks disagree about these types (mutable mappings, dictionaries, asgiref's typed dictionaries). With types that
# are narrower than `Any`, type checkers reject applications that work.
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


async def body(receive: Receive) -> bytes:
    """The whole body. Raises `Refused` if the client disconnects, or if the body is too large."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("invalid_request", "the client disconnected before the end of the body")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise Refused("payload_too_large", f"the body has more than {MAX_BODY} bytes")
    return bytes(body)


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` callable for the application: it first returns the body that the layer has already read."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return first.pop() if first else await receive()

    return replaying


# HTTP versions in which `Connection: close` is allowed. In HTTP/2, it makes a response malformed (RFC 9113 8.2.2).
_CLOSING_VERSIONS = ("1.0", "1.1")


async def write(response: LayerResponse, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the response of a layer. A websocket is rejected before it is accepted."""
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await receive()  # websocket.connect: the close message is the response to it
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        kind = "websocket.http.response"
    headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in response.headers]
    if response.new_connection and kind == "http.response" and scope.get("http_version") in _CLOSING_VERSIONS:
        headers.append((b"connection", b"close"))
    await send({"type": f"{kind}.start", "status": response.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else response.body
    await send({"type": f"{kind}.body", "body": body, "more_body": False})


def varying(send: Send, vary: list[tuple[bytes, bytes]]) -> Send:
    """A `send` callable that adds `Vary` to the application's responses (RFC 9440 2.4)."""

    async def varying(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Iterable[tuple[bytes, bytes]] = message.get("headers") or ()
            message = {**message, "headers": [*headers, *vary]}
        await send(message)

    return varying
