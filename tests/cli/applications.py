"""Applications for `probe`, and for the servers that `doctor` knows."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import flask
from asgiref.wsgi import WsgiToAsgi
from hypercorn.middleware import AsyncioWSGIMiddleware

from mtls_middleware.asgi import protect
from mtls_middleware.policy import Subject
from mtls_middleware.sources import ServerTLS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


async def _answer(send: Any, status: int, body: bytes = b"") -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def open(scope: Any, receive: Any, send: Any) -> None:  # noqa: A001 (it is named on a command line)
    if scope["type"] == "http":
        await _answer(send, 200)


async def believes_headers(scope: Any, receive: Any, send: Any) -> None:
    """The ten-line header parser that people paste."""
    if scope["type"] == "http":
        headers = dict(scope["headers"])
        welcome = headers.get(b"x-ssl-client-verify") == b"SUCCESS" and b"x-ssl-client-cert" in headers
        await _answer(send, 200 if welcome else 403)


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await _answer(send, 403)


def refuses_wsgi(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """403, with the header as the environ has it."""
    body = json.dumps(environ.get("HTTP_X_SSL_CLIENT_CERT")).encode()
    start_response("403 Forbidden", [("Content-Length", str(len(body)))])
    return [body]


on_flask = flask.Flask(__name__)
on_flask.wsgi_app = refuses_wsgi
protected = protect(open, source=ServerTLS(), allow=Subject("CN=allowed"))
by_asgiref = WsgiToAsgi(refuses_wsgi)
by_hypercorn = AsyncioWSGIMiddleware(refuses_wsgi)
