"""Applications for `probe` to look at: one that believes a header, one of ours, one that is open."""

from typing import Any

from mtls_middleware.asgi import protect
from mtls_middleware.sources import ServerTLS


async def _answer(send: Any, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def open(scope: Any, receive: Any, send: Any) -> None:  # noqa: A001 (it is named on a command line)
    if scope["type"] == "http":
        await _answer(send, 200)


async def believes_headers(scope: Any, receive: Any, send: Any) -> None:
    """The ten-line header parser that people paste."""
    if scope["type"] == "http":
        headers = dict(scope["headers"])
        welcome = headers.get(b"x-ssl-client-verify") == b"SUCCESS" and b"x-ssl-client-cert" in headers
        await _answer(send, 200 if welcome else 403)


protected = protect(open, source=ServerTLS())
