"""A Flask application behind nginx, with access tokens."""

import os

import flask

from mtls_middleware import access_token, client_certificate, route_certificate, route_token
from mtls_middleware.integrations.flask_routes import require_certificate, require_scopes
from mtls_middleware.policy import ANYONE, DNSName, Subject, SubjectAttribute
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import Nginx
from mtls_middleware.wsgi import protect

app = flask.Flask(__name__)


@app.get("/invoices")
@require_scopes("invoices:read")
def invoices() -> dict[str, str | None]:
    certificate = client_certificate(flask.request)
    token = access_token(flask.request)
    assert certificate is not None
    assert token is not None
    return {"subject": token.subject, "thumbprint": certificate.thumbprint, "name": certificate.dns_names[0]}


@app.get("/admin")
@require_certificate(SubjectAttribute("OU", "infra"))
@require_scopes("admin")
def admin() -> dict[str, str | None]:
    return {"subject": route_token(flask.request).subject, "name": route_certificate(flask.request).subject}


source = Nginx(
    trusted_proxies=["127.0.0.1"],
    shared_secret=("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"].split(",")),
    certificate_header="MtlsClientCert",
    verify_header="MtlsClientVerify",
)
tokens = JWTAccessTokens(
    issuer="https://as.example", audience="https://api.example", jwks_uri="https://as.example/jwks"
)
app.wsgi_app = protect(
    app.wsgi_app,
    source=source,
    tokens=tokens,
    scopes=["invoices:read"],
    allow={"/": DNSName("billing.internal") | Subject("CN=ops,O=Acme"), "/public": ANYONE},
    exempt=("/health",),
)
