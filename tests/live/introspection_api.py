"""An API behind a proxy that introspects its tokens, as a WSGI and as an ASGI application."""

import os
from typing import Any

from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mtls_middleware import access_token, asgi, wsgi
from mtls_middleware.client import CertificateFiles
from mtls_middleware.resource_server import IntrospectedAccessTokens
from mtls_middleware.sources import Envoy, Nginx

TRUST: dict[str, Any] = {
    "trusted_proxies": ["127.0.0.1"],
    "shared_secret": ("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"]),
}
NGINX = Nginx(certificate_header="MtlsClientCert", verify_header="MtlsClientVerify", **TRUST)
ENVOY = Envoy(verify_header="MtlsClientVerify", proxy_deletes_underscores=True, **TRUST)
SETTINGS: dict[str, Any] = {
    "source": {"nginx": NGINX, "envoy": ENVOY}[os.environ["PROXY"]],
    "tokens": IntrospectedAccessTokens(
        endpoint=os.environ["INTROSPECTION"],
        client_id="api",
        certificate=CertificateFiles("api.pem", "api-key.pem"),
        roots=os.environ["SSL_CERT_FILE"],
    ),
    "scopes": ["read"],
}
flask = Flask(__name__)


@flask.get("/invoices")
def invoices() -> dict[str, object]:
    token = access_token(request)
    return {"client_id": token.client_id if token else None}


async def invoices_async(received: Request) -> JSONResponse:
    token = access_token(received)
    return JSONResponse({"client_id": token.client_id if token else None})


wsgi_app = wsgi.protect(flask.wsgi_app, **SETTINGS)
asgi_app = asgi.protect(Starlette(routes=[Route("/invoices", invoices_async)]), **SETTINGS)
