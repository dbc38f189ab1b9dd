"""The tour's second part: an internal service without OAuth, and its roots exchanged while it runs."""

import contextlib
import os
import time
from datetime import UTC, datetime, timedelta

import httpx2
from servers import free_ports, gunicorn, running, uvicorn
from world import Answer, Step, World, console, show

from mtls_middleware.testing import CertificateAuthority

ID = "spiffe://acme.internal/web"
LIFETIME = 3  # seconds, of a certificate that expires while its client is connected


def visit(world: World, servers: contextlib.ExitStack) -> list[bool]:
    """Start the internal service as WSGI and as ASGI application, and say of each answer whether it is right."""
    old, new = CertificateAuthority("CN=Workloads 2026"), CertificateAuthority("CN=Workloads 2027")
    world.certificates |= {
        "web": old.issue("CN=web", uris=[ID]),
        "web, renewed": new.issue("CN=web", uris=[ID]),
        "web of evil.example": old.issue("CN=web", uris=["spiffe://evil.example/web"]),
    }
    roots = world.directory / "workload-roots.pem"
    roots.write_text(old.pem)
    let_in = world.directory / "let-in.pem"
    let_in.write_text(let_in.read_text() + old.pem + new.pem)  # who may be a workload is the trust store's say
    environment = {**os.environ, "WORKLOAD_ROOTS": str(roots), "CLOCK_SKEW": "0"}
    urls = [f"https://127.0.0.1:{port}" for port in free_ports(2)]
    commands = (gunicorn("internal_service:wsgi_app"), uvicorn("internal_service:asgi_app"))
    for url, command in zip(urls, commands, strict=True):
        servers.enter_context(running([*command(world.directory, url.rpartition(":")[2])], url, environment))
    console.print()
    console.rule(f"[bold]An internal service[/]  as WSGI {urls[0]}  and ASGI {urls[1]}", align="left")
    right = [show(step, ask(world, url, step)) for step in before() for url in urls]
    console.print("\n[dim]  ... the file of roots is replaced; the service goes on[/]")
    replacement = roots.with_suffix(".new")
    replacement.write_text(new.pem)
    replacement.replace(roots)
    time.sleep(2)
    right += [show(step, ask(world, url, step)) for step in after() for url in urls]
    world.certificates["web, short-lived"] = new.issue(
        "CN=web", uris=[ID], not_after=datetime.now(UTC) + timedelta(seconds=LIFETIME)
    )
    return right + outlived(world, urls[1])


def outlived(world: World, url: str) -> list[bool]:
    """A client keeps its connection while its certificate expires, then connects again with the renewed one."""
    step = Step("a certificate that lives for three seconds", 200, None, "web, short-lived", path="/stock")
    late = Step("the same connection, when it has expired", 403, REFUSED, "web, short-lived", path="/stock")
    again = Step("a new connection, with the renewed certificate", 200, None, "web, renewed", path="/stock")
    with httpx2.Client(verify=world.context(step.certificate), trust_env=False) as client:
        right = [show(step, answer(client.get(f"{url}{step.path}")))]
        time.sleep(LIFETIME + 1)  # less than uvicorn keeps an idle connection
        response = client.get(f"{url}{late.path}")
    right.append(show(late, answer(response)) and response.headers.get("Connection") == "close")
    return [*right, show(again, ask(world, url, again))]


REFUSED = "client_certificate_refused"


def before() -> list[Step]:
    return [
        Step("a workload of the trust domain", 200, None, "web", path="/stock"),
        Step("no certificate", 403, "client_certificate_required", None, path="/stock"),
        Step("a workload of another trust domain", 403, REFUSED, "web of evil.example", path="/stock"),
        Step("the right name, from a root that does not count", 403, REFUSED, "web, renewed", path="/stock"),
    ]


def after() -> list[Step]:
    return [
        Step("the workload with its new certificate", 200, None, "web, renewed", path="/stock"),
        Step("the old certificate, whose root is gone", 403, REFUSED, "web", path="/stock"),
    ]


def ask(world: World, url: str, step: Step) -> Answer:
    with httpx2.Client(verify=world.context(step.certificate), trust_env=False) as client:
        return answer(client.get(f"{url}{step.path}"))


def answer(response: httpx2.Response) -> Answer:
    return Answer(response.status_code, response.headers.get("WWW-Authenticate", ""), response.text.strip())
