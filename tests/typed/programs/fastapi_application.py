"""A FastAPI application with scopes for each route."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request, Security

from mtls_middleware import AccessToken, ClientCertificate, client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware, protect
from mtls_middleware.integrations.fastapi_routes import CertificateBoundToken, install, require_certificate
from mtls_middleware.policy import Subject, SubjectAttribute
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


Operator = Annotated[ClientCertificate, Depends(require_certificate(SubjectAttribute("OU", "infra")))]
admin = FastAPI()
install(admin)


@admin.get("/")
def status(operator: Operator) -> dict[str, tuple[str, ...]]:
    return {"units": operator.subject_attributes("OU")}


app.mount("/admin", admin)
tokens = TrustedIssuers(
    [
        JWTAccessTokens(issuer="https://one.example", audience="https://api.example", discovery="rfc8414"),
        JWTAccessTokens(issuer="https://two.example", audience="https://api.example", discovery="openid"),
    ]
)
store = TrustStore(["clients.pem"])
app.add_middleware(ClientCertificateMiddleware, source=ServerTLS(), trust_store=store, allow=Subject("CN=ops"))
protected = protect(app, source=ServerTLS(), tokens=tokens)
