"""What the servers of `test_lifetimes.py` serve: websockets that echo, of a bare application, Starlette and Quart.

Each writes what its framework says at the end into a file, by its path.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from quart import Quart, websocket
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from mtls_middleware.asgi import protect
from mtls_middleware.sources import ServerTLS

ENDS = Path(os.environ.get("LIFETIMES", "."))


def note(name: str, text: str) -> None:
    (ENDS / name).write_text(text)


async def bare(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    note("bare", f"{message['type']} {message['code']}")
    await send({"type": "websocket.send", "text": "too late"})


async def deaf(_scope: Any, receive: Any, send: Any) -> None:
    """Never receives: it only sends."""
    await receive()
    await send({"type": "websocket.accept"})
    for _ in range(200):
        await send({"type": "websocket.send", "text": "tick"})
        await asyncio.sleep(0.1)


async def live(socket: Any) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
    note("starlette", "ended")


quart = Quart(__name__)


@quart.websocket("/quart")
async def echo() -> None:
    try:
        while True:
            await websocket.send(await websocket.receive())
    except asyncio.CancelledError:
        note("quart", "ended")
        raise


APPS: dict[str, Any] = {
    "/bare": bare,
    "/deaf": deaf,
    "/starlette": Starlette(routes=[WebSocketRoute("/starlette", live)]),
    "/quart": quart,
}


async def route(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await APPS[scope["path"]](scope, receive, send)
        return
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


protected = protect(route, source=ServerTLS(), clock_skew=0)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await protected(scope, receive, send)
