"""The application behind each proxy: it tells the certificate, and every field before and after our middleware.

`SOURCES` (environment, JSON) says which source belongs to the first segment of the path: one server serves all.
"""

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mtls_middleware import asgi, sources, wsgi
from tests.certificate_report import certificate_of
from tests.exports import exported

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SOURCES = {key: eval(text, {**exported(sources), "os": os}) for key, text in json.loads(os.environ["SOURCES"]).items()}
ARRIVED = "tests.arrived"


def report(request: Any, method: str, body: bytes, seen: list[list[str]]) -> bytes:
    about = certificate_of(request)
    what = {"certificate": about, "arrived": request[ARRIVED], "seen": seen, "method": method, "body": body.decode()}
    return json.dumps(what).encode()


def of_environ(environ: "WSGIEnvironment") -> list[list[str]]:
    return [[key[5:].lower(), value] for key, value in environ.items() if key.startswith("HTTP_")]


def of_scope(scope: dict[str, Any]) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]


def wsgi_report(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [report(environ, environ["REQUEST_METHOD"], body, of_environ(environ))]


async def asgi_report(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": report(scope, scope["method"], body, of_scope(scope))})


WSGI = {key: wsgi.ClientCertificateMiddleware(wsgi_report, source) for key, source in SOURCES.items()}
ASGI = {key: asgi.ClientCertificateMiddleware(asgi_report, source) for key, source in SOURCES.items()}


def wsgi_application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    environ[ARRIVED] = of_environ(environ)
    if environ["PATH_INFO"] == "/nowhere/":
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]
    return WSGI[environ["PATH_INFO"].split("/")[1]](environ, start_response)


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    scope[ARRIVED] = of_scope(scope)
    if scope["path"] == "/nowhere/":
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    await ASGI[scope["path"].split("/")[1]](scope, receive, send)
