"""docs/forking.md is true: servers that fork, with and without an import before the fork."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
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

RELOADED = """
import os, pathlib
VALUE = pathlib.Path("value.txt").read_text()
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {VALUE}".encode()]
"""

PAGE = (ROOT / "docs" / "forking.md").read_text("utf-8")
LINES = re.findall(r"```sh\n(.*?)```", PAGE.replace("\\\n", ""), re.DOTALL)
COMMANDS = {line.split()[0]: shlex.split(line) for line in LINES}
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


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


def test_the_commands_of_the_page_import_once_and_fetch_in_each_worker(caller: Caller, tmp_path: Path) -> None:
    assert COMMANDS.keys() == {"gunicorn", "uwsgi"}
    own = {
        "shop:app": APPLICATION,
        "127.0.0.1:8000": f"127.0.0.1:{caller.port}",
        "/run/app/uwsgi.sock": f"{tmp_path}/s",
    }
    gunicorn, uwsgi = ([own.get(each, each) for each in COMMANDS[name][1:]] for name in ("gunicorn", "uwsgi"))
    with running(["-m", "gunicorn", *gunicorn, "--no-control-socket"], caller.port, **caller.environment):
        workers = caller.seen()
    more = ["--http", f"127.0.0.1:{caller.port}", "--pythonpath", str(ROOT)]
    with running([*uwsgi, *more], caller.port, program=embedded.UWSGI, **caller.environment):
        others = caller.seen()
    assert all(worker["threads"] == ["mtls-middleware exchanges"] for worker in workers + others), workers + others
    assert [len({worker["imported_in"] for worker in each}) for each in (workers, others)] == [1, 1]


def test_the_python_of_the_page_runs(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    followed: list[bool] = []
    shop = ModuleType("shop")
    vars(shop)["revocations"] = SimpleNamespace(follow=lambda: followed.append(True))
    monkeypatch.setitem(sys.modules, "shop", shop)
    configuration, processes = BLOCKS
    names: dict[str, Any] = {}
    exec(configuration, names)
    names["post_worker_init"](None)
    assert followed == [True]
    exec(processes, names)
    names["process"].start()
    names["process"].join()
    assert capfd.readouterr().out == "in a new process\n"


def test_each_worker_of_gunicorn_may_import_the_application(caller: Caller, keys: KeyServer) -> None:
    with running(gunicorn(caller), caller.port, **caller.environment):
        workers = caller.seen()
    assert all(worker["threads"] == ["mtls-middleware exchanges"] for worker in workers), workers
    assert len({worker["imported_in"] for worker in workers}) == keys.requests == WORKERS


def test_workers_get_the_keys_that_were_fetched_before_the_fork(caller: Caller, keys: KeyServer) -> None:
    with running(gunicorn(caller, "--preload"), caller.port, **caller.warm):
        workers = caller.seen()
    assert all(worker["threads"] == [] for worker in workers), workers
    assert keys.requests == 1


def test_each_worker_of_uwsgi_may_import_the_application(caller: Caller, keys: KeyServer) -> None:
    command = [*UWSGI, "--enable-threads", "--lazy-apps", "--http", f"127.0.0.1:{caller.port}"]
    with running(command, caller.port, program=embedded.UWSGI, **caller.environment):
        workers = caller.seen()
    assert len({worker["imported_in"] for worker in workers}) == keys.requests == WORKERS


@pytest.mark.parametrize("options", [["--enable-threads"], ["--threads", "2"], []], ids=str)
def test_threads_run_between_requests_if_uwsgi_enables_them(caller: Caller, options: list[str]) -> None:
    command = ["--module", APPLICATION, "--pythonpath", str(ROOT), *options, "--http", f"127.0.0.1:{caller.port}"]
    with running(command, caller.port, program=embedded.UWSGI, **caller.environment):
        before = caller.get().json()["ticks"]
        time.sleep(1)
        after = caller.get().json()["ticks"]
    # Without an option, threads ran between requests with uWSGI 2.0.31, and did not with 2.0.21.
    assert after - before > 10 or not options, (before, after)


@pytest.mark.parametrize("preload", [True, False])
def test_a_reload_of_gunicorn_keeps_a_preloaded_application(tmp_path: Path, preload: bool) -> None:
    (tmp_path / "value.txt").write_text("old")
    (tmp_path / "reloaded.py").write_text(RELOADED)
    port, where = free_port(), ["--chdir", str(tmp_path), "--pid", str(tmp_path / "pid")]
    command = ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--no-control-socket", *where, "reloaded:app"]

    def value() -> str:
        return httpx2.get(f"http://127.0.0.1:{port}/", timeout=30, trust_env=False).text

    with running([*command, *(["--preload"] if preload else [])], port):
        old = value()
        (tmp_path / "value.txt").write_text("new")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGHUP)
        until(lambda: value().split()[0] != old.split()[0], seconds=30)
        assert value().split()[1] == ("old" if preload else "new")


def test_construction_starts_no_thread(caller: Caller) -> None:
    program = "import threading, tests.live.forking_application; print(threading.active_count())"
    environment = {**os.environ, **caller.environment}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
