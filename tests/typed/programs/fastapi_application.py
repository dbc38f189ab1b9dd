"""A FastAPI application with scopes for each route."""

from typing import Annotated

from fastapi import FastAPI, Request, Security

from mtls_middleware import AccessToken, client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware, protect
from mtls_middleware.integrations.fastapi_routes import CertificateBoundToken
from mtls_middleware.policy import Subject
from mtls_middleware.resource_server import JWTAccessTokens, TrustedIssuers
from mtls_middleware.sources import ServerTLS
from mtls_middleware.validation import TrustStore

bound = CertificateBoundToken(token_url="https://as.example/token", scopes={"invoices:read": "Read invoices"})
app = FastAPI()
bound.install(app)


@app.get("/invoices")
def invoices(
    request: Request, token: Annotated[AccessToken, Security(bound, scopes=["invoices:read"])]
) -> dict[str, str | None]:
    certificate = client_certificate(request)
    return {"client": token.client_id, "subject": None if certificate is None else certificate.subject}


tokens = TrustedIssuers(
    [
        JWTAccessTokens(issuer="https://one.example", audience="https://api.example", discovery="rfc8414"),
        JWTAccessTokens(issuer="https://two.example", audience="https://api.example", discovery="openid"),
    ]
)
store = TrustStore(["clients.pem"])
app.add_middleware(ClientCertificateMiddleware, source=ServerTLS(), trust_store=store, allow=Subject("CN=ops"))
protected = protect(app, source=ServerTLS(), tokens=tokens)
