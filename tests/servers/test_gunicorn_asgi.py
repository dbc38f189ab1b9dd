"""gunicorn's asgi worker with our class: what it refuses, what it cannot know, what it says when gunicorn has moved.

What it hands over, over each protocol: `test_each_server.py`.
"""

import asyncio
import contextlib
import http.client
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gunicorn.workers import gasgi
from gunicorn.workers.gasgi import ASGIProtocol, ASGIWorker

from mtls_middleware import ConfigurationError
from mtls_middleware.servers import gunicorn_asgi
from tests.live.servers import ROOT, free_port, running, tls_files
from tests.servers.clients import BILLING, CA, ask, options, report_of

SERVED = "tests.servers.tls_applications:report_unattached"


def command(worker: str, port: int, *more: str) -> list[str]:
    program = ["-m", "gunicorn", SERVED, "--worker-class", worker, "--bind", f"127.0.0.1:{port}"]
    return [*program, "--no-control-socket", *more]


OURS, THEIRS = "mtls_middleware.servers.gunicorn_asgi.Worker", "asgi"


@pytest.mark.live
def test_gunicorns_own_worker_still_needs_it(tmp_path: Path) -> None:
    """The control of `test_each_server.py`. When it fails, gunicorn was mended, and the adapter may go."""
    port = free_port()
    with running(command(THEIRS, port, *options(tls_files(CA, tmp_path)), "--cert-reqs", "1"), port):
        assert ask(port)["tls"] is None


@pytest.mark.live
@pytest.mark.standard("J1")
def test_without_tls_there_is_no_extension() -> None:
    port = free_port()
    with (
        running(command(OURS, port), port),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection,
    ):
        assert report_of(connection)["tls"] is None


HOOK = """
def ssl_context(conf, default_ssl_context_factory):
    return default_ssl_context_factory()
"""


@pytest.mark.live
def test_server_cert_is_none_where_a_hook_makes_the_context(tmp_path: Path) -> None:
    port, files = free_port(), options(tls_files(CA, tmp_path))
    (tmp_path / "hook.py").write_text(HOOK)
    with running(command(OURS, port, *files, "--cert-reqs", "2"), port):
        assert ask(port)["tls"]["server_cert"] == (tmp_path / "server.pem").read_text()
    port = free_port()
    with running(command(OURS, port, *files, "--cert-reqs", "2", "--config", f"{tmp_path}/hook.py"), port):
        tls = ask(port)["tls"]
    assert tls["server_cert"] is None
    assert "".join(tls["client_cert_chain"]) == BILLING.chain_pem


@pytest.mark.live
@pytest.mark.parametrize(("worker", "serves_without_tls"), [(THEIRS, True), (OURS, False)])
def test_where_tls_cannot_be_set_up_the_port_is_not_served_without_it(
    tmp_path: Path, worker: str, serves_without_tls: bool
) -> None:
    """gunicorn's own worker goes on in clear text (when this fails, it was mended, and so may our class be)."""
    port, files = free_port(), tls_files(CA, tmp_path)
    CA.server("elsewhere").write(files, name="other")
    tls = ["--certfile", f"{files}/server.pem", "--keyfile", f"{files}/other-key.pem"]
    process = subprocess.Popen(
        [sys.executable, *command(worker, port, *tls)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        if serves_without_tls:
            assert process.stdout is not None
            while b"ASGI server listening" not in (line := process.stdout.readline()):
                assert line, "gunicorn ended"
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                assert report_of(connection)["tls"] is None
        else:
            log, _ = process.communicate(timeout=30)  # it ends by itself
            assert b"Failed to create SSL context" in log
            assert b"ASGI server listening" not in log
            assert process.returncode != 0
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.live
def test_gunicorn_does_not_start_where_its_interface_has_moved() -> None:
    program = f"import sys; sys.argv[1:] = {command(OURS, free_port())[2:]!r}\n"
    program += "from gunicorn.workers import gasgi; del gasgi.ASGIProtocol.connection_made\n"
    program += "from gunicorn.app.wsgiapp import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode != 0
    output = done.stderr + done.stdout
    assert "ConfigurationError: mtls_middleware.servers.gunicorn_asgi.Worker is not compatible with" in output
    assert "ASGIProtocol has no connection_made" in output


# --- a moved interface ---


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if the class had not been named yet."""
    monkeypatch.delitem(vars(gunicorn_asgi), "Worker", raising=False)
    return monkeypatch


class OtherServe(ASGIWorker):
    async def _serve(self) -> None:
        raise NotImplementedError


class OtherApplication(ASGIProtocol):
    def __init__(self, worker: Any) -> None:
        self.application = worker.application


class OtherConnection(ASGIProtocol):
    async def _handle_connection(self) -> None:
        raise NotImplementedError


class OtherHead(ASGIProtocol):
    def _on_headers_complete(self) -> bool:
        raise NotImplementedError


class NoProtocol(asyncio.Protocol):
    """Speaks nothing."""


@pytest.mark.parametrize(
    ("name", "moved", "message"),
    [
        ("ASGIWorker", OtherServe, "ASGIWorker does not create an ASGIProtocol"),
        ("ASGIProtocol", OtherApplication, "ASGIProtocol does not take its app from worker.asgi"),
        ("ASGIProtocol", NoProtocol, "NoProtocol has no connection_made"),
        ("ASGIProtocol", OtherConnection, "does not call _is_websocket_upgrade"),
        ("ASGIProtocol", OtherHead, "has no _current_request"),
    ],
    ids=["serve", "application", "protocol", "upgrade", "request"],
)
def test_a_moved_interface_is_told(unnamed: pytest.MonkeyPatch, name: str, moved: Any, message: str) -> None:
    unnamed.setattr(gasgi, name, moved)
    with pytest.raises(ConfigurationError, match=f"{message}.*pip install 'gunicorn==27.0") as refused:
        gunicorn_asgi.Worker  # noqa: B018 (the access alone raises)
    assert "of gunicorn 2" in str(refused.value)


def test_without_gunicorn_the_line_to_type_is_told(unnamed: pytest.MonkeyPatch) -> None:
    unnamed.setattr("mtls_middleware.servers.interface.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install 'gunicorn>="):
        gunicorn_asgi.Worker  # noqa: B018 (the access alone raises)


def test_the_class_is_created_once_and_other_names_raise_attribute_error() -> None:
    assert gunicorn_asgi.Worker is gunicorn_asgi.Worker
    with pytest.raises(AttributeError, match="'Werker'"):
        gunicorn_asgi.Werker  # noqa: B018 (the access alone raises)


def test_naming_it_changes_nothing_for_gunicorns_own_worker(unnamed: pytest.MonkeyPatch) -> None:
    assert issubclass(gunicorn_asgi.Worker, ASGIWorker)
    assert gasgi.ASGIProtocol is ASGIProtocol
