"""The application behind each proxy: it tells the certificate, and every field before and after our middleware.

`SOURCES` (environment, JSON) says which source belongs to the first segment of the path: one server serves all.
"""

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mtls_middleware import asgi, client_certificate, sources, wsgi

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SOURCES = {key: eval(text, vars(sources).copy()) for key, text in json.loads(os.environ["SOURCES"]).items()}
ARRIVED = "tests.arrived"


def told(request: Any, seen: list[list[str]]) -> bytes:
    certificate = client_certificate(request)
    about = None
    if certificate is not None:
        about = {
            "thumbprint": certificate.thumbprint,
            "verification": certificate.verification.name,
            "chain": len(certificate.chain),
        }
    return json.dumps({"certificate": about, "arrived": request[ARRIVED], "seen": seen}).encode()


def of_environ(environ: "WSGIEnvironment") -> list[list[str]]:
    return [[key[5:].lower(), value] for key, value in environ.items() if key.startswith("HTTP_")]


def of_scope(scope: dict[str, Any]) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]


def tell_wsgi(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [told(environ, of_environ(environ))]


async def tell_asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": told(scope, of_scope(scope))})


WSGI = {key: wsgi.ClientCertificateMiddleware(tell_wsgi, source) for key, source in SOURCES.items()}
ASGI = {key: asgi.ClientCertificateMiddleware(tell_asgi, source) for key, source in SOURCES.items()}


def wsgi_application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    environ[ARRIVED] = of_environ(environ)
    return WSGI[environ["PATH_INFO"].split("/")[1]](environ, start_response)


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    scope[ARRIVED] = of_scope(scope)
    await ASGI[scope["path"].split("/")[1]](scope, receive, send)
