"""The clients that both authorization servers know in the tests."""

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

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


def authorization_query(client_id: str, verifier: str) -> dict[str, str]:
    """The parameters of an authorization request with PKCE (RFC 6749 4.1.1, RFC 7636 4.3)."""
    return {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": CALLBACK,
        "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }


def code_form(location: str, client_id: str, verifier: str) -> dict[str, str]:
    """The form that exchanges the code in this address for a token (RFC 6749 4.1.3, RFC 7636 4.5)."""
    (code,) = parse_qs(urlsplit(location).query)["code"]
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "client_id": client_id,
        "code_verifier": verifier,
    }
