"""APIs that accept the tokens of another authorization server. The path says how an API validates tokens.

SETTINGS is the name of a JSON file with the metadata of that server.
"""

import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from mtls_middleware import access_token, asgi, wsgi
from mtls_middleware.resource_server import IntrospectedAccessTokens, JWTAccessTokens
from mtls_middleware.sources import ServerTLS


def validators(settings: dict[str, Any]) -> dict[str, Any]:
    """By signature, and by introspection: with a secret, with a certificate, and with signed responses."""
    directory = settings["directory"]
    trusting, own = (ssl.create_default_context(cafile=f"{directory}/ca.pem") for _ in range(2))
    own.load_cert_chain(f"{directory}/api.pem", f"{directory}/api-key.pem")
    of = {"issuer": settings["issuer"], "audience": settings["audience"]}
    asked = {**of, "endpoint": settings["introspection_endpoint"]}
    keys, secret = settings["jwks_uri"], {"client_id": "api-with-a-secret", "client_secret": settings["secret"]}
    return {
        "signature": JWTAccessTokens(**of, jwks_uri=keys, ssl_context=trusting),
        "secret": IntrospectedAccessTokens(**asked, **secret, ssl_context=trusting),
        "wrong-secret": IntrospectedAccessTokens(**asked, **secret | {"client_secret": "x"}, ssl_context=trusting),
        "certificate": IntrospectedAccessTokens(**asked, client_id="api", ssl_context=own),
        **{
            f"{each}-response": IntrospectedAccessTokens(
                **asked, client_id=f"api-{each}", ssl_context=own, signed_by=keys
            )
            for each in settings["algorithms"]
        },
    }


def layers() -> Iterator[tuple[str, dict[str, Any]]]:
    settings = json.loads(Path(os.environ["SETTINGS"]).read_text())
    for way, tokens in validators(settings).items():
        yield f"/by-{way}", {"source": ServerTLS(), "tokens": tokens, "scopes": ["invoices:read"]}


def report(of: Any) -> dict[str, Any]:
    token = access_token(of)
    assert token is not None
    return {"client_id": token.client_id, "bound": token.bound, "confirmation": token.confirmation}


def flask_api() -> Any:
    app = Flask(__name__)
    app.add_url_rule("/invoices", "invoices", lambda: report(request))
    return DispatcherMiddleware(Flask("nothing else"), {path: wsgi.protect(app, **each) for path, each in layers()})


def starlette_api() -> Any:
    async def invoices(received: Request) -> JSONResponse:
        return JSONResponse(report(received))

    app = Starlette(routes=[Route("/invoices", invoices)])
    return Starlette(routes=[Mount(path, asgi.protect(app, **each)) for path, each in layers()])
