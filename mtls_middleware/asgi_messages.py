"""ASGI messages: the body of a request, and the response of a layer, as the gateway reads and writes them."""

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
    """The whole body. Raises `Refused`."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("invalid_request", "the client went away before the end of the body")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise Refused("payload_too_large", f"a body of more than {MAX_BODY} octets")
    return bytes(body)


def replaying(body: bytes, receive: Receive) -> Receive:
    """`receive` for the application, from the beginning of the body that we have read."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return first.pop() if first else await receive()

    return replaying


# HTTP/2 has no connection-specific fields (RFC 9113 8.2.2): a client treats such a response as malformed.
_CLOSING_VERSIONS = ("1.0", "1.1")


async def write(answer: LayerResponse, scope: Scope, receive: Receive, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await receive()  # websocket.connect, to which a close is an answer; a response answers the handshake itself
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        kind = "websocket.http.response"
    headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in answer.headers]
    if answer.new_connection and kind == "http.response" and scope.get("http_version") in _CLOSING_VERSIONS:
        headers.append((b"connection", b"close"))
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": f"{kind}.body", "body": body, "more_body": False})


def varying(send: Send, vary: list[tuple[bytes, bytes]]) -> Send:
    """Mark the application's responses as selected by the certificate's field (RFC 9440 2.4)."""

    async def varying(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Iterable[tuple[bytes, bytes]] = message.get("headers") or ()
            message = {**message, "headers": [*headers, *vary]}
        await send(message)

    return varying
