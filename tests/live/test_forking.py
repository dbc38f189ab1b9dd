"""docs/forking.md is true: servers that fork, with and without an import before the fork."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.key_server import KeyServer, until
from tests.live.servers import ROOT, free_port, running
from tests.servers import embedded

pytestmark = pytest.mark.live
APPLICATION, SECRET, WORKERS = "tests.live.forking_application:app", "secret-of-the-proxy", 2
GUNICORN = ["-m", "gunicorn", "--workers", str(WORKERS), "--no-control-socket", APPLICATION]
UWSGI = [
    "--master",
    "--processes",
    str(WORKERS),
    "--module",
    APPLICATION,
    "--pythonpath",
    str(ROOT),
    "--disable-logging",
]


@pytest.fixture
def keys(mtls_issuer: TokenIssuer) -> Iterator[KeyServer]:
    with KeyServer(mtls_issuer.jwks) as server:
        yield server


class Caller:
    """A client of the application, and the environment of the server."""

    def __init__(self, keys: KeyServer, issuer: TokenIssuer, client: IssuedCertificate) -> None:
        self.port = free_port()
        fields = client.as_nginx()
        self._headers = {
            "MtlsClientCert": fields["X-SSL-Client-Cert"],
            "MtlsClientVerify": fields["X-SSL-Client-Verify"],
            "MtlsProxySecret": SECRET,
            "Authorization": f"Bearer {issuer.token(certificate=client)}",
        }
        self.environment = {
            "ISSUER": issuer.issuer,
            "AUDIENCE": issuer.audience,
            "JWKS_URI": keys.url,
            "MTLS_PROXY_SECRET": SECRET,
        }

    @property
    def warm(self) -> dict[str, str]:
        names = {f"HTTP_{name.upper()}": value for name, value in self._headers.items()}
        return {**self.environment, "WARM": json.dumps(names), "PYTHONWARNINGS": "ignore::DeprecationWarning"}

    def get(self) -> httpx2.Response:
        return httpx2.get(f"http://127.0.0.1:{self.port}/", headers=self._headers, timeout=30, trust_env=False)

    def seen(self) -> list[dict[str, Any]]:
        """What each worker says, after its first request."""
        found: dict[int, dict[str, Any]] = {}

        def each_was_seen() -> bool:
            response = self.get()
            assert response.status_code == 200, response.text
            found[response.json()["process"]] = response.json()
            return len(found) == WORKERS

        until(each_was_seen, seconds=30)
        return list(found.values())


@pytest.fixture
def caller(keys: KeyServer, mtls_issuer: TokenIssuer, mtls_client: IssuedCertificate) -> Caller:
    return Caller(keys, mtls_issuer, mtls_client)


def gunicorn(caller: Caller, *options: str) -> list[str]:
    return [*GUNICORN, "--bind", f"127.0.0.1:{caller.port}", *options]


@pytest.mark.parametrize("options", [["--preload"], []], ids=["preload", "imported by each worker"])
def test_each_worker_of_gunicorn_fetches_with_a_thread_of_its_own(
    caller: Caller, keys: KeyServer, options: Any
) -> None:
    with running(gunicorn(caller, *options), caller.port, **caller.environment):
        workers = caller.seen()
    assert all(worker["threads"] == ["mtls-middleware exchanges"] for worker in workers), workers
    assert len({worker["imported_in"] for worker in workers}) == (1 if options else WORKERS)
    assert keys.requests == WORKERS


def test_workers_get_the_keys_that_were_fetched_before_the_fork(caller: Caller, keys: KeyServer) -> None:
    with running(gunicorn(caller, "--preload"), caller.port, **caller.warm):
        workers = caller.seen()
    assert all(worker["threads"] == [] for worker in workers), workers
    assert keys.requests == 1


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy-apps", "imported by the master"])
def test_each_worker_of_uwsgi_fetches_if_threads_are_enabled(caller: Caller, keys: KeyServer, lazy: bool) -> None:
    options = ["--enable-threads", *(["--lazy-apps"] if lazy else [])]
    command = [*UWSGI, *options, "--http", f"127.0.0.1:{caller.port}"]
    with running(command, caller.port, program=embedded.UWSGI, **caller.environment):
        workers = caller.seen()
    assert len({worker["imported_in"] for worker in workers}) == (WORKERS if lazy else 1)
    assert keys.requests == WORKERS


@pytest.mark.parametrize("enabled", [True, False])
def test_threads_run_between_requests_only_if_uwsgi_enables_them(caller: Caller, enabled: bool) -> None:
    options = ["--enable-threads"] if enabled else []
    command = ["--module", APPLICATION, "--pythonpath", str(ROOT), *options, "--http", f"127.0.0.1:{caller.port}"]
    with running(command, caller.port, program=embedded.UWSGI, **caller.environment):
        before = caller.get().json()["ticks"]
        time.sleep(1)
        after = caller.get().json()["ticks"]
    assert (after - before > 10) is enabled, (before, after)
