"""A small authorization server: the client credentials grant, for clients that are known by their certificate.

The tokens it issues are bound to the certificate that asked for them (RFC 8705 section 3). To be read, not to be used:
its clients stand in this file, and its key lives as long as the process.
"""

import os
import secrets
import time
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask, Response, jsonify, request

from mtls_middleware import client_certificate
from mtls_middleware.policy import Rule, Subject
from mtls_middleware.sources import ServerTLS
from mtls_middleware.wsgi import ClientCertificateMiddleware


@dataclass(frozen=True)
class Client:
    scope: str
    certificate: Rule | None = None  # who may be this client; `None`: it has a secret, and gets plain Bearer tokens
    lifetime: int = 300  # of its tokens, in seconds


CLIENTS = {
    "billing": Client("invoices:read", Subject("CN=billing,O=Acme")),
    "billing-once": Client("invoices:read", Subject("CN=billing,O=Acme"), lifetime=1),
    "statistics": Client("statistics:read", Subject("CN=statistics,O=Acme")),
    "legacy": Client("invoices:read"),
}
LEGACY_SECRET = os.environ.get("LEGACY_SECRET") or secrets.token_urlsafe()
ISSUER = os.environ.get("ISSUER", "https://127.0.0.1:8443")
KEY_ID, KEY = secrets.token_hex(8), ec.generate_private_key(ec.SECP256R1())

app = Flask(__name__)


@app.get("/.well-known/oauth-authorization-server")
def metadata() -> dict[str, object]:
    return {
        "issuer": ISSUER,
        "token_endpoint": f"{ISSUER}/token",
        "jwks_uri": f"{ISSUER}/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["tls_client_auth", "client_secret_basic"],
        "tls_client_certificate_bound_access_tokens": True,
    }


@app.get("/jwks.json")
def keys() -> dict[str, object]:
    public = jwt.get_algorithm_by_name("ES256").to_jwk(KEY.public_key(), as_dict=True)
    return {"keys": [{**public, "kid": KEY_ID, "alg": "ES256", "use": "sig"}]}


@app.post("/token")
def token() -> Response | tuple[Response, int]:
    if request.form.get("grant_type") != "client_credentials":
        return jsonify(error="unsupported_grant_type"), 400
    certificate = client_certificate(request)
    basic = request.authorization
    client_id = basic.username if basic else request.form.get("client_id")
    client = CLIENTS.get(client_id or "")
    if client is None:
        return jsonify(error="invalid_client"), 401
    if client.certificate is None:
        known = basic is not None and secrets.compare_digest(basic.password or "", LEGACY_SECRET)
    else:
        known = certificate is not None and client.certificate.holds(certificate)
    if not known:
        return jsonify(error="invalid_client"), 401
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": "https://api.example",
        "sub": client_id,
        "client_id": client_id,
        "scope": client.scope,
        "iat": now,
        "exp": now + client.lifetime,
        "jti": secrets.token_urlsafe(16),
    }
    if client.certificate is not None and certificate is not None:
        claims["cnf"] = {"x5t#S256": certificate.thumbprint}
    signed = jwt.encode(claims, KEY, algorithm="ES256", headers={"typ": "at+jwt", "kid": KEY_ID})
    return jsonify(access_token=signed, token_type="Bearer", expires_in=client.lifetime)


# Clients without a certificate come too: for the keys, the metadata, and with a secret.
app.wsgi_app = ClientCertificateMiddleware(app.wsgi_app, ServerTLS())
