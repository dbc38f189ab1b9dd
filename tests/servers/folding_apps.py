"""What the WSGI servers of `wsgi_kinds.py` serve: the fields as they arrive, and what each source makes of them.

`python -m tests.servers.folding_apps NAME PORT` starts a server that has no command line of its own.
"""

import asyncio
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mtls_middleware import asgi
from mtls_middleware.sources import Nginx
from mtls_middleware.wsgi import ClientCertificateMiddleware
from tests.certificate_report import certificate_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SECRET = ("MtlsProxySecret", "s" * 16)
PLAIN: dict[str, Any] = {"certificate_header": "MtlsClientCert", "verify_header": "MtlsClientVerify"}
LOOPBACK = ["127.0.0.1"]
SOURCES = {
    "/hyphens": Nginx(trusted_proxies=LOOPBACK),
    "/hyphens-secret": Nginx(shared_secret=SECRET),
    "/hyphens-stated": Nginx(shared_secret=SECRET, proxy_deletes_underscores=True),
    "/plain-secret": Nginx(shared_secret=SECRET, **PLAIN),
    "/plain-address": Nginx(trusted_proxies=LOOPBACK, **PLAIN),
    "/plain-elsewhere": Nginx(trusted_proxies=["10.0.0.0/8"], **PLAIN),
}


def report(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    fields = {key[5:]: value for key, value in environ.items() if key.startswith("HTTP_")}
    about = {"certificate": certificate_of(environ), "fields": fields, "address": environ.get("REMOTE_ADDR")}
    body = json.dumps(about).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


_LAYERS = {path: ClientCertificateMiddleware(report, source) for path, source in SOURCES.items()}


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    return _LAYERS.get(environ["PATH_INFO"], report)(environ, start_response)


async def asgi_report(scope: Any, receive: Any, send: Any) -> None:
    fields = {name.decode("latin-1").upper().replace("-", "_"): value.decode() for name, value in scope["headers"]}
    # wsgiref gives no port, and then a2wsgi no `client`.
    address = scope["client"][0] if "client" in scope else scope["wsgi_environ"]["REMOTE_ADDR"]
    about = {"certificate": certificate_of(scope), "fields": fields, "address": address}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(about).encode()})


_ASGI_LAYERS = {path: asgi.ClientCertificateMiddleware(asgi_report, source) for path, source in SOURCES.items()}


async def _asgi_application(scope: Any, receive: Any, send: Any) -> None:
    await _ASGI_LAYERS.get(scope["path"], asgi_report)(scope, receive, send)


def __getattr__(name: str) -> Any:
    """The same behind adapters, which are imported only if they are served: uWSGI's Python has none of them."""
    if name == "by_a2wsgi":
        from a2wsgi import WSGIMiddleware

        return WSGIMiddleware(application)
    if name == "by_asgiref":
        from asgiref.wsgi import WsgiToAsgi

        return WsgiToAsgi(application)
    if name == "by_starlette":
        from starlette.middleware.wsgi import WSGIMiddleware as StarlettesMiddleware

        return StarlettesMiddleware(application)
    if name == "asgi_by_a2wsgi":
        from a2wsgi import ASGIMiddleware

        return ASGIMiddleware(_asgi_application)
    raise AttributeError(name)


def serve_gevent(port: int) -> None:
    from gevent.pywsgi import WSGIServer

    WSGIServer(("127.0.0.1", port), application).serve_forever()


def serve_werkzeug(port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, application)


def serve_cheroot(port: int) -> None:
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), application).start()


def serve_wsgiref(port: int) -> None:
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, application).serve_forever()


def serve_asgi_on_wsgiref(port: int) -> None:
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, __getattr__("asgi_by_a2wsgi")).serve_forever()


def serve_runserver(port: int) -> None:
    from django.core.servers.basehttp import run

    run("127.0.0.1", port, application, threading=True)


def serve_eventlet(port: int) -> None:
    import eventlet
    from eventlet import wsgi

    wsgi.server(eventlet.listen(("127.0.0.1", port)), application)


def serve_aiohttp_wsgi(port: int) -> None:
    from aiohttp_wsgi import serve

    serve(application, host="127.0.0.1", port=port)


def serve_tornado(port: int, *, xheaders: bool = False) -> None:
    from tornado.httpserver import HTTPServer
    from tornado.wsgi import WSGIContainer

    async def main() -> None:
        HTTPServer(WSGIContainer(application), xheaders=xheaders).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_tornado_xheaders(port: int) -> None:
    serve_tornado(port, xheaders=True)


if __name__ == "__main__":
    globals()[f"serve_{sys.argv[1]}"](int(sys.argv[2]))
