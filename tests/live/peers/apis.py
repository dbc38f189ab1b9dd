"""APIs behind tokens of another authorization server, which ISSUER, AUDIENCE, JWKS_URI and CA describe."""

import os
import ssl
from typing import Any

from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mtls_middleware import access_token, asgi, wsgi
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import ServerTLS


def layers() -> dict[str, Any]:
    tokens = JWTAccessTokens(
        issuer=os.environ["ISSUER"],
        audience=os.environ["AUDIENCE"],
        jwks_uri=os.environ["JWKS_URI"],
        ssl_context=ssl.create_default_context(cafile=os.environ["CA"]),
    )
    return {"source": ServerTLS(), "tokens": tokens, "scopes": ["invoices:read"]}


def told(of: Any) -> dict[str, Any]:
    token = access_token(of)
    assert token is not None
    return {"client_id": token.client_id, "bound": token.bound, "confirmation": token.confirmation}


def flask_api() -> Any:
    app = Flask(__name__)
    app.add_url_rule("/invoices", "invoices", lambda: told(request))
    return wsgi.protect(app, **layers())


def starlette_api() -> Any:
    async def invoices(received: Request) -> JSONResponse:
        return JSONResponse(told(received))

    return asgi.protect(Starlette(routes=[Route("/invoices", invoices)]), **layers())
