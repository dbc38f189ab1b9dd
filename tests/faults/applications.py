"""The applications of the live tests of faults: JWTs of one issuer, and opaque tokens that are introspected.

The environment has `ENDPOINT` (the introspection endpoint), `JWKS` (the issuer's keys or the address of the keys), and
`INTROSPECTION` (more arguments of `IntrospectedAccessTokens`, as JSON).
"""

import json
import os
from typing import Any

from mtls_middleware import asgi, wsgi
from mtls_middleware.resource_server import IntrospectedAccessTokens, JWTAccessTokens, MemoryAnswers, TrustedIssuers
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import TokenIssuer
from tests.introspection_server import CLIENT_ID, CLIENT_SECRET


def environment(endpoint: str, issuer: TokenIssuer, **introspection: Any) -> dict[str, str]:
    """The environment of a server with these applications."""
    return {"ENDPOINT": endpoint, "JWKS": json.dumps(issuer.jwks), "INTROSPECTION": json.dumps(introspection)}


def _wsgi_application(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


async def _asgi_application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


if "ENDPOINT" in os.environ:
    _tokens = TrustedIssuers(
        [
            JWTAccessTokens(
                issuer="https://issuer.test", audience="https://api.test", jwks=json.loads(os.environ["JWKS"])
            ),
            IntrospectedAccessTokens(
                endpoint=os.environ["ENDPOINT"],
                client_id=CLIENT_ID,
                client_secret=CLIENT_SECRET,
                allow_http=True,
                cache=MemoryAnswers(),
                **json.loads(os.environ["INTROSPECTION"]),
            ),
        ]
    )
    _source = Nginx(trusted_proxies=["127.0.0.1"])
    wsgi_application = wsgi.protect(_wsgi_application, source=_source, tokens=_tokens)
    asgi_application = asgi.protect(_asgi_application, source=_source, tokens=_tokens)
