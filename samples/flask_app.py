"""A Flask API that requires certificate-bound access tokens. The WSGI server terminates TLS and passes the certificate.

`sh samples/tour.sh --serve` starts it together with the authorization server.
"""

import os

from flask import Flask, request

from mtls_middleware import access_token, client_certificate
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import ServerTLS
from mtls_middleware.wsgi import protect

app = Flask(__name__)


@app.get("/health")
def health() -> dict[str, object]:
    return {"healthy": True}


@app.get("/invoices")
def invoices() -> dict[str, object]:
    # Neither is None: protect() rejects requests without a certificate or token.
    certificate, token = client_certificate(request), access_token(request)
    return {"invoices": [17, 42], "for": certificate.subject, "scopes": sorted(token.scopes)}


issuer = os.environ.get("ISSUER", "https://127.0.0.1:8443")
app.wsgi_app = protect(
    app.wsgi_app,
    source=ServerTLS(),
    tokens=JWTAccessTokens(issuer=issuer, audience="https://api.example", jwks_uri=f"{issuer}/jwks.json"),
    scopes=["invoices:read"],
    exempt=["/health"],
)
