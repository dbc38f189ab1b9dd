"""Clients of the servers under test: who they are, how they ask, and what they must be told."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

CA = CertificateAuthority()
BILLING = CA.intermediate("CN=One").issue("CN=billing,OU=a\\,b,O=Acme")
STOCK = CA.intermediate("CN=Two").intermediate("CN=Three").issue("CN=stock,O=Acme")
IN_TURN = [BILLING, None, STOCK]
CHAINS = {BILLING: 1, STOCK: 2}

FILES = {"--certfile": "server.pem", "--keyfile": "server-key.pem", "--ca-certs": "ca.pem"}


def options(files: Path) -> list[str]:
    return [part for name, file in FILES.items() for part in (name, str(files / file))]


def expected(client: IssuedCertificate | None, *, chain: int | None = None) -> Any:
    if client is None:
        return None
    presented = CHAINS[client] if chain is None else chain
    return {"thumbprint": client.thumbprint, "verification": "BY_SERVER", "chain": presented}


def report_of(connection: http.client.HTTPSConnection, headers: Mapping[str, str] = {}) -> Any:
    connection.request("GET", "/", headers=headers)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    return json.loads(body)


def ask(port: int, client: IssuedCertificate | None = BILLING) -> Any:
    """What the application says on a connection of its own."""
    connection = http.client.HTTPSConnection("localhost", port, context=CA.client_context(client), timeout=10)
    with contextlib.closing(connection):
        return report_of(connection)


def greeting(port: int, client: IssuedCertificate | None = BILLING, *, ca: CertificateAuthority = CA) -> str | bytes:
    """The first message of a websocket. Raises `InvalidStatus` where the handshake is refused.

    From an event loop: websockets' other client writes in one thread while it reads in another, and one in some
    thousand times Python's `ssl` loses the answer then (python/cpython#143756).
    """

    async def greeted() -> str | bytes:
        async with connect(f"wss://localhost:{port}/", ssl=ca.client_context(client), proxy=None) as websocket:
            return await asyncio.wait_for(websocket.recv(), 10)

    return asyncio.run(greeted())
