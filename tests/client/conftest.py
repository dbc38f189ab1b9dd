"""Servers on loopback, the files of a client, and both kinds of client behind one interface."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mtls_middleware.client import (
    AsyncCertificateTransport,
    CertificateBoundAuth,
    CertificateFiles,
    CertificateTransport,
)
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.validation import files as file_cache
from tests.client.servers import API, AuthorizationServer


@pytest.fixture
def at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are checked at each call, and not once a second."""
    monkeypatch.setattr(file_cache, "_INTERVAL", 0.0)


@dataclass
class World:
    """A CA, two servers that it issued certificates for, and the files of a client."""

    directory: Path
    authority: CertificateAuthority
    server: AuthorizationServer
    api: API

    def __post_init__(self) -> None:
        self.roots = self.directory / "ca.pem"
        self.roots.write_text(self.authority.pem)
        self.renew()
        self.files = CertificateFiles(self.directory / "client.pem", self.directory / "client-key.pem")

    def renew(self) -> IssuedCertificate:
        """Write a new certificate and key as renewal programs do: each file is replaced, one after the other."""
        issued = self.authority.issue("CN=billing")
        for path in issued.write(self.directory, name="new"):
            os.replace(path, self.directory / path.name.replace("new", "client"))
        return issued

    def auth(self, **options: Any) -> CertificateBoundAuth:
        given = {"issuer": self.server.issuer, "client_id": "billing", "certificate": self.files, "roots": self.roots}
        return CertificateBoundAuth(**{**given, **options})

    def client(self, auth: CertificateBoundAuth | None = None, **options: Any) -> httpx2.Client:
        transport = CertificateTransport(self.files, roots=self.roots)
        return httpx2.Client(transport=transport, base_url=self.api.host, auth=auth, **options)

    def async_client(self, auth: CertificateBoundAuth | None = None, **options: Any) -> httpx2.AsyncClient:
        transport = AsyncCertificateTransport(self.files, roots=self.roots)
        return httpx2.AsyncClient(transport=transport, base_url=self.api.host, auth=auth, **options)

    def get(self, way: str, auth: CertificateBoundAuth, url: str = "/", times: int = 1, **options: Any) -> list[Any]:
        """Send requests one after the other with a `"sync"` or an `"async"` client, and return their responses."""
        if way == "sync":
            with self.client(auth, **options) as client:
                return [client.get(url) for _ in range(times)]

        async def run() -> list[Any]:
            async with self.async_client(auth, **options) as client:
                return [await client.get(url) for _ in range(times)]

        return asyncio.run(run())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    authority = CertificateAuthority()
    with AuthorizationServer(authority) as server, API(authority) as api:
        yield World(tmp_path, authority, server, api)
