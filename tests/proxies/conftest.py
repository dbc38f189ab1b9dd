"""The application servers, one of each kind for all proxies; and a proxy for each configuration."""

import contextlib
import json
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from mtls_middleware.cli.proxies import Wanted
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.client import over_http1
from tests.proxies.matrix import Setup

APPLICATIONS = "tests.proxies.applications"


@dataclass(frozen=True)
class Stage:
    """A proxy that runs: what was tried, and where."""

    setup: Setup
    port: int
    path: str


def wanted(setup: Setup, listen: int, upstream: int, files: Path) -> Wanted:
    return Wanted(
        proxy=setup.proxy,
        form=setup.form,
        mode=setup.mode,
        listen=f"127.0.0.1:{listen}",
        upstream=f"127.0.0.1:{upstream}",
        ca=str(files / "ca.pem"),
        certificate=str(files / "server.pem"),
        key=str(files / "server.pem.key"),
    )


def server_command(name: str, port: int, module: str = APPLICATIONS) -> list[str]:
    # The options that the configurations name for their application server.
    if name == "gunicorn":
        return [
            *(sys.executable, "-m", "gunicorn", f"{module}:wsgi_application", "--bind", f"127.0.0.1:{port}"),
            *("--no-control-socket", "--worker-class", "gthread", "--threads", "4"),
            *("--limit-request-field_size", "65536", "--graceful-timeout", "1"),
        ]
    protocol = name if ":" in name or name == "httptools" else f"mtls_middleware.servers.uvicorn_tls:{name}"
    return [
        *(sys.executable, "-m", "uvicorn", f"{module}:asgi_application", "--host", "127.0.0.1"),
        *("--port", str(port), "--http", protocol, "--no-proxy-headers", "--lifespan", "off", "--log-level", "error"),
    ]


@pytest.fixture(scope="session")
def server_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`server.pem`, its key beside it, and `ca.pem`, who signs clients."""
    folder = tmp_path_factory.mktemp("files")
    server = matrix.servers().server()
    (folder / "server.pem").write_text(server.chain_pem)
    (folder / "server.pem.key").write_text(server.key_pem)
    (folder / "ca.pem").write_text(matrix.clients().pem)
    return folder


@pytest.fixture(scope="session")
def upstreams() -> Iterator[dict[str, int]]:
    """Name of an application server -> its port. The sources are those that `proxy-config` states."""
    sources = {each.key: wanted(each, 1, 1, Path()).source() for each in (*matrix.SETUPS, *matrix.FORGED_AT)}
    with contextlib.ExitStack() as stack:
        ports = {}
        for name in matrix.SERVERS:
            ports[name] = free_port()
            command = server_command(name, ports[name])
            stack.enter_context(programs.started(command, ports[name], ROOT, SOURCES=json.dumps(sources)))
        yield ports


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest,
    upstreams: dict[str, int],
    server_files: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """The proxy of `request.param`, started once for all tests of a file that want it."""
    setup: Setup = request.param
    port = free_port()
    folder = tmp_path_factory.mktemp(setup.proxy)
    with programs.proxy(wanted(setup, port, upstreams[setup.server], server_files), folder):
        stage = Stage(setup, port, f"/{setup.key}/")
        wait_for(stage)
        yield stage


def wait_for(stage: Stage) -> None:
    """Until requests get through: Traefik listens before it has read the half of its configuration that counts."""
    until = time.monotonic() + 30
    while (answer := over_http1(stage.port, context("RSA"), stage.path, [])).status != 200:
        assert time.monotonic() < until, answer
        time.sleep(0.05)


@cache
def context(kind: str) -> ssl.SSLContext:
    """A client's TLS context that presents the certificate of this kind."""
    return matrix.servers().client_context(matrix.certificate(kind))
