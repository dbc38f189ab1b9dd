"""What throughput is measured of: one small application in Flask and in Starlette, bare and protected in several ways.

Each function makes one application, in the server's own process; whose tokens
it takes, BENCHMARK_ISSUER tells it (`settings`). Also the commands of the servers, one worker each.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from authlib.integrations.flask_oauth2 import ResourceProtector
from authlib.oauth2.rfc6750 import InvalidTokenError
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask, jsonify, request
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import Nginx
from tests.benchmarks import stacks
from tests.live.peers.node import NODE

EXPRESS = Path(__file__).resolve().parent / "express"
PATH = "/invoices"
INVOICES = [
    {"number": f"2025-{number:03}", "amount": "129.90", "currency": "EUR", "paid": False} for number in range(3)
]


def settings() -> dict[str, str]:
    """The environment of a server that takes the tokens of this process's issuer."""
    issuer = stacks.issuer()
    report = {"issuer": issuer.issuer, "audience": issuer.audience, "jwks": issuer.jwks}
    return {"BENCHMARK_ISSUER": json.dumps({**report, "path": PATH, "scope": stacks.SCOPE, "client": stacks.NAME})}


def _issuer() -> dict[str, Any]:
    report: dict[str, Any] = json.loads(os.environ["BENCHMARK_ISSUER"])
    return {name: report[name] for name in ("issuer", "audience", "jwks")}


def _protected(gateway: str, app: Any) -> Any:
    source, tokens = Nginx(trusted_proxies=["127.0.0.1"]), JWTAccessTokens(**_issuer())
    return stacks.full_stack(gateway, app, stacks.NGINX, source=source, tokens=tokens)


def flask_bare(guard: Callable[[Any], Any] = lambda view: view) -> Flask:
    app = Flask(__name__)
    app.get(PATH)(guard(lambda: jsonify(INVOICES)))
    return app


def flask_ours() -> Flask:
    app = flask_bare()
    app.wsgi_app = _protected("wsgi", app.wsgi_app)
    return app


class BoundTokens(JWTBearerTokenValidator):
    """Authlib's validator, and the check of RFC 8705 3 beside it as people write it; no rule about the client."""

    def __init__(self, issuer: str, audience: str, jwks: dict[str, Any]) -> None:
        super().__init__(issuer, audience)
        self.keys = KeySet.import_key_set(jwks)  # once: from the JWK Set itself, Authlib makes them for each request

    def get_jwks(self) -> KeySet:
        return self.keys

    def validate_token(self, token: Any, scopes: Any, request_: Any, **claims: Any) -> None:
        super().validate_token(token, scopes, request_, **claims)
        certificate = x509.load_pem_x509_certificate(unquote(request.headers["X-SSL-Client-Cert"]).encode())
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        if not hmac.compare_digest(thumbprint, token["cnf"]["x5t#S256"]):
            raise InvalidTokenError


def flask_authlib() -> Flask:
    protector = ResourceProtector()
    protector.register_token_validator(BoundTokens(**_issuer()))
    return flask_bare(protector(stacks.SCOPE))


async def _invoices(request: Request) -> JSONResponse:
    return JSONResponse(INVOICES)


def starlette_bare() -> Starlette:
    return Starlette(routes=[Route(PATH, _invoices)])


def starlette_ours() -> Any:
    return _protected("asgi", starlette_bare())


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _uvicorn(parser: str, application: str, port: int) -> list[str]:
    options = ("--http", parser, "--no-proxy-headers", "--no-access-log", "--log-level", "warning")
    return _python("uvicorn", "--factory", f"{__name__}:{application}", "--port", str(port), *options)


# (application, port) -> the command of a server. No access log anywhere: it would hide what a layer costs.
SERVERS: dict[str, Callable[[str, int], list[str]]] = {
    "gunicorn gthread": lambda application, port: _python(
        *("gunicorn", f"{__name__}:{application}()", "--bind", f"127.0.0.1:{port}"),
        *("--worker-class", "gthread", "--threads", "4", "--no-control-socket"),
    ),
    "waitress": lambda application, port: _python(
        "waitress", "--listen", f"127.0.0.1:{port}", "--call", f"{__name__}:{application}"
    ),
    "uvicorn httptools": lambda application, port: _uvicorn("httptools", application, port),
    "uvicorn h11": lambda application, port: _uvicorn("h11", application, port),
    "granian": lambda application, port: _python(
        *("granian", f"{__name__}:{application}", "--factory", "--interface", "asgi"),
        *("--port", str(port), "--no-ws", "--log-level", "warning"),
    ),
    "Express": lambda application, port: [str(NODE), str(EXPRESS / "app.mjs"), application, str(port)],
}
