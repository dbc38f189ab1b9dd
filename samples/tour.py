"""The tour: an authorization server and two APIs, started for real, and every answer that matters, asked for and shown.

`--serve` leaves the servers running, with lines for curl. Exits 0 only if each answer is as it must be.
"""

import argparse
import contextlib
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
from urllib.parse import quote

import httpx2
from rich.console import Console
from rich.markup import escape
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

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
        error = f'error="{step.error}"' in self.challenge if step.error else "error=" not in self.challenge
        return self.status == step.status and error and bool(self.challenge) == (step.status in (401, 403))


@dataclass
class World:
    """Everything that the steps need."""

    directory: Path
    authority: CertificateAuthority = field(default_factory=lambda: CertificateAuthority("CN=Tour CA"))
    certificates: dict[str, IssuedCertificate] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
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
        issuer, flask, starlette = (f"https://127.0.0.1:{port}" for port in free_ports(3))
        environment = {
            **os.environ,
            "ISSUER": issuer,
            "LEGACY_SECRET": world.legacy_secret,
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
        get_tokens(world, issuer)
        right = [show(step, ask(world, flask, step)) for step in steps(world, "Flask", flask)]
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
    """A CA, a certificate for the servers, and one each for two clients; the servers read them from files."""
    (world.directory / "ca.pem").write_text(world.authority.pem)
    world.authority.server("127.0.0.1").write(world.directory, name="server")
    for name in ("billing", "statistics"):
        world.certificates[name] = world.authority.issue(f"CN={name},O=Acme")
        world.certificates[name].write(world.directory, name=name)


def gunicorn(app: str) -> Callable[[Path, str], list[str]]:
    """gunicorn's threaded worker: the one that hands over its socket, and with it the certificate."""
    return lambda directory, port: [
        *(sys.executable, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
        *("--threads", "4", "--log-level", "warning", "--no-control-socket"),
        *("--certfile", f"{directory}/server.pem", "--keyfile", f"{directory}/server-key.pem"),
        *("--ca-certs", f"{directory}/ca.pem", "--cert-reqs", "1"),
    ]


def uvicorn(app: str) -> Callable[[Path, str], list[str]]:
    """uvicorn with our protocol classes, which hand over the certificate in the ASGI TLS extension."""
    return lambda directory, port: [
        *(sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", port, "--log-level", "warning"),
        *("--http", "mtls_middleware.servers.uvicorn_tls:HTTPTools"),
        *("--ws", "mtls_middleware.servers.uvicorn_tls:WebSockets", "--no-proxy-headers"),
        *("--ssl-certfile", f"{directory}/server.pem", "--ssl-keyfile", f"{directory}/server-key.pem"),
        *("--ssl-ca-certs", f"{directory}/ca.pem", "--ssl-cert-reqs", "1"),
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
            server.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def get_tokens(world: World, issuer: str) -> None:
    """Each client asks the authorization server for its token, as itself."""
    console.print("\nEach client gets its token by the client credentials grant:")
    for client_id, certificate, note in (
        ("billing-once", "billing", "lives one second"),
        ("billing", "billing", ""),
        ("statistics", "statistics", "for another scope"),
        ("legacy", None, "by a secret: bound to nothing"),
    ):
        secret = None if certificate else (client_id, world.legacy_secret)
        form = {"grant_type": "client_credentials", "client_id": client_id}
        with httpx2.Client(verify=world.context(certificate), trust_env=False) as client:
            response = client.post(f"{issuer}/token", data=form, auth=secret).raise_for_status()
        world.tokens[client_id] = response.json()["access_token"]
        shown = f"certificate [green]{certificate}[/]" if certificate else "a secret"
        console.print(f"  [yellow]{client_id:13}[/] with {shown}  [dim]{note}[/]")
    world.expired_at = time.monotonic() + 1 + LEEWAY


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
            return Answer(101, body=str(websocket.recv()))
    except InvalidStatus as refused:
        response = refused.response
        return Answer(response.status_code, response.headers.get("WWW-Authenticate", ""), response.body.decode())


def headers(world: World, step: Step) -> dict[str, str]:
    return step.headers | ({"Authorization": f"Bearer {world.tokens[step.token]}"} if step.token else {})


def show(step: Step, answer: Answer) -> bool:
    """Print what was sent and what came back; gives whether that is right."""
    right = answer.suits(step)
    path = "/live" if "websocket" in step.title else "/invoices"
    sent = [f"GET {path}", f"certificate [green]{step.certificate}[/]" if step.certificate else "no certificate"]
    sent.append(f"token of [yellow]{step.token}[/]" if step.token else "no token")
    sent += [f"[red]{name}: {value[:28]}{'…' * (len(value) > 28)}[/]" for name, value in step.headers.items()]
    mark, color = ("✔", "green") if right else ("✘", "red")
    console.print(f"\n[{color}]{mark}[/] [bold]{step.title}[/]")
    console.print(f"  → {'  '.join(sent)}")
    console.print(f"  ← [bold {color}]{answer.status}[/]  {escape(answer.challenge or answer.body)}")
    if not right:
        console.print(f"    [red]expected {step.status} {step.error or ''}[/]")
    return right


def lines_for_curl(world: World, issuer: str, apis: tuple[str, ...]) -> None:
    directory = world.directory
    console.print()
    console.rule("[bold]Try it yourself[/]  the servers run until you press Ctrl-C", align="left")
    curl = f"curl -s -w '\\n' --cacert {directory}/ca.pem"
    billing, statistics = (
        f"--cert {directory}/{name}.pem --key {directory}/{name}-key.pem" for name in ("billing", "statistics")
    )
    extract = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""
    form = "-d grant_type=client_credentials -d client_id=billing"
    print(f"TOKEN=$({curl} {billing} {form} {issuer}/token | {extract})")
    for url in apis:
        print(f'{curl} {billing} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f'{curl} {statistics} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f'{curl} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f"{curl} -i {url}/health", flush=True)


if __name__ == "__main__":
    sys.exit(main())
