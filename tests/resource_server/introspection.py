"""What the tests of introspection share: a validator that asks the server, and a usual answer."""

import time
from typing import Any

from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.resource_server import IntrospectedAccessTokens
from mtls_middleware.testing import IssuedCertificate
from tests.introspection_server import CLIENT_ID, CLIENT_SECRET, IntrospectionServer

TOKEN = "2YotnFZFEjr1zCsicMWpAA"
BEARER = f"Bearer {TOKEN}"
ISSUER, AUDIENCE = "https://as.test", "https://api.test"


def asking(server: IntrospectionServer, **options: Any) -> IntrospectedAccessTokens:
    usual = {"endpoint": server.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "allow_http": True}
    return IntrospectedAccessTokens(**{**usual, "issuer": ISSUER, "audience": AUDIENCE, **options})


def active(certificate: IssuedCertificate | None = None, **changes: Any) -> dict[str, Any]:
    """A usual answer; `...` as a value leaves the member out."""
    members: dict[str, Any] = {
        "active": True,
        "token_type": "Bearer",
        "scope": "read write",
        "sub": "user",
        "client_id": "billing",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(time.time()) + 300,
    }
    if certificate is not None:
        members["cnf"] = {"x5t#S256": certificate.thumbprint}
    return {name: value for name, value in {**members, **changes}.items() if value is not ...}


def validate(tokens: Any, text: str = TOKEN, now: float | None = None) -> Any:
    return BlockingDriver().run(tokens.validate(text, time.time() if now is None else now))
