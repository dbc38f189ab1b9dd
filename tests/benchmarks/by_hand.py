"""What one would write without this package: the same work, with as little ado as its libraries allow.

It is written to be fast: keys are made once, nothing is checked that need not be.
"""

import base64
import hashlib
import hmac
import ssl
from typing import Any
from urllib.parse import unquote

from authlib.integrations.flask_oauth2 import ResourceProtector, current_token
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from cryptography import x509
from flask import Flask, abort, request
from joserfc.jwk import KeySet

from tests.benchmarks import stacks


def from_nginx(value: str) -> tuple[x509.Certificate, str]:
    """Certificate and thumbprint of nginx's `$ssl_client_escaped_cert`."""
    return _loaded(ssl.PEM_cert_to_DER_cert(unquote(value)))


def from_rfc9440(value: str) -> tuple[x509.Certificate, str]:
    """The same of `Client-Cert`."""
    return _loaded(base64.b64decode(value[1:-1]))


def _loaded(der: bytes) -> tuple[x509.Certificate, str]:
    return x509.load_der_x509_certificate(der), _thumbprint(der)


def _thumbprint(der: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode("ascii")


def flask_application(reached: list[int]) -> Flask:
    """A bare one; it tells `reached` of each request."""
    app = Flask("bare")

    @app.get("/")
    def invoices() -> str:
        reached.append(1)
        return "reached"

    return app


def flask_with_authlib(reached: list[int]) -> Flask:
    """The same behind Authlib's validator of RFC 9068, with the check of RFC 8705 3 written by hand."""
    app, protect = Flask("by_hand"), ResourceProtector()
    issuer = stacks.issuer()
    keys = KeySet.import_key_set(issuer.jwks)

    class Validator(JWTBearerTokenValidator):
        def get_jwks(self) -> Any:
            return keys

    protect.register_token_validator(Validator(issuer=issuer.issuer, resource_server=issuer.audience))

    @app.get("/")
    @protect(stacks.SCOPE)
    def invoices() -> str:
        if request.headers.get("X-SSL-Client-Verify") != "SUCCESS":
            abort(403)
        presented = _thumbprint(ssl.PEM_cert_to_DER_cert(unquote(request.headers["X-SSL-Client-Cert"])))
        if not hmac.compare_digest(presented, current_token["cnf"]["x5t#S256"]):
            abort(401)
        reached.append(1)
        return "reached"

    return app
