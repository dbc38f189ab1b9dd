"""The second part of the tour: an internal service without OAuth, whose root certificates change while it runs."""

import contextlib
import os
import time
from datetime import UTC, datetime, timedelta

import httpx2
from servers import free_ports, gunicorn, run_server, uvicorn
from world import Response, Step, World, console, show

from mtls_middleware.testing import CertificateAuthority

ID = "spiffe://acme.internal/web"
LIFETIME = 3  # seconds, for a certificate that expires while its client is connected


def visit(world: World, servers: contextlib.ExitStack) -> list[bool]:
    """Start the internal service as a WSGI and as an ASGI application. Return whether each response is as expected."""
    old, new = CertificateAuthority("CN=Workloads 2026"), CertificateAuthority("CN=Workloads 2027")
    world.certificates |= {
        "web": old.issue("CN=web", uris=[ID]),
        "web, renewed": new.issue("CN=web", uris=[ID]),
        "web of evil.example": old.issue("CN=web", uris=["spiffe://evil.example/web"]),
    }
    roots = world.directory / "workload-roots.pem"
    roots.write_text(old.pem)
    accepted = world.directory / "accepted-clients.pem"
    accepted.write_text(accepted.read_text() + old.pem + new.pem)  # the trust store decides about workloads
    environment = {**os.environ, "WORKLOAD_ROOTS": str(roots), "CLOCK_SKEW": "0"}
    urls = [f"https://127.0.0.1:{port}" for port in free_ports(2)]
    commands = (gunicorn("internal_service:wsgi_app"), uvicorn("internal_service:asgi_app"))
    for url, command in zip(urls, commands, strict=True):
        servers.enter_context(run_server([*command(world.directory, url.rpartition(":")[2])], url, environment))
    console.print()
    console.rule(f"[bold]An internal service[/]  as WSGI {urls[0]}  and ASGI {urls[1]}", align="left")
    results = [show(step, send(world, url, step)) for step in before() for url in urls]
    console.print("\n[dim]  ... replacing the file of roots while the service runs[/]")
    replacement = roots.with_suffix(".new")
    replacement.write_text(new.pem)
    replacement.replace(roots)
    time.sleep(2)
    results += [show(step, send(world, url, step)) for step in after() for url in urls]
    world.certificates["web, short-lived"] = new.issue(
        "CN=web", uris=[ID], not_after=datetime.now(UTC) + timedelta(seconds=LIFETIME)
    )
    return results + expiry_steps(world, urls[1])


def expiry_steps(world: World, url: str) -> list[bool]:
    """A client keeps its connection while its certificate expires, then connects again with a renewed certificate."""
    step = Step("a certificate that is valid for three seconds", 200, None, "web, short-lived", path="/stock")
    late = Step(
        "the same connection, after the certificate has expired", 403, REFUSED, "web, short-lived", path="/stock"
    )
    again = Step("a new connection, with the renewed certificate", 200, None, "web, renewed", path="/stock")
    with httpx2.Client(verify=world.context(step.certificate), trust_env=False) as client:
        results = [show(step, response_of(client.get(f"{url}{step.path}")))]
        time.sleep(LIFETIME + 1)  # shorter than uvicorn's timeout for idle connections
        response = client.get(f"{url}{late.path}")
    results.append(show(late, response_of(response)) and response.headers.get("Connection") == "close")
    return [*results, show(again, send(world, url, again))]


REFUSED = "client_certificate_refused"


def before() -> list[Step]:
    return [
        Step("a workload of the trust domain", 200, None, "web", path="/stock"),
        Step("no certificate", 403, "client_certificate_required", None, path="/stock"),
        Step("a workload of another trust domain", 403, REFUSED, "web of evil.example", path="/stock"),
        Step("the right name, but an untrusted root", 403, REFUSED, "web, renewed", path="/stock"),
    ]


def after() -> list[Step]:
    return [
        Step("the workload with its new certificate", 200, None, "web, renewed", path="/stock"),
        Step("the old certificate, whose root was removed", 403, REFUSED, "web", path="/stock"),
    ]


def send(world: World, url: str, step: Step) -> Response:
    with httpx2.Client(verify=world.context(step.certificate), trust_env=False) as client:
        return response_of(client.get(f"{url}{step.path}"))


def response_of(response: httpx2.Response) -> Response:
    return Response(response.status_code, response.headers.get("WWW-Authenticate", ""), response.text.strip())
