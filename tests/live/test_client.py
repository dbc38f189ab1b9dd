"""The client with the sample servers: tokens of the authorization server, and APIs that check their binding."""

import asyncio
import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from mtls_middleware.client import (
    AsyncCertificateTransport,
    CertificateBoundAuth,
    CertificateFiles,
    CertificateTransport,
    TokenError,
    TokenNotBound,
)
from mtls_middleware.testing import CertificateAuthority, self_signed
from tests.live.servers import free_port, running, tls_files

pytestmark = pytest.mark.live


class Servers:
    """The sample authorization server on gunicorn, and the sample APIs on gunicorn and uvicorn."""

    def __init__(self, directory: Path, authority: CertificateAuthority) -> None:
        self.directory, self.authority = directory, authority
        self.issuer, self.flask, self.starlette = (f"https://127.0.0.1:{free_port()}" for _ in range(3))
        self.self_signed = self_signed("CN=statistics")
        self.self_signed.write(directory, name="statistics")
        tls_files(authority, directory)
        (directory / "accepted-clients.pem").write_text(authority.pem + self.self_signed.pem)
        self._register()
        self.environment = {
            "ISSUER": self.issuer,
            "CLIENTS": str(directory / "clients.json"),
            "CA": str(directory / "ca.pem"),
            "SSL_CERT_FILE": str(directory / "ca.pem"),  # for the APIs, which fetch the issuer's keys
            "PYTHONPATH": "samples",
        }

    def _register(self) -> None:
        subject = {"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=billing"}
        key = jwt.get_algorithm_by_name("ES256").to_jwk(self.self_signed.key.public_key(), as_dict=True)  # type: ignore[arg-type]  # an EC key
        keys = {"keys": [{**key, "x5c": [base64.b64encode(self.self_signed.der).decode()]}]}
        by_key = {"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": keys}
        clients = [
            {"client_id": "billing", "scope": "invoices:read", **subject},
            {"client_id": "statistics", "scope": "invoices:read", **by_key},
            {"client_id": "unbound", "scope": "invoices:read", **subject}
            | {"tls_client_certificate_bound_access_tokens": False},
        ]
        (self.directory / "clients.json").write_text(json.dumps(clients))

    def start(self, stack: ExitStack) -> None:
        for url, program in ((self.issuer, "authorization_server"), (self.flask, "flask_app")):
            stack.enter_context(running(self._gunicorn(program, url), int(url.rpartition(":")[2]), **self.environment))
        port = self.starlette.rpartition(":")[2]
        stack.enter_context(running(self._uvicorn(port), int(port), **self.environment))

    def _gunicorn(self, program: str, url: str) -> list[str]:
        return [
            *("-m", "gunicorn", f"{program}:app", "--bind", f"127.0.0.1:{url.rpartition(':')[2]}"),
            *("--worker-class", "gthread", "--threads", "8", "--log-level", "warning", "--no-control-socket"),
            *("--certfile", f"{self.directory}/server.pem", "--keyfile", f"{self.directory}/server-key.pem"),
            *("--ca-certs", f"{self.directory}/accepted-clients.pem", "--cert-reqs", "1"),
        ]

    def _uvicorn(self, port: str) -> list[str]:
        return [
            *("-m", "uvicorn", "starlette_app:app", "--host", "127.0.0.1", "--port", port, "--log-level", "warning"),
            *("--http", "mtls_middleware.servers.uvicorn_tls:HTTPTools", "--no-proxy-headers"),
            *("--ws", "mtls_middleware.servers.uvicorn_tls:WebSockets"),
            *("--ssl-certfile", f"{self.directory}/server.pem", "--ssl-keyfile", f"{self.directory}/server-key.pem"),
            *("--ssl-ca-certs", f"{self.directory}/accepted-clients.pem", "--ssl-cert-reqs", "1"),
        ]

    def auth(self, files: CertificateFiles, **options: Any) -> CertificateBoundAuth:
        given = {"issuer": self.issuer, "client_id": "billing", "roots": self.directory / "ca.pem"}
        return CertificateBoundAuth(**{**given, "certificate": files, **options})

    def client(self, files: CertificateFiles, auth: CertificateBoundAuth) -> httpx2.Client:
        return httpx2.Client(transport=CertificateTransport(files, roots=self.directory / "ca.pem"), auth=auth)

    def async_client(self, files: CertificateFiles, auth: CertificateBoundAuth) -> httpx2.AsyncClient:
        transport = AsyncCertificateTransport(files, roots=self.directory / "ca.pem")
        return httpx2.AsyncClient(transport=transport, auth=auth)

    def get(self, way: str, files: CertificateFiles, auth: CertificateBoundAuth, url: str) -> httpx2.Response:
        if way == "sync":
            with self.client(files, auth) as client:
                return client.get(url)

        async def run() -> httpx2.Response:
            async with self.async_client(files, auth) as client:
                return await client.get(url)

        return asyncio.run(run())

    @contextmanager
    def renewed_files(self, name: str, seconds: float) -> Iterator[CertificateFiles]:
        """The files of a client that are renewed all the time, as spiffe-helper does, until the end of the block."""
        ends = threading.Event()

        def renew() -> None:
            for path in self.authority.issue("CN=billing").write(self.directory, name=f"{name}-new"):
                os.replace(path, path.with_name(path.name.replace("-new", "")))

        def run() -> None:
            while not ends.wait(seconds):
                renew()

        renew()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield files(self.directory, name)
        finally:
            ends.set()
            thread.join()


def files(directory: Path, name: str) -> CertificateFiles:
    return CertificateFiles(directory / f"{name}.pem", directory / f"{name}-key.pem")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = Servers(tmp_path_factory.mktemp("client"), CertificateAuthority())
    found.authority.issue("CN=billing").write(found.directory, name="billing")
    with ExitStack() as stack:
        found.start(stack)
        yield found


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("api", ["flask", "starlette"])
def test_an_api_accepts_the_token_of_the_client(servers: Servers, way: str, api: str) -> None:
    billing = files(servers.directory, "billing")
    response = servers.get(way, billing, servers.auth(billing), f"{getattr(servers, api)}/invoices")
    assert (response.status_code, response.json()["for"]) == (200, "CN=billing")


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_self_signed_client_authenticates_by_its_key(servers: Servers, way: str) -> None:
    own = files(servers.directory, "statistics")
    auth = servers.auth(own, client_id="statistics", method="self_signed_tls_client_auth")
    assert servers.get(way, own, auth, f"{servers.starlette}/invoices").status_code == 200


@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_the_sample_server_rejects_is_a_typed_error(servers: Servers, way: str) -> None:
    billing = files(servers.directory, "billing")
    with pytest.raises(TokenError) as caught:
        servers.get(way, billing, servers.auth(billing, client_id="statistics"), servers.starlette)
    assert caught.value.oauth_error == "invalid_client"
    with pytest.raises(TokenNotBound):
        servers.get(way, billing, servers.auth(billing, client_id="unbound"), servers.starlette)


# The full form of this test: MTLS_CLIENT_CERTIFICATES=20.
CERTIFICATES = int(os.environ.get("MTLS_CLIENT_CERTIFICATES", "4"))


def test_no_request_fails_while_certificates_rotate(servers: Servers) -> None:
    """The APIs reject every token of another certificate, so each response also shows the binding."""
    urls = [f"{servers.flask}/invoices", f"{servers.starlette}/invoices"]
    statuses: list[int] = []
    presented: set[str] = set()
    with servers.renewed_files("rotating", 1) as rotating:
        auth = servers.auth(rotating)

        def requests(client: httpx2.Client) -> None:
            while len(presented) < CERTIFICATES:
                presented.add(rotating.current().thumbprint)
                statuses.extend(client.get(url).status_code for url in urls)
                time.sleep(0.005)

        async def tasks() -> None:
            async with servers.async_client(rotating, auth) as client:
                while len(presented) < CERTIFICATES:
                    responses = await asyncio.gather(*(client.get(url) for url in urls * 2))
                    statuses.extend(each.status_code for each in responses)
                    await asyncio.sleep(0.005)

        with servers.client(rotating, auth) as client, ThreadPoolExecutor(2) as threads:
            running_threads = [threads.submit(requests, client) for _ in range(2)]
            asyncio.run(tasks())
            for each in running_threads:
                each.result()
    print(f"{len(statuses)} requests with {len(presented)} certificates")
    assert set(statuses) == {200}
    assert len(statuses) > 100
