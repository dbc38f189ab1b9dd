"""The third part of the tour: the admin of a Django site by smart card, and tenants by the CA of each partner."""

import contextlib
import os
import subprocess
import sys

from internal import send
from servers import SAMPLES, free_ports, gunicorn, run_server, uvicorn
from world import Step, World, console, show

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

SITE = SAMPLES / "django_site"
REQUIRED, REFUSED = "client_certificate_required", "client_certificate_refused"


def visit(world: World, servers: contextlib.ExitStack) -> list[bool]:
    """Start the Django site, as WSGI and as ASGI, and the tenants. Return whether each response is as expected."""
    write_authorities(world)
    environment = environment_of(world)
    for command in (
        "check",
        "migrate",
        "createsuperuser --noinput --email a@corp.example --username alice@corp.example",
    ):
        manage = [sys.executable, "manage.py", *command.split()]
        subprocess.run(manage, cwd=SITE, env=environment, check=True, stdout=subprocess.DEVNULL)
    *sites, api = [f"https://127.0.0.1:{port}" for port in free_ports(3)]
    commands = (gunicorn("shop.wsgi:application"), uvicorn("shop.asgi:application"), gunicorn("tenants:app"))
    for url, command in zip([*sites, api], commands, strict=True):
        servers.enter_context(run_server([*command(world.directory, url.rpartition(":")[2])], url, environment))
    console.print()
    console.rule(f"[bold]A Django site[/]  as WSGI {sites[0]}  and ASGI {sites[1]}", align="left")
    results = [show(step, send(world, url, step)) for step in site_steps() for url in sites]
    console.print()
    console.rule(f"[bold]Tenants[/]  {api}", align="left")
    return results + [show(step, send(world, api, step)) for step in tenant_steps()]


def write_authorities(world: World) -> None:
    """Issue the certificates, and write the files of their CAs."""
    staff, suppliers = CertificateAuthority("CN=Staff CA"), CertificateAuthority("CN=Suppliers CA")
    globex, initech = CertificateAuthority("CN=Globex CA"), CertificateAuthority("CN=Initech CA")
    world.certificates |= {
        "alice's card": card(staff, "alice"),
        "bob's card": card(staff, "bob"),
        "a supplier's 'alice'": card(suppliers, "alice"),
        "globex": globex.issue("CN=api,O=Globex"),
        "initech": initech.issue("CN=api,O=Initech"),
        "globex as 'Initech'": globex.issue("CN=api,O=Initech"),
    }
    directory = world.directory
    accepted = directory / "accepted-clients.pem"
    accepted.write_text(accepted.read_text() + "".join(each.pem for each in (staff, suppliers, globex, initech)))
    (directory / "partners").mkdir()
    (directory / "staff-ca.pem").write_text(staff.pem)
    (directory / "client-cas.pem").write_text(staff.pem + suppliers.pem)
    (directory / "partners" / "globex.pem").write_text(globex.pem)
    (directory / "partners" / "initech.pem").write_text(initech.pem)


def environment_of(world: World) -> dict[str, str]:
    """The environment of the servers, which names these files."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SITE), os.environ.get("PYTHONPATH", "")]),
        "STAFF_CA": str(world.directory / "staff-ca.pem"),
        "CLIENT_CAS": str(world.directory / "client-cas.pem"),
        "DATABASE": str(world.directory / "db.sqlite3"),
        "DJANGO_SECRET_KEY": "for the tour",
        "PARTNERS": str(world.directory / "partners"),
    }


def card(authority: CertificateAuthority, name: str) -> IssuedCertificate:
    return authority.issue(f"CN={name}", user_principal_names=[f"{name}@corp.example"])


def site_steps() -> list[Step]:
    return [
        Step("the public page", 200, path="/", text='{"welcome": "guest"}'),
        Step("the admin, without a certificate", 403, REQUIRED, path="/admin/"),
        Step(
            "the admin, with the card of a staff member", 200, None, "alice's card", path="/admin/", text="Site admin"
        ),
        Step("the same name from another CA", 403, REFUSED, "a supplier's 'alice'", path="/admin/"),
        Step("the API, with a new card", 200, None, "bob's card", path="/api/profile", text='"bob@corp.example"'),
        Step("the new account has no rights", 403, None, "bob's card", path="/admin/login/", text="has no access"),
    ]


def tenant_steps() -> list[Step]:
    return [
        Step("a partner", 200, None, "globex", path="/invoices?of=globex", text='"globex-1"'),
        Step("another partner", 200, None, "initech", path="/invoices?of=initech", text='"initech-1"'),
        Step("a partner with another name", 200, None, "globex as 'Initech'", path="/invoices?all", text='"globex-1"'),
        Step("no partner", 403, REFUSED, "alice's card", path="/invoices?none"),
    ]
