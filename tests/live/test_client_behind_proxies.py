"""The client with Authlib and django-oauth-toolkit as authorization servers; they and the APIs are behind proxies."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from mtls_middleware.cli.proxies import SECRET
from mtls_middleware.client import CertificateBoundAuth, CertificateFiles, CertificateTransport, ssl_context
from mtls_middleware.testing import CertificateAuthority
from tests.integrations import django_project, page_code
from tests.integrations.clients import BOUND
from tests.live.servers import ROOT, free_port
from tests.proxies import programs
from tests.proxies.conftest import server_command
from tests.proxies.programs import ProxyOptions

pytestmark = pytest.mark.live

REGISTERED = {"token_endpoint_auth_method": "tls_client_auth", **BOUND}
CLIENTS = {name: {**REGISTERED, "tls_client_auth_san_dns": f"{name}.internal"} for name in ("billing", "api")}
# The server and the application of the API behind each proxy.
APIS = {"nginx": "gunicorn", "envoy": "HTTPTools"}


@dataclass
class World:
    """A folder with the files of all programs, and everything that runs."""

    directory: Path
    running: ExitStack
    servers: CertificateAuthority = field(default_factory=CertificateAuthority)
    clients: CertificateAuthority = field(default_factory=CertificateAuthority)

    def __post_init__(self) -> None:
        server = self.servers.server()
        for name, content in (
            ("server.pem", server.chain_pem),
            ("server.pem.key", server.key_pem),
            ("servers-ca.pem", self.servers.pem),
            ("clients-ca.pem", self.clients.pem),
        ):
            (self.directory / name).write_text(content)
        for name in CLIENTS:
            self.renew(name)
        self.environment = {
            "SSL_CERT_FILE": str(self.directory / "servers-ca.pem"),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "samples"))),
            **page_code.ENVIRONMENT,
        }

    def renew(self, name: str) -> None:
        """Replace the certificate and the key of a client, one file after the other."""
        issued = self.clients.issue(f"CN={name}", dns=[f"{name}.internal"])
        for path in issued.write(self.directory, name=f"{name}-new"):
            os.replace(path, path.with_name(path.name.replace("-new", "")))

    def files(self, name: str) -> CertificateFiles:
        return CertificateFiles(self.directory / f"{name}.pem", self.directory / f"{name}-key.pem")

    def start(self, command: list[str], port: int, **environment: str) -> None:
        self.running.enter_context(
            programs.started(command, port, self.directory, **{**self.environment, **environment})
        )

    def proxied(self, proxy: str, upstream: int, port: int) -> str:
        """Start a proxy with its generated configuration. Returns the URL of the application behind it."""
        options = ProxyOptions(
            proxy=proxy,
            form="idiomatic",
            mode="optional",
            listen=f"127.0.0.1:{port}",
            upstream=f"127.0.0.1:{upstream}",
            ca=str(self.directory / "clients-ca.pem"),
            certificate=str(self.directory / "server.pem"),
            key=str(self.directory / "server.pem.key"),
            secret_header=SECRET,
            secret=page_code.ENVIRONMENT["MTLS_PROXY_SECRET"],
        )
        folder = self.directory / f"proxy-{port}"
        folder.mkdir()
        self.running.enter_context(programs.proxy(options, folder))
        return f"https://localhost:{port}"


def authlib(world: World, issuer: str, upstream: int) -> dict[str, str]:
    """Start the documented Authlib server. Its tokens are JWTs."""
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "tests.live.authlib_application:app",
        "--bind",
        f"127.0.0.1:{upstream}",
    ]
    world.start(
        [*command, "--threads", "4", "--no-control-socket"], upstream, ISSUER=issuer, CLIENTS=json.dumps(CLIENTS)
    )
    return {"module": "behind_proxy", "ISSUER": issuer}


def toolkit(world: World, issuer: str, upstream: int) -> dict[str, str]:
    """Start the documented project with django-oauth-toolkit. Its tokens are opaque."""
    project = world.directory / "project"
    project.mkdir()
    environment = django_project.write(project, world.clients.pem, CLIENTS)
    (project / "metadata.py").write_text(page_code.FILES["metadata.py"])
    with (project / "settings.py").open("a") as settings:
        settings.write(f"ISSUER = {issuer!r}\n")
    with (project / "every_url.py").open("a") as urls:
        urls.write("from metadata import metadata\n")
        urls.write('urlpatterns.insert(0, path(".well-known/oauth-authorization-server", metadata))\n')
    command = [sys.executable, "-m", "gunicorn", "wsgi:application", "--chdir", str(project)]
    command += ["--bind", f"127.0.0.1:{upstream}", "--threads", "4", "--no-control-socket"]
    world.start(command, upstream, **environment)
    return {"module": "tests.live.introspection_api", "INTROSPECTION": f"{issuer}/o/introspect/"}


Start = Callable[[World, str, int], dict[str, str]]
SERVERS: dict[str, tuple[Start, str]] = {
    "Authlib": (authlib, "invoices:read"),
    "django-oauth-toolkit": (toolkit, "read"),
}


@dataclass
class Deployment:
    world: World
    issuer: str
    scope: str
    apis: list[str]

    def client(self, files: CertificateFiles) -> httpx2.Client:
        roots = self.world.directory / "servers-ca.pem"
        auth = CertificateBoundAuth(
            issuer=self.issuer, client_id="billing", certificate=files, scopes=[self.scope], roots=roots
        )
        return httpx2.Client(transport=CertificateTransport(files, roots=roots), auth=auth, timeout=30)


@contextmanager
def deployed(name: str, directory: Path) -> Iterator[Deployment]:
    """One authorization server behind nginx, an API on gunicorn behind nginx, and one on uvicorn behind Envoy."""
    start, scope = SERVERS[name]
    with ExitStack() as running:
        world, upstream, port = World(directory, running), free_port(), free_port()
        given = start(world, f"https://localhost:{port}", upstream)
        issuer, module, apis = world.proxied("nginx", upstream, port), given.pop("module"), []
        for proxy, server in APIS.items():
            behind = free_port()
            command = server_command(server, behind, module, "app")
            world.start(command, behind, PROXY=proxy, **given)
            apis.append(world.proxied(proxy, behind, free_port()))
        yield Deployment(world, issuer, scope, apis)


@pytest.mark.parametrize("name", SERVERS)
def test_no_request_fails_behind_proxies_while_certificates_rotate(name: str, tmp_path: Path) -> None:
    statuses: list[int] = []
    presented: set[str] = set()
    with deployed(name, tmp_path) as deployment:
        files, ended = deployment.world.files("billing"), threading.Event()

        def rotate() -> None:
            while not ended.wait(1):
                deployment.world.renew("billing")

        rotation = threading.Thread(target=rotate)
        rotation.start()
        try:
            with deployment.client(files) as client:
                while len(presented) < 3:
                    presented.add(files.current().thumbprint)
                    statuses += [client.get(f"{api}/invoices").status_code for api in deployment.apis]
        finally:
            ended.set()
            rotation.join()
    assert set(statuses) == {200}


@pytest.mark.parametrize("name", SERVERS)
def test_a_token_is_rejected_with_another_certificate(name: str, tmp_path: Path) -> None:
    with deployed(name, tmp_path) as deployment:
        roots = deployment.world.directory / "servers-ca.pem"
        with httpx2.Client(verify=ssl_context(deployment.world.files("billing"), roots), trust_env=False) as client:
            metadata = client.get(f"{deployment.issuer}/.well-known/oauth-authorization-server").json()
            form = {"grant_type": "client_credentials", "client_id": "billing", "scope": deployment.scope}
            token = client.post(metadata["token_endpoint"], data=form).raise_for_status().json()["access_token"]
            stolen = {"Authorization": f"Bearer {token}"}
            accepted = [client.get(f"{url}/invoices", headers=stolen) for url in deployment.apis]
            assert [(each.status_code, each.json()) for each in accepted if each.status_code != 200] == []
        with httpx2.Client(verify=ssl_context(deployment.world.files("api"), roots), trust_env=False) as thief:
            for url in deployment.apis:
                response = thief.get(f"{url}/invoices", headers=stolen)
                assert (response.status_code, response.json()["error"]) == (401, "invalid_token")
