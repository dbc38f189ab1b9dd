"""A Starlette application behind Envoy: a layer that is added, one that is put around, a websocket."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mtls_middleware import client_certificate, route_certificate
from mtls_middleware.asgi import CertificateBoundTokenMiddleware, ClientCertificateMiddleware, protect
from mtls_middleware.integrations.starlette_routes import require_certificate, require_scopes
from mtls_middleware.policy import CertificatePolicy, ExtendedKeyUsage, SpiffeTrustDomain
from mtls_middleware.resource_server import IntrospectedAccessTokens
from mtls_middleware.sources import Envoy, ServerTLS

source = Envoy(shared_secret=("MtlsProxySecret", "secret-of-the-proxy"), verify_header="MtlsClientVerify")
tokens = IntrospectedAccessTokens(
    endpoint="https://as.example/introspect", client_id="api", client_secret="secret-of-the-api"
)


@require_scopes("invoices:read")
async def invoices(request: Request) -> JSONResponse:
    certificate = client_certificate(request)
    return JSONResponse({"spiffe_id": certificate and certificate.spiffe_id})


@require_certificate(ExtendedKeyUsage("clientAuth") & ~CertificatePolicy("1.3.6.1.4.1.311.21.8"))
def cards(request: Request) -> JSONResponse:
    certificate = route_certificate(request)
    return JSONResponse({"policies": certificate.policies, "usages": certificate.extended_key_usages})


@require_certificate()
async def live(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(route_certificate(websocket).subject)


app = Starlette(
    routes=[Route("/invoices", invoices), Route("/cards", cards), WebSocketRoute("/live", live)],
    middleware=[Middleware(ClientCertificateMiddleware, source=source)],
)
app.add_middleware(CertificateBoundTokenMiddleware, tokens=tokens, scopes=["invoices:read"])
app.add_middleware(ClientCertificateMiddleware, source=source, allow=SpiffeTrustDomain("acme.internal"))
protected = protect(app, source=ServerTLS(), tokens=tokens, websocket_lifetime="credentials")
