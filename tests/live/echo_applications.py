"""Applications that tell what reached them, and the servers without a command line of their own that serve them.

The path says whose header is read, whom the source believes and whether a certificate is required:
`/nginx/loopback/required`. So one process serves every configuration. `LOG` (environment) says where our log goes.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mtls_middleware import asgi, sources, wsgi
from tests.certificate_report import certificate_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SECRET = ("X-Proxy-Secret", "s" * 16)
TRUST: dict[str, dict[str, Any]] = {
    "loopback": {"trusted_proxies": ["127.0.0.1"]},
    "elsewhere": {"trusted_proxies": ["10.0.0.0/8"]},
    "unix": {"trusted_proxies": ["unix"]},
    "secret": {"shared_secret": SECRET},
    "stated": {"shared_secret": SECRET, "proxy_deletes_underscores": True},
}
VERIFIED = {"verified_by_proxy": True}
READS: dict[str, tuple[type[sources.HeaderSource], dict[str, Any]]] = {
    "nginx": (sources.Nginx, {}),
    "apache": (sources.Apache, {}),
    "haproxy": (sources.HAProxy, {"chain_header": "X-SSL-Client-Chain"}),
    "envoy": (sources.Envoy, VERIFIED),
    "traefik": (sources.Traefik, VERIFIED),
    "caddy": (sources.Caddy, VERIFIED),
    "rfc9440": (sources.ClientCertHeader, VERIFIED),
    "unstated": (sources.ClientCertHeader, {}),
    "google": (sources.GoogleCloudLoadBalancer, {}),
    "cloudflare": (sources.Cloudflare, {}),
    "azure": (sources.AzureAppService, {}),
    "aws": (sources.AWSLoadBalancer, {"mode": "verify"}),
}
ARRIVED = "tests.arrived"


def configured() -> Iterable[tuple[str, sources.HeaderSource | sources.ServerTLS, bool]]:
    """Path, source, and whether a certificate is required there."""
    for name, (source, keywords) in READS.items():
        for believed, trust in TRUST.items():
            made = source(**keywords, **trust)
            yield f"/{name}/{believed}", made, False
            if made.can_verify:
                yield f"/{name}/{believed}/required", made, True
    yield "/server", sources.ServerTLS(), False
    yield "/server/required", sources.ServerTLS(), True


def report(request: Any, seen: Iterable[tuple[str, str]], peer: object, scheme: str) -> bytes:
    about = certificate_of(request)
    what = {"certificate": about, "seen": list(seen), "arrived": request[ARRIVED], "peer": peer, "scheme": scheme}
    return json.dumps({**what, "cpu": time.process_time()}).encode()


def of_environ(environ: "WSGIEnvironment") -> list[tuple[str, str]]:
    return [(key[5:], value) for key, value in environ.items() if key.startswith("HTTP_")]


def of_scope(scope: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


def wsgi_report(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    body = report(environ, of_environ(environ), environ.get("REMOTE_ADDR"), environ["wsgi.url_scheme"])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi_report(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = report(scope, of_scope(scope), scope["client"], scope["scheme"])
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


WSGI = {
    path: wsgi.ClientCertificateMiddleware(wsgi_report, source, required=required)
    for path, source, required in configured()
}
ASGI = {
    path: asgi.ClientCertificateMiddleware(asgi_report, source, required=required)
    for path, source, required in configured()
}


def wsgi_application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    environ[ARRIVED] = [name for name, _ in of_environ(environ)]
    return WSGI[environ["PATH_INFO"]](environ, start_response)


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    scope[ARRIVED] = [name for name, _ in of_scope(scope)]
    await ASGI[scope["path"]](scope, receive, send)


# ---- servers: what they listen on is a port of 127.0.0.1, one of [::], and the path of a unix socket


def serve_uvicorn(port: int, port6: int, path: str, http: str) -> None:
    """As uvicorn's own supervisor does with `--workers`: it makes the sockets, and hands them to the server."""
    import uvicorn

    at = [{"uds": path}, {"host": "::", "port": port6}, {"host": "127.0.0.1", "port": port}]
    configs = [uvicorn.Config(asgi_application, http=http, log_level="error", **each) for each in at]
    uvicorn.Server(configs[0]).run(sockets=[each.bind_socket() for each in configs])


def serve_werkzeug(port: int, port6: int, path: str) -> None:
    from werkzeug.serving import make_server

    at = [(f"unix://{path}", 0), ("::", port6), ("127.0.0.1", port)]
    _in_threads(make_server(*each, wsgi_application, threaded=True).serve_forever for each in at)


def serve_waitress(port: int, port6: int, path: str) -> None:
    from waitress.server import create_server

    at: list[dict[str, Any]] = [
        {"unix_socket": path},
        {"host": "::", "port": port6},
        {"host": "127.0.0.1", "port": port},
    ]
    _in_threads(create_server(wsgi_application, map={}, threads=2, **each).run for each in at)


def serve_cheroot(port: int, *_: object) -> None:
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), wsgi_application).start()


def serve_wsgiref(port: int, *_: object) -> None:
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, wsgi_application).serve_forever()


def _in_threads(serving: Iterable[Any]) -> None:
    threads = [threading.Thread(target=serve) for serve in serving]
    for thread in threads:
        thread.start()
    for thread in threads:  # Python 3.12 starts no thread after the end of the main one
        thread.join()


if "LOG" in os.environ:
    handler = logging.FileHandler(os.environ["LOG"])
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger("mtls_middleware").addHandler(handler)
    logging.getLogger("mtls_middleware").setLevel(logging.INFO)

if __name__ == "__main__":
    globals()[f"serve_{sys.argv[1]}"](int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
