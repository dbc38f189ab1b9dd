"""Applications that tell what the middleware attached, for servers that are started as processes of their own."""

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.wsgi import ClientCertificateMiddleware
from tests.certificate_report import certificate_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def report(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    seen = sorted(key for key in environ if key.startswith("HTTP_X_SSL"))
    body = json.dumps({"certificate": certificate_of(environ), "seen": seen}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


own_tls = ClientCertificateMiddleware(report, ServerTLS())
behind_nginx = ClientCertificateMiddleware(report, Nginx(trusted_proxies=["127.0.0.1"]))
behind_nginx_with_secret = ClientCertificateMiddleware(report, Nginx(shared_secret=("X-Proxy-Secret", "s" * 16)))
behind_nginx_that_deletes = ClientCertificateMiddleware(
    report, Nginx(shared_secret=("X-Proxy-Secret", "s" * 16), proxy_deletes_underscores=True)
)


def serve_werkzeug(port: int, directory: str) -> None:
    import ssl

    from werkzeug.serving import run_simple

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{directory}/ca.pem")
    context.load_cert_chain(f"{directory}/server.pem", f"{directory}/server-key.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    run_simple("127.0.0.1", port, own_tls, ssl_context=context, threaded=True)


def serve_cheroot(port: int, directory: str) -> None:
    import ssl

    from cheroot.ssl.builtin import BuiltinSSLAdapter
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), own_tls)
    adapter = BuiltinSSLAdapter(f"{directory}/server.pem", f"{directory}/server-key.pem")
    adapter.context.load_verify_locations(f"{directory}/ca.pem")
    adapter.context.verify_mode = ssl.CERT_OPTIONAL
    server.ssl_adapter = adapter
    server.start()


def serve_cheroot_plain(port: int, application: str) -> None:
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), globals()[application]).start()


def serve_waitress_plain(port: int, application: str) -> None:
    from waitress import serve

    serve(globals()[application], host="127.0.0.1", port=port)


def serve_wsgiref_plain(port: int, application: str) -> None:
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, globals()[application]).serve_forever()


if __name__ == "__main__":
    globals()[f"serve_{sys.argv[1]}"](int(sys.argv[2]), sys.argv[3])
