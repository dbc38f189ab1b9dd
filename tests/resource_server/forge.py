"""Signs any bytes as a JWS, right or wrong; the package's own `TokenIssuer` only signs what JSON can hold."""

import base64
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.resource_server import AccessToken, JWTAccessTokens

ISSUER, AUDIENCE, KEY_ID = "https://issuer.test", "https://api.test", "forge"
KEY = ec.generate_private_key(ec.SECP256R1())
_ES256 = jwt.get_algorithm_by_name("ES256")
JWK: dict[str, Any] = {**_ES256.to_jwk(KEY.public_key(), as_dict=True), "kid": KEY_ID, "alg": "ES256"}
JWKS = {"keys": [JWK]}
HEADER = {"typ": "at+jwt", "alg": "ES256", "kid": KEY_ID}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user", "client_id": "client", "jti": "1", "iat": now}
    return {**usual, "exp": now + 86_400, **changes}


def signing_input(header: Any, payload: Any) -> str:
    """The first two parts; bytes and text go in as they are, everything else as JSON."""
    return ".".join(base64url(_bytes(part)) for part in (header, payload))


def token(header: Any = HEADER, payload: Any = None) -> str:
    """A token whose signature is good, whatever it says."""
    signed = signing_input(header, claims() if payload is None else payload)
    return f"{signed}.{base64url(_ES256.sign(signed.encode('ascii'), KEY))}"


def with_member(text: str, **changes: Any) -> str:
    """The usual claims with `text` as one more raw member: `"exp": 1e400`."""
    usual = {name: value for name, value in claims(**changes).items() if f'"{name}"' not in text}
    return json.dumps(usual)[:-1] + ", " + text + "}"


def access_tokens(**options: Any) -> JWTAccessTokens:
    return JWTAccessTokens(**{"issuer": ISSUER, "audience": AUDIENCE, "jwks": JWKS, **options})


def validate(tokens: JWTAccessTokens, text: str, now: float | None = None) -> AccessToken:
    return BlockingDriver().run(tokens.validate(text, time.time() if now is None else now))


def _bytes(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    return (part if isinstance(part, str) else json.dumps(part)).encode("utf-8")
