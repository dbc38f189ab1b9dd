"""The application behind the proxies: it records each request that reaches it, also if the middleware rejects it.

Three environment variables: `SOURCES` (JSON) maps the first segment of the path to a source, `LOG` is the file for the
records, and `MARKS` (JSON) maps names to strings that must not reach an attacker.
"""

import json
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mtls_middleware import asgi, sources, wsgi
from tests.certificate_report import certificate_of
from tests.exports import exported

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SOURCES = {key: eval(text, {**exported(sources), "os": os}) for key, text in json.loads(os.environ["SOURCES"]).items()}
MARKS: dict[str, str] = json.loads(os.environ["MARKS"])
RECORD = "tests.record"
# The last segment of the path -> status of an answer without body. "early" and "raise" have their own code.
STATUSES = {
    "switch": "101 Switching Protocols",
    "processing": "102 Processing",
    "no-content": "204 No Content",
    "not-modified": "304 Not Modified",
}


def record_of(method: str, path: str, fields: list[tuple[str, str]]) -> dict[str, Any]:
    """What is known before the middleware."""
    proxied = any(value == MARKS["secret"] for _, value in fields)
    return {"method": method, "path": path, "proxied": proxied, "reached": False, "certificate": None, "captured": []}


def complete(record: dict[str, Any], request: Any, fields: list[tuple[str, str]], body: bytes) -> None:
    """Add what the application sees behind the middleware."""
    seen = body.decode("latin-1") + "\n".join(f"{name}: {value}" for name, value in fields)
    captured = [name for name, mark in MARKS.items() if mark in seen]
    record.update(reached=True, certificate=certificate_of(request), captured=captured)


def write(record: dict[str, Any]) -> None:
    line = json.dumps(record).encode() + b"\n"
    log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(log, line)
    finally:
        os.close(log)


def key_of(path: str) -> str | None:
    found = re.match(r"/([^/]+)/", path)
    return found[1] if found and found[1] in SOURCES else None


def status_of_unknown(host: str) -> str:
    return "200 OK" if host.endswith(":2000") else "404 Not Found"


# ---- WSGI


def environ_fields(environ: "WSGIEnvironment") -> list[tuple[str, str]]:
    return [(key[5:].lower(), str(value)) for key, value in environ.items() if key.startswith("HTTP_")]


def body_of(environ: "WSGIEnvironment") -> bytes:
    if environ.get("CONTENT_LENGTH"):
        return environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return environ["wsgi.input"].read() if environ.get("wsgi.input_terminated") else b""


def record_wsgi(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    part = environ["PATH_INFO"].rpartition("/")[2]
    body = b"" if part in ("early", "raise") else body_of(environ)
    complete(environ[RECORD], environ, environ_fields(environ), body)
    if part == "raise":
        raise RuntimeError("an application that fails before it reads the body")
    if part in STATUSES:
        start_response(STATUSES[part], [])
        return [b""]
    answer = environ["PATH_INFO"].encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


def wsgi_application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    environ[RECORD] = record_of(environ["REQUEST_METHOD"], path, environ_fields(environ))
    try:
        key = key_of(path)
        if key is None:
            start_response(status_of_unknown(environ.get("HTTP_HOST", "")), [("Content-Length", "0")])
            return [b""]
        return WSGI[key](environ, start_response)
    finally:
        write(environ[RECORD])


# ---- ASGI


def scope_fields(scope: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]


async def record_asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await record_websocket(scope, receive, send)
        return
    part = scope["path"].rpartition("/")[2]
    body, more = b"", part not in ("early", "raise")
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    complete(scope[RECORD], scope, scope_fields(scope), body)
    if part == "raise":
        raise RuntimeError("an application that fails before it reads the body")
    if part in STATUSES:
        await answer_asgi(send, int(STATUSES[part][:3]), None)
    else:
        await answer_asgi(send, 200, scope["path"].encode("latin-1", "replace"))


async def record_websocket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Accept the websocket, so that what follows is a tunnel, and record what comes through it."""
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    text = message.get("bytes") or (message.get("text") or "").encode()
    complete(scope[RECORD], scope, scope_fields(scope), text)


async def answer_asgi(send: Any, status: int, body: bytes | None) -> None:
    headers = [] if body is None else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body or b""})


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    fields = scope_fields(scope)
    scope[RECORD] = record_of(scope.get("method", "websocket"), scope["path"], fields)
    try:
        key = key_of(scope["path"])
        if key is not None:
            await ASGI[key](scope, receive, send)
        elif scope["type"] == "http":
            await answer_asgi(send, int(status_of_unknown(dict(fields).get("host", ""))[:3]), b"")
    finally:
        write(scope[RECORD])


WSGI = {key: wsgi.ClientCertificateMiddleware(record_wsgi, source) for key, source in SOURCES.items()}
ASGI = {key: asgi.ClientCertificateMiddleware(record_asgi, source) for key, source in SOURCES.items()}
application = wsgi_application  # mod_wsgi's name


def serve_werkzeug(port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, wsgi_application, threaded=True)


def serve_cheroot(port: int) -> None:
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), wsgi_application, numthreads=64).start()


if __name__ == "__main__":
    import sys

    {"werkzeug": serve_werkzeug, "cheroot": serve_cheroot}[sys.argv[1]](int(sys.argv[2]))
