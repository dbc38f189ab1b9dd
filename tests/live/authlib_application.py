"""The documented Authlib server, for a WSGI server: its issuer, its clients and its metadata come from the environment.

It is started in a folder with `clients-ca.pem`.
"""

import json
import os
from typing import Any

import jwt

from mtls_middleware.token_endpoint import authorization_server_metadata
from tests.integrations import authlib_models, page_code

ISSUER = os.environ["ISSUER"]
page_code.FILES["authorization_server.py"] = page_code.FILES["authorization_server.py"].replace(
    "https://as.example", ISSUER
)
app = authlib_models.Server(json.loads(os.environ["CLIENTS"])).app


@app.get("/.well-known/oauth-authorization-server")
def metadata() -> dict[str, Any]:
    return authorization_server_metadata(
        issuer=ISSUER,
        token_endpoint=f"{ISSUER}/token",
        token_endpoint_auth_methods_supported=["tls_client_auth", "self_signed_tls_client_auth"],
        jwks_uri=f"{ISSUER}/jwks.json",
        response_types_supported=["code"],
    )


@app.get("/jwks.json")
def keys() -> dict[str, Any]:
    public = jwt.get_algorithm_by_name("RS256").to_jwk(authlib_models.KEY.public_key(), as_dict=True)
    return {"keys": [{**public, "kid": "k", "use": "sig", "alg": "RS256"}]}
