"""The first part of the tour: an authorization server, a Flask API and a Starlette API."""

import base64
import contextlib
import hashlib
import json
import os
import secrets
import time
from urllib.parse import parse_qs, quote, urlsplit

import httpx2
import jwt
import services
from servers import free_ports, gunicorn, run_server, uvicorn
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from world import Response, Step, World, console, show

from mtls_middleware.testing import self_signed
from mtls_middleware.token_endpoint import mtls_endpoint, well_known

LEEWAY = 10  # seconds: the default difference between clocks that JWTAccessTokens accepts


def visit(world: World, servers: contextlib.ExitStack) -> list[bool]:
    """Start the three servers and send all requests. Return whether each response is as expected."""
    make_certificates(world)
    register_clients(world)
    aliases, flask, starlette = world.urls = [f"https://127.0.0.1:{port}" for port in free_ports(3)]
    issuer = world.issuer = aliases.replace("127.0.0.1", "localhost")
    environment = {
        **os.environ,
        "ISSUER": issuer,
        "ALIASES": aliases,
        "CLIENTS": str(world.directory / "clients.json"),
        "CA": str(world.directory / "ca.pem"),
        "SSL_CERT_FILE": str(world.directory / "ca.pem"),  # for the APIs, which fetch the issuer's keys
    }
    console.print("[bold]The tour[/] starts three servers with TLS, which request client certificates:")
    for title, url, command in (
        ("authorization server  Flask on gunicorn", issuer, gunicorn("authorization_server:app")),
        ("API                   Flask on gunicorn", flask, gunicorn("flask_app:app")),
        ("API                   Starlette on uvicorn", starlette, uvicorn("starlette_app:app")),
    ):
        servers.enter_context(run_server([*command(world.directory, url.rpartition(":")[2])], url, environment))
        console.print(f"  {title:44} [cyan]{url}[/]")
    metadata = httpx2.get(well_known(issuer), verify=world.context(None), trust_env=False).json()
    get_tokens(world, metadata)
    results = [show(step, send_token_request(world, metadata, step)) for step in token_steps(issuer)]
    results += [show(step, send(world, flask, step)) for step in api_steps(world, "Flask", flask)]
    results += [show(step, send(world, starlette, step)) for step in api_steps(world, "Starlette", starlette)]
    return results + [show(step, send_websocket(world, starlette, step)) for step in websocket_steps()]


def make_certificates(world: World) -> None:
    """Make a CA, a certificate for the servers and certificates for clients, and write them to files.

    In the TLS handshake, the servers accept certificates of the CA and two self-signed certificates.
    """
    world.authority.server().write(world.directory, name="server")
    world.certificates = {
        "billing": world.authority.issue("CN=billing,O=Acme"),
        "desktop": world.authority.issue("CN=alice's desktop,O=Acme"),
        "statistics": self_signed("CN=statistics"),
        "pretender": self_signed("CN=billing,O=Acme"),
    }
    (world.directory / "ca.pem").write_text(world.authority.pem)
    self_signed_pems = [world.certificates[name].pem for name in ("statistics", "pretender")]
    (world.directory / "accepted-clients.pem").write_text(world.authority.pem + "".join(self_signed_pems))
    for name, certificate in world.certificates.items():
        certificate.write(world.directory, name=name)


def register_clients(world: World) -> None:
    """Write the metadata of clients with different authentication methods (RFC 7591, RFC 8705)."""
    billing = {"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=billing,O=Acme"}
    by_key = {"token_endpoint_auth_method": "self_signed_tls_client_auth"}
    clients = [
        {"client_id": "billing", "scope": "invoices:read", **billing},
        {"client_id": "billing-once", "scope": "invoices:read", "lifetime": 1, **billing},
        {
            "client_id": "statistics",
            "scope": "statistics:read",
            "jwks": jwks(world, "statistics"),
            **by_key,
        },
        {"client_id": "pretender", "scope": "statistics:read", "jwks": jwks(world, "pretender"), **by_key},
        {
            "client_id": "desktop",
            "scope": "invoices:read",
            "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://127.0.0.1/callback"],
        },
        {"client_id": "legacy", "scope": "invoices:read", "client_secret": world.legacy_secret},
        *services.register_clients(),
    ]
    (world.directory / "clients.json").write_text(json.dumps(clients))


def jwks(world: World, name: str) -> dict[str, object]:
    """The JWK Set that registers a self-signed certificate (RFC 8705 2.2.2)."""
    certificate = world.certificates[name]
    key = jwt.get_algorithm_by_name("ES256").to_jwk(certificate.x509.public_key(), as_dict=True)
    return {"keys": [{**key, "x5c": [base64.b64encode(certificate.der).decode()]}]}


def get_tokens(world: World, metadata: dict[str, object]) -> None:
    """Request a token for each client from the authorization server."""
    console.print("\nEach client gets a token with its own authentication method:")
    for client_id, certificate, note in (
        ("billing-once", "billing", "tls_client_auth; its token is valid for one second"),
        ("billing", "billing", "tls_client_auth"),
        ("statistics", "statistics", "self_signed_tls_client_auth; for another scope"),
        ("legacy", None, "client_secret_basic; its token is not bound"),
    ):
        secret = None if certificate else (client_id, world.legacy_secret)
        form = {"grant_type": "client_credentials", "client_id": client_id}
        token_response = post(world, metadata, form, certificate, secret).raise_for_status().json()
        save_token(world, client_id, certificate, token_response, note)
    token_response = post(world, metadata, code_form(world, metadata), "desktop").raise_for_status().json()
    save_token(world, "desktop", "desktop", token_response, "a public client: authorization code with PKCE, for alice")
    world.refresh_token = token_response["refresh_token"]
    world.expired_at = time.monotonic() + 1 + LEEWAY


def save_token(
    world: World, client_id: str, certificate: str | None, token_response: dict[str, str], note: str
) -> None:
    world.tokens[client_id] = token_response["access_token"]
    credential = f"certificate [green]{certificate}[/]" if certificate else "a secret"
    console.print(f"  [yellow]{client_id:13}[/] {credential:33} [dim]{note}[/]")


def code_form(world: World, metadata: dict[str, object]) -> dict[str, str]:
    """The form for the token endpoint, with a new authorization code (RFC 6749 4.1) and PKCE verifier (RFC 7636)."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    redirect_uri = "http://127.0.0.1/callback"
    query = {
        "response_type": "code",
        "client_id": "desktop",
        "redirect_uri": redirect_uri,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    with httpx2.Client(verify=world.context(None), trust_env=False) as browser:
        response = browser.get(str(metadata["authorization_endpoint"]), params=query)
    code = parse_qs(urlsplit(response.headers["Location"]).query)["code"][0]
    form = {"grant_type": "authorization_code", "client_id": "desktop", "redirect_uri": redirect_uri}
    return {**form, "code": code, "code_verifier": verifier}


def post(
    world: World,
    metadata: dict[str, object],
    form: dict[str, str],
    certificate: str | None,
    secret: tuple[str, str] | None = None,
) -> httpx2.Response:
    """Send a token request. A client with a certificate uses the mTLS alias of the endpoint (RFC 8705 5)."""
    url = mtls_endpoint(metadata, "token_endpoint") if certificate else metadata["token_endpoint"]
    with httpx2.Client(verify=world.context(certificate), trust_env=False) as client:
        return client.post(str(url), data=form, auth=secret)


def token_steps(issuer: str) -> list[Step]:
    console.print()
    console.rule(f"[bold]Authorization server[/]  {issuer}", align="left")
    return [
        Step("billing, with a self-signed certificate of the same name", 401, "invalid_client", "pretender", "billing"),
        Step("billing, without a certificate", 401, "invalid_client", None, "billing"),
        Step("a stolen refresh token, with another certificate", 400, "invalid_grant", "billing", "desktop"),
        Step("the refresh token, with its certificate", 200, None, "desktop", "desktop"),
    ]


def send_token_request(world: World, metadata: dict[str, object], step: Step) -> Response:
    form = {"grant_type": "client_credentials", "client_id": str(step.token)}
    if step.token == "desktop":
        form |= {"grant_type": "refresh_token", "refresh_token": world.refresh_token}
    response = post(world, metadata, form, step.certificate)
    return Response(response.status_code, body=response.text.strip())


def api_steps(world: World, framework: str, url: str) -> list[Step]:
    console.print()
    console.rule(f"[bold]{framework}[/]  {url}", align="left")
    victim = world.certificates["billing"]
    forged = {"X-SSL-Client-Cert": quote(victim.pem, safe=""), "X-SSL-Client-Verify": "SUCCESS"}
    return [
        Step("the right certificate and its token", 200, None, "billing", "billing"),
        Step("no token", 401, None, "billing"),
        Step("a stolen token, with another certificate", 401, "invalid_token", "statistics", "billing"),
        Step("a stolen token, without a certificate", 401, "invalid_token", None, "billing"),
        Step("a stolen token, with a forged X-SSL-Client-Cert", 401, "invalid_token", None, "billing", forged),
        Step("alice's token, with the certificate of her desktop", 200, None, "desktop", "desktop"),
        Step("a token that is not bound to a certificate", 401, "invalid_token", "billing", "legacy"),
        Step("a token without the required scope", 403, "insufficient_scope", "statistics", "statistics"),
        Step("a token that has expired", 401, "invalid_token", "billing", "billing-once"),
    ]


def websocket_steps() -> list[Step]:
    return [
        Step("a websocket, the right certificate and its token", 101, None, "billing", "billing"),
        Step("a websocket, another certificate", 401, "invalid_token", "statistics", "billing"),
    ]


def send(world: World, url: str, step: Step) -> Response:
    """Send the request of a step over a new connection, with the certificate of the step."""
    if step.token == "billing-once" and (wait := world.expired_at - time.monotonic()) > 0:
        console.print(f"\n[dim]  ... waiting {wait:.0f} s: clocks may differ by {LEEWAY} s[/]")
        time.sleep(wait)
    with httpx2.Client(verify=world.context(step.certificate), trust_env=False) as client:
        response = client.get(f"{url}/invoices", headers=headers(world, step))
    return Response(response.status_code, response.headers.get("WWW-Authenticate", ""), response.text.strip())


def send_websocket(world: World, url: str, step: Step) -> Response:
    address = url.replace("https:", "wss:") + "/live"
    try:
        tls = world.context(step.certificate)
        with connect(address, ssl=tls, additional_headers=headers(world, step), proxy=None) as websocket:
            return Response(101, body=str(websocket.recv(timeout=10)))
    except InvalidStatus as error:
        response = error.response
        return Response(response.status_code, response.headers.get("WWW-Authenticate", ""), response.body.decode())


def headers(world: World, step: Step) -> dict[str, str]:
    return step.headers | ({"Authorization": f"Bearer {world.tokens[step.token]}"} if step.token else {})
