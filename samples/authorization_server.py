"""A small authorization server that binds the tokens of a client with a certificate to that certificate.

It supports client credentials, authorization code with PKCE (RFC 7636), pushed authorization requests (RFC 9126),
refresh tokens, introspection, revocation, client registration (RFC 7591) and metadata. Clients authenticate with a
certificate (RFC 8705 section 2) or a secret, or are public. This server is an example: every user is logged in as
alice, every client with a certificate can register, and all data is lost when the process ends.

Environment variables:

    ISSUER   the URL of this server
    CLIENTS  a JSON file with the metadata of the clients (RFC 7591)
    CA       a PEM file with the root certificates for `tls_client_auth`
    ALIASES  the URL for clients with a certificate, if it is not ISSUER
"""

import base64
import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask, Response, jsonify, redirect, request

from mtls_middleware import ConfigurationError, Refused, client_certificate, oauth_client
from mtls_middleware.sources import ServerTLS
from mtls_middleware.token_endpoint import (
    ClientAuthenticator,
    RegisteredClient,
    authorization_server_metadata,
    confirm_refresh_token,
    confirmation,
)
from mtls_middleware.validation import TrustStore
from mtls_middleware.wsgi import ClientAuthenticationMiddleware, ClientCertificateMiddleware

ISSUER = os.environ.get("ISSUER", "https://localhost:8443")
ALIASES = os.environ.get("ALIASES", ISSUER)
AUDIENCE = "https://api.example"
METADATA = {each["client_id"]: each for each in json.loads(Path(os.environ["CLIENTS"]).read_text())}
CLIENTS = {client_id: RegisteredClient.from_metadata(each) for client_id, each in METADATA.items()}
KEY_ID, KEY = secrets.token_hex(8), ec.generate_private_key(ec.SECP256R1())
JWKS = {
    "keys": [
        {
            **jwt.get_algorithm_by_name("ES256").to_jwk(KEY.public_key(), as_dict=True),
            "kid": KEY_ID,
            "alg": "ES256",
            "use": "sig",
        }
    ]
}


@dataclass
class Grant:
    """The access that a user gave to a client, and the PKCE challenge or certificate that the client must prove."""

    client_id: str
    subject: str
    scope: str
    challenge: str = ""
    redirect_uri: str = ""
    cnf: dict[str, str] | None = None
    expires: float = field(default_factory=lambda: time.time() + 3600)


codes: dict[str, Grant] = {}
pushed: dict[str, dict[str, str]] = {}  # authorization requests, by request_uri
REGISTERED_BY_CLIENTS = {
    "token_endpoint_auth_method", "jwks", "redirect_uris", "tls_client_auth_subject_dn", "tls_client_auth_san_dns",
    "tls_client_auth_san_uri", "tls_client_auth_san_ip", "tls_client_auth_san_email",
}  # fmt: skip
refresh_tokens: dict[str, Grant] = {}
revoked: set[str] = set()
app = Flask(__name__)


class OAuthError(Exception):
    """An error response of RFC 6749 5.2. The argument is the error code."""


@app.errorhandler(OAuthError)
def oauth_error(error: OAuthError) -> tuple[Response, int]:
    status = 401 if str(error) == "invalid_client" else 400
    response = no_store(jsonify(error=str(error)))
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="clients"'  # RFC 6749 5.2, RFC 9110 15.5.2
    return response, status


def no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


@app.get("/.well-known/oauth-authorization-server")
def metadata() -> dict[str, Any]:
    paths = {
        "token": "token",
        "introspection": "introspect",
        "revocation": "revoke",
        "pushed_authorization_request": "par",
        "registration": "register",
    }
    methods = ["tls_client_auth", "self_signed_tls_client_auth", "client_secret_basic", "none"]
    return authorization_server_metadata(
        issuer=ISSUER,
        token_endpoint=f"{ISSUER}/token",
        token_endpoint_auth_methods_supported=methods,
        mtls_endpoint_aliases={f"{name}_endpoint": f"{ALIASES}/{path}" for name, path in paths.items()},
        authorization_endpoint=f"{ISSUER}/authorize",
        introspection_endpoint=f"{ISSUER}/introspect",
        introspection_endpoint_auth_methods_supported=methods[:3],
        revocation_endpoint=f"{ISSUER}/revoke",
        revocation_endpoint_auth_methods_supported=methods,
        pushed_authorization_request_endpoint=f"{ISSUER}/par",
        registration_endpoint=f"{ISSUER}/register",
        jwks_uri=f"{ISSUER}/jwks.json",
        response_types_supported=["code"],
        grant_types_supported=["authorization_code", "client_credentials", "refresh_token"],
        code_challenge_methods_supported=["S256"],
        authorization_response_iss_parameter_supported=True,
    )


@app.get("/jwks.json")
def jwks() -> dict[str, Any]:
    return JWKS


@app.post("/register")
def register() -> tuple[Response, int]:
    """Register a client that authenticates by certificate (RFC 7591).

    The connection must present the certificate that the client registers: the registered name, or a certificate of the
    registered keys. A real server also demands an initial access token or a software statement.
    """
    registration = request.get_json(silent=True)
    if not isinstance(registration, dict) or not isinstance(registration.get("redirect_uris", []), list):
        raise OAuthError("invalid_client_metadata")
    client_id = secrets.token_urlsafe(16)
    # The server, not the client, decides on all other members, for example on the scope.
    stored = {name: value for name, value in registration.items() if name in REGISTERED_BY_CLIENTS}
    stored |= {"client_id": client_id, "scope": "invoices:read"}
    try:
        client = RegisteredClient.from_metadata(stored)
        authenticator.verify_registration(client, client_certificate(request), time.time())
    except (ConfigurationError, Refused) as error:
        raise OAuthError("invalid_client_metadata") from error
    if client.token_endpoint_auth_method not in ("tls_client_auth", "self_signed_tls_client_auth"):
        raise OAuthError("invalid_client_metadata")
    METADATA[client_id], CLIENTS[client_id] = stored, client
    return no_store(jsonify(stored)), 201


@app.post("/par")
def pushed_authorization_request() -> tuple[Response, int]:
    client = authenticated_client()
    if "request_uri" in request.form:  # RFC 9126 2.1
        raise OAuthError("invalid_request")
    request_uri = f"urn:ietf:params:oauth:request_uri:{secrets.token_urlsafe()}"
    pushed[request_uri] = {**request.form.to_dict(), "client_id": client.client_id}
    return no_store(jsonify(request_uri=request_uri, expires_in=60)), 201


@app.get("/authorize")
def authorize() -> Any:
    client_id, parameters = request.args.get("client_id", ""), request.args.to_dict()
    if "request_uri" in parameters:
        parameters = pushed.pop(parameters["request_uri"], {})
        if parameters.get("client_id") != client_id:  # RFC 9126 4: the client that pushed the request
            raise OAuthError("invalid_request")
    redirect_uri = parameters.get("redirect_uri", "")
    if redirect_uri not in METADATA.get(client_id, {}).get("redirect_uris", ()):
        raise OAuthError("invalid_request")  # never redirect to an unregistered URI
    challenge = parameters.get("code_challenge", "")
    if parameters.get("response_type") != "code" or parameters.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request")
    code = secrets.token_urlsafe()
    codes[code] = Grant(client_id, "alice", METADATA[client_id]["scope"], challenge, redirect_uri)
    query = {"code": code, "state": parameters.get("state", ""), "iss": ISSUER}
    return redirect(f"{redirect_uri}?{urlencode(query)}", 303)


@app.post("/token")
def token() -> Response:
    client = authenticated_client()
    grants = {
        "client_credentials": client_credentials,
        "authorization_code": authorization_code,
        "refresh_token": refresh,
    }
    grant = grants.get(request.form.get("grant_type", ""))
    if grant is None:
        raise OAuthError("unsupported_grant_type")
    return no_store(jsonify(grant(client)))


def authenticated_client(*, public: bool = True) -> RegisteredClient:
    """The client of the request. The middleware has checked certificates; this function checks secrets.

    A public client is accepted unless `public` is false.
    """
    client = oauth_client(request)
    if client is not None:
        return client
    basic = request.authorization
    # The client form-encodes its id and secret before HTTP Basic (RFC 6749 2.3.1).
    client_id = unquote_plus(basic.username or "") if basic else request.form.get("client_id", "")
    given = unquote_plus(basic.password or "") if basic else ""
    client = CLIENTS.get(client_id)
    method = client.token_endpoint_auth_method if client else None
    secret = METADATA.get(client_id, {}).get("client_secret")
    if client and method == "client_secret_basic" and secret and same(given, secret):
        return client
    if client and method == "none" and public and basic is None:
        return client
    raise OAuthError("invalid_client")


def same(given: str, expected: str) -> bool:
    """Compare two strings in constant time."""
    return secrets.compare_digest(given.encode(), expected.encode())


def client_credentials(client: RegisteredClient) -> dict[str, Any]:
    if client.token_endpoint_auth_method == "none":
        raise OAuthError("unauthorized_client")
    return issue(Grant(client.client_id, client.client_id, METADATA[client.client_id]["scope"]))


def authorization_code(client: RegisteredClient) -> dict[str, Any]:
    grant = codes.pop(request.form.get("code", ""), None)
    verifier = hashlib.sha256(request.form.get("code_verifier", "").encode()).digest()
    if (
        grant is None
        or grant.client_id != client.client_id
        or grant.redirect_uri != request.form.get("redirect_uri")
        or not same(base64.urlsafe_b64encode(verifier).rstrip(b"=").decode(), grant.challenge)
    ):
        raise OAuthError("invalid_grant")
    certificate = client_certificate(request)
    grant.cnf = confirmation(certificate) if certificate else None
    return issue(grant, refreshable=True)


def refresh(client: RegisteredClient) -> dict[str, Any]:
    grant = refresh_tokens.get(request.form.get("refresh_token", ""))
    if grant is None or grant.client_id != client.client_id:
        raise OAuthError("invalid_grant")
    if client.token_endpoint_auth_method == "none" and grant.cnf is not None:
        try:
            confirm_refresh_token(grant.cnf, client_certificate(request))
        except Refused as refused:
            raise OAuthError(refused.code) from refused
    return issue(grant)


def issue(grant: Grant, *, refreshable: bool = False) -> dict[str, Any]:
    """Issue an access token. By default it is bound to the certificate of this request (RFC 8705 3 and 6.3)."""
    now, lifetime = int(time.time()), METADATA[grant.client_id].get("lifetime", 300)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": grant.subject,
        "client_id": grant.client_id,
        "scope": grant.scope,
        "iat": now,
        "exp": now + lifetime,
        "jti": secrets.token_urlsafe(16),
    }
    certificate = client_certificate(request)
    if certificate is not None and METADATA[grant.client_id].get("tls_client_certificate_bound_access_tokens", True):
        claims["cnf"] = confirmation(certificate)
    signed = jwt.encode(claims, KEY, algorithm="ES256", headers={"typ": "at+jwt", "kid": KEY_ID})
    response_body = {"access_token": signed, "token_type": "Bearer", "expires_in": lifetime, "scope": grant.scope}
    if refreshable:
        response_body["refresh_token"] = secrets.token_urlsafe()
        refresh_tokens[response_body["refresh_token"]] = grant
    return response_body


@app.post("/introspect")
def introspect() -> Response:
    authenticated_client(public=False)
    return no_store(jsonify(active_claims(request.form.get("token", "")) or {"active": False}))


@app.post("/revoke")
def revoke() -> Response:
    client = authenticated_client()
    token_value = request.form.get("token", "")
    claims = active_claims(token_value)
    if claims and claims["client_id"] == client.client_id:
        revoked.add(claims["jti"])
    grant = refresh_tokens.get(token_value)
    if grant and grant.client_id == client.client_id:
        del refresh_tokens[token_value]
    return Response(status=200)  # also for an unknown token (RFC 7009 2.2)


def active_claims(token_value: str) -> dict[str, Any] | None:
    """The introspection response (RFC 7662 2.2) for a valid access token, with `cnf` (RFC 8705 3.2), or `None`."""
    try:
        claims = jwt.decode(token_value, KEY.public_key(), algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    except jwt.PyJWTError:
        return None
    return None if claims["jti"] in revoked else {"active": True, "token_type": "Bearer", **claims}


# The outer middleware reads the certificate. The inner middleware authenticates clients that registered a certificate,
# on these paths. A self-signed certificate proves only its key, so the trust store verifies `tls_client_auth` clients.
authenticator = ClientAuthenticator(CLIENTS, trust_store=TrustStore([os.environ["CA"]]))
app.wsgi_app = ClientCertificateMiddleware(
    ClientAuthenticationMiddleware(app.wsgi_app, authenticator, paths=["/token", "/introspect", "/revoke", "/par"]),
    ServerTLS(),
)
