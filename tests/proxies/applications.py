"""The application behind each proxy: it tells the certificate, and every field before and after our middleware.

`SOURCES` (environment, JSON) says which source belongs to the first segment of the path: one server serves all. The
second segment is empty, or names a trust store (`roots`, `issuers`) or `token`.
"""

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mtls_middleware import asgi, sources, wsgi
from mtls_middleware.layers.decisions import observe
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.validation import TrustStore
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


# `GUARDS` (environment, JSON) has the files of a trust store, and the arguments for the tokens that are accepted.
STATED: dict[str, Any] = json.loads(os.environ.get("GUARDS", "{}"))
# What stands around the application, by the second segment of the path.
GUARDS: dict[str, dict[str, Any]] = {"": {}}
if STATED:
    GUARDS["roots"] = {"trust_store": TrustStore([STATED["roots"]]), "required": True}
    store = TrustStore([STATED["roots"]], intermediates=[STATED["issuers"]])
    GUARDS |= {"issuers": {"trust_store": store, "required": True}, "token": {}}


def guarded(gateway: Any, application: Any) -> dict[tuple[str, str], Any]:
    inner = dict.fromkeys(GUARDS, application)
    if "token" in inner:
        inner["token"] = gateway.CertificateBoundTokenMiddleware(application, JWTAccessTokens(**STATED["tokens"]))
    return {
        (key, guard): gateway.ClientCertificateMiddleware(inner[guard], source, **options)
        for key, source in SOURCES.items()
        for guard, options in GUARDS.items()
    }


def segments(path: str) -> tuple[str, str]:
    _, key, rest = path.split("/", 2)
    guard = rest.rstrip("/")
    return key, guard if guard in GUARDS else ""


WSGI, ASGI = guarded(wsgi, wsgi_report), guarded(asgi, asgi_report)


# The evidence of the newest decision, for the path /log/. An observer gets every decision, and the log only ten similar
# ones in a second.
LAST: list[str] = []


def keep(decision: Mapping[str, Any]) -> None:
    LAST[:] = decision.get("evidence") or ()


observe(keep)


def wsgi_application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    environ[ARRIVED] = of_environ(environ)
    if environ["PATH_INFO"] == "/nowhere/":
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]
    if environ["PATH_INFO"] == "/log/":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(" ".join(LAST)).encode()]
    return WSGI[segments(environ["PATH_INFO"])](environ, start_response)


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    scope[ARRIVED] = of_scope(scope)
    if scope["path"] == "/nowhere/":
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    if scope["path"] == "/log/":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(" ".join(LAST)).encode()})
        return
    await ASGI[segments(scope["path"])](scope, receive, send)
