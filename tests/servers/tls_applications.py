"""What the servers of `test_each_server.py` serve: applications that tell what TLS said, and what was attached."""

import json
import ssl
import sys
from typing import Any

from mtls_middleware.asgi import ClientCertificateMiddleware
from mtls_middleware.servers import cheroot_tls
from mtls_middleware.sources import Nginx, ServerTLS
from tests.certificate_report import certificate_of
from tests.live.applications import own_tls


async def report(scope: Any, receive: Any, send: Any) -> None:
    extensions = scope.get("extensions") or {}
    seen = sorted(name.decode() for name, _ in scope["headers"] if name.replace(b"_", b"-").startswith(b"x-ssl"))
    body = json.dumps({"certificate": certificate_of(scope), "tls": extensions.get("tls"), "seen": seen})
    if "tls" in extensions:  # as a bad application might: the connection's next request is not to see it
        extensions["tls"].update(client_cert_name="CN=forged", client_cert_chain=["forged"])
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body})
        await send({"type": "websocket.close"})
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


def without_lifespan(app: Any) -> Any:
    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await app(scope, receive, send)

    return served


asgi = without_lifespan(ClientCertificateMiddleware(report, ServerTLS()))
behind_nginx = without_lifespan(ClientCertificateMiddleware(report, Nginx(trusted_proxies=["127.0.0.1"])))
report_unattached = without_lifespan(report)


def serve_cheroot(port: int, directory: str) -> None:
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), own_tls)
    server.ssl_adapter = cheroot_tls.Adapter(f"{directory}/server.pem", f"{directory}/server-key.pem")
    server.ssl_adapter.context.load_verify_locations(f"{directory}/ca.pem")
    server.ssl_adapter.context.verify_mode = ssl.CERT_OPTIONAL
    server.start()


if __name__ == "__main__":
    serve_cheroot(int(sys.argv[1]), sys.argv[2])
