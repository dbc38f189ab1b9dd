"""A Starlette API that requires certificate-bound access tokens. uvicorn terminates TLS with the library's protocols.

`sh samples/tour.sh --serve` starts it together with the authorization server.
"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mtls_middleware import access_token, client_certificate
from mtls_middleware.asgi import protect
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import ServerTLS


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"healthy": True})


async def invoices(request: Request) -> JSONResponse:
    # Neither is None: protect() rejects requests without a certificate or token.
    certificate, token = client_certificate(request), access_token(request)
    return JSONResponse({"invoices": [17, 42], "for": certificate.subject, "scopes": sorted(token.scopes)})


async def live(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json({"hello": client_certificate(websocket).subject})
    await websocket.close()


routes = [Route("/health", health), Route("/invoices", invoices), WebSocketRoute("/live", live)]
issuer = os.environ.get("ISSUER", "https://127.0.0.1:8443")
app = protect(
    Starlette(routes=routes),
    source=ServerTLS(),
    tokens=JWTAccessTokens(issuer=issuer, audience="https://api.example", jwks_uri=f"{issuer}/jwks.json"),
    scopes=["invoices:read"],
    exempt=["/health"],
)
