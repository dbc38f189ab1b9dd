"""The clients that both authorization servers know in the tests."""

import base64
from typing import Any

import jwt

from mtls_middleware.testing import IssuedCertificate

SECRET = "a secret that is long enough for an HMAC"
CALLBACK = "https://app.example/callback"
BOUND = {"tls_client_certificate_bound_access_tokens": True}


def metadata(robot: IssuedCertificate) -> dict[str, dict[str, Any]]:
    """Registration metadata by client_id: one of each method, `robot` with its self-signed certificate."""
    jwk = jwt.get_algorithm_by_name("ES256").to_jwk(robot.key.public_key(), as_dict=True)
    jwks = {"keys": [jwk | {"x5c": [base64.b64encode(robot.der).decode()]}]}
    return {
        "billing": {
            "token_endpoint_auth_method": "tls_client_auth",
            "tls_client_auth_san_dns": "billing.internal",
            **BOUND,
        },
        "robot": {"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": jwks, **BOUND},
        "secret": {"token_endpoint_auth_method": "client_secret_basic"},
        "bound-secret": {"token_endpoint_auth_method": "client_secret_basic", **BOUND},
        "app": {"token_endpoint_auth_method": "none", **BOUND},
        "plain-app": {"token_endpoint_auth_method": "none"},
    }


def basic(client_id: str, secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}
