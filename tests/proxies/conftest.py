"""The application servers, one of each kind for all proxies; and a proxy for each configuration."""

import contextlib
import json
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.cli.proxies import SECRET
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE, ProxyOptions
from mtls_middleware.testing import TokenIssuer
from tests import unreadable
from tests.live.servers import ROOT, free_port
from tests.proxies import chains, matrix, programs
from tests.proxies.client import over_http1
from tests.proxies.matrix import Setup

APPLICATIONS = "tests.proxies.applications"


@dataclass(frozen=True)
class Stage:
    """A proxy that runs: what was tried, and where."""

    setup: Setup
    port: int
    upstream: int | Path
    path: str


def options_for(setup: Setup, listen: int, upstream: int | Path, files: Path) -> ProxyOptions:
    secret = setup.extra != "no-secret"
    return ProxyOptions(
        proxy=setup.proxy,
        form=setup.form,
        mode=setup.mode,
        listen=f"127.0.0.1:{listen}",
        upstream=f"127.0.0.1:{upstream}" if isinstance(upstream, int) else f"unix:{upstream}",
        ca=str(files / "ca.pem"),
        certificate=str(files / "server.pem"),
        key=str(files / "server.pem.key"),
        secret_header=SECRET if secret else None,
        secret=matrix.SECRET if secret else None,
    )


def server_command(name: str, at: int | Path, module: str = APPLICATIONS, end: str = "application") -> list[str]:
    # The options that the configurations name for their application server.
    if name == "gunicorn":
        return [
            *(sys.executable, "-m", "gunicorn", f"{module}:wsgi_{end}"),
            *("--bind", f"127.0.0.1:{at}" if isinstance(at, int) else f"unix:{at}"),
            *("--no-control-socket", "--worker-class", "gthread", "--threads", "4"),
            *("--limit-request-field_size", "65536", "--graceful-timeout", "1"),
        ]
    protocol = name if ":" in name or name == "httptools" else f"mtls_middleware.servers.uvicorn_tls:{name}"
    return [
        *(sys.executable, "-m", "uvicorn", f"{module}:asgi_{end}"),
        *(("--host", "127.0.0.1", "--port", str(at)) if isinstance(at, int) else ("--uds", str(at))),
        *("--http", protocol, "--no-proxy-headers", "--lifespan", "off", "--log-level", "error"),
    ]


@pytest.fixture(scope="session")
def server_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`server.pem`, its key beside it, `ca.pem` with the CAs of clients, and `issuers.pem` with a CA below them."""
    folder = tmp_path_factory.mktemp("files")
    server = matrix.servers().server()
    (folder / "server.pem").write_text(server.chain_pem)
    (folder / "server.pem.key").write_text(server.key_pem)
    (folder / "ca.pem").write_text(matrix.clients().pem + unreadable.CA.pem)
    (folder / "issuers.pem").write_text(chains.issuer().pem)
    return folder


@pytest.fixture(scope="session")
def upstream(server_files: Path) -> Iterator[Callable[[Setup], int | Path]]:
    """Where a setup's application server listens: started when first asked for, once for all proxies.

    The sources are those that `proxy-config` states.
    """
    setups = (*matrix.SETUPS, *matrix.FORGED_AT, *matrix.UNIX, *matrix.NO_SECRET, *matrix.SECRETS, *chains.JOINED)
    somewhere = {"unix": Path("/run/app.sock")}
    sources = {each.key: options_for(each, 1, somewhere.get(each.extra, 1), Path()).source() for each in setups}
    environment = {"SOURCES": json.dumps(sources), SECRET_VARIABLE: matrix.SECRET}
    files = {"roots": str(server_files / "ca.pem"), "issuers": str(server_files / "issuers.pem")}
    environment["GUARDS"] = json.dumps({**files, "tokens": tokens()})
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="mtls-") as folder:
        Path(folder).chmod(0o755)  # Apache comes here as another user

        @cache
        def start(name: str, unix: bool) -> int | Path:
            at = Path(folder) / f"{name}.sock" if unix else free_port()
            stack.enter_context(programs.started(server_command(name, at), at, ROOT, **environment))
            return at

        yield lambda setup: start(setup.server, setup.extra == "unix")


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest,
    upstream: Callable[[Setup], int | Path],
    server_files: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """The proxy of `request.param`, started once for all tests of a file that want it."""
    setup: Setup = request.param
    port, behind = free_port(), upstream(setup)
    folder = tmp_path_factory.mktemp(setup.proxy)

    def join() -> None:
        if setup.extra == "joined":
            configuration = folder / "haproxy.cfg"
            text = configuration.read_text()
            assert "%[ssl_c_chain_der,base64,lua.rfc9440_chain]" in text
            configuration.write_text(
                text.replace("%[ssl_c_chain_der,base64,lua.rfc9440_chain]", ":%[ssl_c_chain_der,base64]:")
            )

    with programs.proxy(options_for(setup, port, behind, server_files), folder, add=join):
        stage = Stage(setup, port, behind, f"/{setup.key}/")
        until_it_answers(port, stage.path)
        yield stage


@cache
def issuer() -> TokenIssuer:
    return TokenIssuer("https://issuer.test", audience="https://api.test")


def tokens() -> dict[str, Any]:
    """The arguments with which an application accepts the tokens of `issuer`."""
    return {"issuer": issuer().issuer, "audience": issuer().audience, "jwks": issuer().jwks}


def until_it_answers(port: int, path: str) -> None:
    """Until requests get through: Traefik listens before it has read the half of its configuration that counts."""
    until = time.monotonic() + 30
    while (answer := over_http1(port, context("RSA"), path, [])).status != 200:
        assert time.monotonic() < until, answer
        time.sleep(0.05)


@cache
def context(kind: str) -> ssl.SSLContext:
    """A client's TLS context that presents the certificate of this kind."""
    return matrix.servers().client_context(matrix.certificate(kind))
