"""uvicorn with our protocol classes, for one test: an application that keeps what it was told, and clients of it."""

import asyncio
import http.client
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

MODULE = "mtls_middleware.servers.uvicorn_tls"
HTTP, WS, LOOPS = ("H11", "HTTPTools", "Zttp"), ("WebSockets", "WSProto"), ("asyncio", "uvloop")

CA = CertificateAuthority()
SERVER = CA.server()
CLIENT = CA.intermediate().issue("CN=billing,OU=a\\,b,O=Acme", dns=["billing.internal"])
ENVIRON = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # of a subprocess
PRESENTED = tuple(re.findall(r"-----BEGIN.*?END CERTIFICATE-----\n", CLIENT.chain_pem, re.DOTALL))


@dataclass
class Application:
    """Keeps each scope as it came, then spoils what it was given, as a bad application might."""

    scopes: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append({**scope, "extensions": dict(scope.get("extensions") or {})})
        if "tls" in self.scopes[-1]["extensions"]:
            self.scopes[-1]["extensions"]["tls"] = dict(scope["extensions"]["tls"])
            scope["extensions"]["tls"].update(client_cert_name="CN=forged", client_cert_chain=["forged"])
        if scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await send({"type": "websocket.close"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    @property
    def tls(self) -> dict[str, Any]:
        report: dict[str, Any] = self.scopes[-1]["extensions"]["tls"]
        return report


@contextmanager
def serving(app: Any, *, http: Any = "H11", ws: Any = "none", loop: str = "asyncio", **options: Any) -> Iterator[int]:
    """uvicorn in a thread, on a port of its own choice, which this gives; `http` and `ws`: our names, or any class."""
    config = uvicorn.Config(
        app,
        http=f"{MODULE}:{http}" if isinstance(http, str) else http,
        ws=f"{MODULE}:{ws}" if ws in WS else ws,
        loop=loop,
        lifespan="off",
        log_config=None,
        **options,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started:
                assert thread.is_alive(), "uvicorn did not start"
                assert time.monotonic() < deadline
                time.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            # uvicorn 0.54 cannot end while a websocket that it answered 500 is still closing: it answers it once more.
            until = time.monotonic() + 10
            while server.server_state.connections and time.monotonic() < until:
                time.sleep(0.005)
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def connected(port: int, context: ssl.SSLContext, **options: Any) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost", **options) as connection,
    ):
        yield connection


def answers(connection: socket.socket, count: int = 1) -> list[bytes]:
    """The bodies of that many answers."""
    bodies = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            assert stream.readline().split()[1] == b"200"
            bodies.append(stream.read(int(http.client.parse_headers(stream)["content-length"])))
    return bodies


def get(port: int, client: IssuedCertificate | None = CLIENT) -> int:
    """Status of one request."""
    connection = http.client.HTTPSConnection("localhost", port, context=CA.client_context(client), timeout=10)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
