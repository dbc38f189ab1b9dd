"""The tour: an authorization server and two APIs, started for real, and every answer that matters, asked for and shown.

`--serve` leaves the servers running, with lines for curl. Exits 0 only if each answer is as it must be.
"""

import argparse
import base64
import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx2
import jwt
from rich.console import Console
from rich.markup import escape
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from mtls_middleware.token_endpoint import mtls_endpoint, well_known

HERE = Path(__file__).resolve().parent
LEEWAY = 10  # seconds that JWTAccessTokens lets clocks differ by default
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Step:
    """One request, and the answer that it must get. Certificate and token go by the names that `World` gives them."""

    title: str
    status: int
    error: str | None = None
    certificate: str | None = None
    token: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    challenge: str = ""
    body: str = ""

    def suits(self, step: Step) -> bool:
        """Whether this is the answer that the step must get: the status, and the error by its code."""
        if self.status != step.status:
            return False
        if step.error in ("invalid_client", "invalid_grant"):
            return bool(json.loads(self.body)["error"] == step.error)
        error = f'error="{step.error}"' in self.challenge if step.error else "error=" not in self.challenge
        return error and bool(self.challenge) == (step.status in (401, 403))


@dataclass
class World:
    """Everything that the steps need."""

    directory: Path
    authority: CertificateAuthority = field(default_factory=lambda: CertificateAuthority("CN=Tour CA"))
    certificates: dict[str, IssuedCertificate] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    refresh_token: str = ""
    legacy_secret: str = field(default_factory=secrets.token_urlsafe)
    expired_at: float = 0.0

    def context(self, certificate: str | None) -> ssl.SSLContext:
        return self.authority.client_context(self.certificates[certificate] if certificate else None)


def main() -> int:
    parser = argparse.ArgumentParser(description="Shows certificate-bound access tokens at work, on real servers.")
    parser.add_argument("--serve", action="store_true", help="leave the servers running, and print lines for curl")
    serve = parser.parse_args().serve
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers go with us
    with tempfile.TemporaryDirectory(prefix="mtls-tour-") as directory, contextlib.ExitStack() as servers:
        world = World(Path(directory))
        make_certificates(world)
        register_clients(world)
        aliases, flask, starlette = (f"https://127.0.0.1:{port}" for port in free_ports(3))
        issuer = aliases.replace("127.0.0.1", "localhost")
        environment = {
            **os.environ,
            "ISSUER": issuer,
            "ALIASES": aliases,
            "CLIENTS": str(world.directory / "clients.json"),
            "CA": str(world.directory / "ca.pem"),
            "SSL_CERT_FILE": str(world.directory / "ca.pem"),  # for the APIs, which fetch the issuer's keys
        }
        console.print("[bold]The tour[/] starts three servers with TLS, which ask for client certificates:")
        for title, url, command in (
            ("authorization server  Flask on gunicorn", issuer, gunicorn("authorization_server:app")),
            ("API                   Flask on gunicorn", flask, gunicorn("flask_app:app")),
            ("API                   Starlette on uvicorn", starlette, uvicorn("starlette_app:app")),
        ):
            servers.enter_context(running([*command(world.directory, url.rpartition(":")[2])], url, environment))
            console.print(f"  {title:44} [cyan]{url}[/]")
        metadata = httpx2.get(well_known(issuer), verify=world.context(None), trust_env=False).json()
        get_tokens(world, metadata)
        right = [show(step, ask_for_token(world, metadata, step)) for step in token_steps(issuer)]
        right += [show(step, ask(world, flask, step)) for step in steps(world, "Flask", flask)]
        right += [show(step, ask(world, starlette, step)) for step in steps(world, "Starlette", starlette)]
        right += [show(step, ask_websocket(world, starlette, step)) for step in websocket_steps()]
        console.print(f"\n[bold]{sum(right)} of {len(right)} answers are as they must be.[/]")
        if serve and all(right):
            lines_for_curl(world, issuer, (flask, starlette))
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
        return 0 if all(right) else 1


def make_certificates(world: World) -> None:
    """A CA, a certificate for the servers, and some for clients; the servers read them from files.

    The servers let in whom the CA knows, and the registered self-signed certificate: nobody else gets past TLS.
    """
    world.authority.server().write(world.directory, name="server")
    world.certificates = {
        "billing": world.authority.issue("CN=billing,O=Acme"),
        "desktop": world.authority.issue("CN=alice's desktop,O=Acme"),
        "statistics": self_signed("CN=statistics"),
        "pretender": self_signed("CN=billing,O=Acme"),
    }
    (world.directory / "ca.pem").write_text(world.authority.pem)
    own = [world.certificates[name].pem for name in ("statistics", "pretender")]
    (world.directory / "let-in.pem").write_text(world.authority.pem + "".join(own))
    for name, certificate in world.certificates.items():
        certificate.write(world.directory, name=name)


def register_clients(world: World) -> None:
    """The metadata of one client of each method, as RFC 7591 and RFC 8705 name them."""
    billing = {"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=billing,O=Acme"}
    own = {"token_endpoint_auth_method": "self_signed_tls_client_auth"}
    clients = [
        {"client_id": "billing", "scope": "invoices:read", **billing},
        {"client_id": "billing-once", "scope": "invoices:read", "lifetime": 1, **billing},
        {"client_id": "statistics", "scope": "statistics:read", "jwks": jwks(world, "statistics"), **own},
        {"client_id": "pretender", "scope": "statistics:read", "jwks": jwks(world, "pretender"), **own},
        {
            "client_id": "desktop",
            "scope": "invoices:read",
            "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://127.0.0.1/callback"],
        },
        {"client_id": "legacy", "scope": "invoices:read", "client_secret": world.legacy_secret},
    ]
    (world.directory / "clients.json").write_text(json.dumps(clients))


def jwks(world: World, name: str) -> dict[str, object]:
    """The JWK Set that registers a self-signed certificate (RFC 8705 2.2.2)."""
    certificate = world.certificates[name]
    key = jwt.get_algorithm_by_name("ES256").to_jwk(certificate.x509.public_key(), as_dict=True)
    return {"keys": [{**key, "x5c": [base64.b64encode(certificate.der).decode()]}]}


def gunicorn(app: str) -> Callable[[Path, str], list[str]]:
    """gunicorn's threaded worker: the one that hands over its socket, and with it the certificate."""
    return lambda directory, port: [
        *(sys.executable, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
        *("--threads", "4", "--log-level", "warning", "--no-control-socket"),
        *("--certfile", f"{directory}/server.pem", "--keyfile", f"{directory}/server-key.pem"),
        *("--ca-certs", f"{directory}/let-in.pem", "--cert-reqs", "1"),
    ]


def uvicorn(app: str) -> Callable[[Path, str], list[str]]:
    """uvicorn with our protocol classes, which hand over the certificate in the ASGI TLS extension."""
    return lambda directory, port: [
        *(sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", port, "--log-level", "warning"),
        *("--http", "mtls_middleware.servers.uvicorn_tls:HTTPTools"),
        *("--ws", "mtls_middleware.servers.uvicorn_tls:WebSockets", "--no-proxy-headers"),
        *("--ssl-certfile", f"{directory}/server.pem", "--ssl-keyfile", f"{directory}/server-key.pem"),
        *("--ssl-ca-certs", f"{directory}/let-in.pem", "--ssl-cert-reqs", "1"),
    ]


@contextlib.contextmanager
def running(command: list[str], url: str, environment: dict[str, str]) -> Iterator[None]:
    """One server, from when it accepts connections until the end of the block."""
    port = int(url.rpartition(":")[2])
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, cwd=HERE, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while server.poll() is None and time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            else:
                log.seek(0)
                raise SystemExit(f"{' '.join(command)}\ndid not start:\n{log.read().decode(errors='replace')}")
            yield
        finally:
            server.terminate()
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:  # gunicorn gives open connections half a minute
                server.kill()
                server.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def get_tokens(world: World, metadata: dict[str, object]) -> None:
    """Each client asks the authorization server for its token, as itself."""
    console.print("\nEach client gets a token, by a method of its own:")
    for client_id, certificate, note in (
        ("billing-once", "billing", "tls_client_auth; its token lives one second"),
        ("billing", "billing", "tls_client_auth"),
        ("statistics", "statistics", "self_signed_tls_client_auth; for another scope"),
        ("legacy", None, "client_secret_basic; bound to nothing"),
    ):
        secret = None if certificate else (client_id, world.legacy_secret)
        form = {"grant_type": "client_credentials", "client_id": client_id}
        answer = post(world, metadata, form, certificate, secret).raise_for_status().json()
        keep(world, client_id, certificate, answer, note)
    answer = post(world, metadata, code_for(world, metadata), "desktop").raise_for_status().json()
    keep(world, "desktop", "desktop", answer, "a public client: authorization code with PKCE, for alice")
    world.refresh_token = answer["refresh_token"]
    world.expired_at = time.monotonic() + 1 + LEEWAY


def keep(world: World, client_id: str, certificate: str | None, answer: dict[str, str], note: str) -> None:
    world.tokens[client_id] = answer["access_token"]
    shown = f"certificate [green]{certificate}[/]" if certificate else "a secret"
    console.print(f"  [yellow]{client_id:13}[/] {shown:33} [dim]{note}[/]")


def code_for(world: World, metadata: dict[str, object]) -> dict[str, str]:
    """What the token endpoint needs from a client that somebody has just allowed in (RFC 6749 4.1, RFC 7636)."""
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
    """A token request, to the address for clients with a certificate where it has one (RFC 8705 5)."""
    url = mtls_endpoint(metadata, "token_endpoint") if certificate else metadata["token_endpoint"]
    with httpx2.Client(verify=world.context(certificate), trust_env=False) as client:
        return client.post(str(url), data=form, auth=secret)


def token_steps(issuer: str) -> list[Step]:
    console.print()
    console.rule(f"[bold]Authorization server[/]  {issuer}", align="left")
    return [
        Step(
            "billing, with a certificate of its own making in its name", 401, "invalid_client", "pretender", "billing"
        ),
        Step("billing, without certificate", 401, "invalid_client", None, "billing"),
        Step("a stolen refresh token, with another certificate", 400, "invalid_grant", "billing", "desktop"),
        Step("the refresh token, with its certificate", 200, None, "desktop", "desktop"),
    ]


def ask_for_token(world: World, metadata: dict[str, object], step: Step) -> Answer:
    form = {"grant_type": "client_credentials", "client_id": str(step.token)}
    if step.token == "desktop":
        form |= {"grant_type": "refresh_token", "refresh_token": world.refresh_token}
    response = post(world, metadata, form, step.certificate)
    return Answer(response.status_code, body=response.text.strip())


def steps(world: World, framework: str, url: str) -> list[Step]:
    console.print()
    console.rule(f"[bold]{framework}[/]  {url}", align="left")
    victim = world.certificates["billing"]
    forged = {"X-SSL-Client-Cert": quote(victim.pem, safe=""), "X-SSL-Client-Verify": "SUCCESS"}
    return [
        Step("the right certificate and its token", 200, None, "billing", "billing"),
        Step("no token", 401, None, "billing"),
        Step("a stolen token, with another certificate", 401, "invalid_token", "statistics", "billing"),
        Step("a stolen token, without certificate", 401, "invalid_token", None, "billing"),
        Step("a stolen token, with a forged X-SSL-Client-Cert", 401, "invalid_token", None, "billing", forged),
        Step("alice's token, with the certificate of her desktop", 200, None, "desktop", "desktop"),
        Step("a token that is bound to no certificate", 401, "invalid_token", "billing", "legacy"),
        Step("a token with too small a scope", 403, "insufficient_scope", "statistics", "statistics"),
        Step("a token that has expired", 401, "invalid_token", "billing", "billing-once"),
    ]


def websocket_steps() -> list[Step]:
    return [
        Step("a websocket, the right certificate and its token", 101, None, "billing", "billing"),
        Step("a websocket, another certificate", 401, "invalid_token", "statistics", "billing"),
    ]


def ask(world: World, url: str, step: Step) -> Answer:
    """Send the step's request over a connection of its own, with its certificate."""
    if step.token == "billing-once" and (wait := world.expired_at - time.monotonic()) > 0:
        console.print(f"\n[dim]  ... waiting {wait:.0f} s: clocks may differ by {LEEWAY} s[/]")
        time.sleep(wait)
    with httpx2.Client(verify=world.context(step.certificate), trust_env=False) as client:
        response = client.get(f"{url}/invoices", headers=headers(world, step))
    return Answer(response.status_code, response.headers.get("WWW-Authenticate", ""), response.text.strip())


def ask_websocket(world: World, url: str, step: Step) -> Answer:
    address = url.replace("https:", "wss:") + "/live"
    try:
        tls = world.context(step.certificate)
        with connect(address, ssl=tls, additional_headers=headers(world, step), proxy=None) as websocket:
            return Answer(101, body=str(websocket.recv(timeout=10)))
    except InvalidStatus as refused:
        response = refused.response
        return Answer(response.status_code, response.headers.get("WWW-Authenticate", ""), response.body.decode())


def headers(world: World, step: Step) -> dict[str, str]:
    return step.headers | ({"Authorization": f"Bearer {world.tokens[step.token]}"} if step.token else {})


def show(step: Step, answer: Answer) -> bool:
    """Print what was sent and what came back; gives whether that is right."""
    right = answer.suits(step)
    sent = [request_line(step), f"certificate [green]{step.certificate}[/]" if step.certificate else "no certificate"]
    if not sent[0].startswith("POST"):
        sent.append(f"token of [yellow]{step.token}[/]" if step.token else "no token")
    sent += [f"[red]{name}: {value[:28]}{'…' * (len(value) > 28)}[/]" for name, value in step.headers.items()]
    mark, color = ("✔", "green") if right else ("✘", "red")
    console.print(f"\n[{color}]{mark}[/] [bold]{step.title}[/]")
    console.print(f"  → {'  '.join(sent)}")
    console.print(f"  ← [bold {color}]{answer.status}[/]  {escape(answer.challenge or answer.body[:120])}")
    if not right:
        console.print(f"    [red]expected {step.status} {step.error or ''}[/]")
    return right


def request_line(step: Step) -> str:
    if "websocket" in step.title:
        return "GET /live"
    if step.error in ("invalid_client", "invalid_grant") or "refresh" in step.title:
        return f"POST /token  client_id=[yellow]{step.token}[/]"
    return "GET /invoices"


def lines_for_curl(world: World, issuer: str, apis: tuple[str, ...]) -> None:
    directory = world.directory
    console.print()
    console.rule("[bold]Try it yourself[/]  the servers run until you press Ctrl-C", align="left")
    curl = f"curl -s -w '\\n' --cacert {directory}/ca.pem"
    billing, desktop = (
        f"--cert {directory}/{name}.pem --key {directory}/{name}-key.pem" for name in ("billing", "desktop")
    )
    extract = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""
    form = "-d grant_type=client_credentials -d client_id=billing"
    print(f"TOKEN=$({curl} {billing} {form} {issuer}/token | {extract})")
    for url in apis:
        print(f'{curl} {billing} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f'{curl} {desktop} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f'{curl} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f"{curl} -i {url}/health", flush=True)


if __name__ == "__main__":
    sys.exit(main())
