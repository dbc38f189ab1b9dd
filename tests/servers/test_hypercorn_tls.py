"""hypercorn's adapter: where it steps aside, what it cannot know, and what it says when hypercorn has moved.

What it hands over, over each protocol: `test_each_server.py`.
"""

import asyncio
import contextlib
import http.client
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypercorn.asyncio
import hypercorn.asyncio.run
import hypercorn.protocol
import pytest
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol

from mtls_middleware import ConfigurationError
from mtls_middleware.servers import hypercorn_tls
from tests.live.servers import free_port, running, tls_files
from tests.servers.clients import BILLING, CA, IN_TURN, ask, expected, options, report_of
from tests.servers.tls_applications import asgi, report


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """hypercorn as it is by itself, again after the test."""
    monkeypatch.setattr(hypercorn.asyncio.run, "TCPServer", TCPServer)
    monkeypatch.setattr(hypercorn.protocol, "H11Protocol", H11Protocol)
    return monkeypatch


@contextlib.contextmanager
def serving(app: Any, config: Config) -> Iterator[int]:
    """hypercorn's own `serve`, in a loop in a thread."""
    port, started, loop = free_port(), threading.Event(), asyncio.new_event_loop()
    config.bind, config.graceful_timeout, config.errorlog = [f"127.0.0.1:{port}"], 1, None
    ended = asyncio.Event()

    async def shutdown() -> None:
        started.set()
        await ended.wait()

    def run() -> None:
        loop.run_until_complete(hypercorn.asyncio.serve(app, config, shutdown_trigger=shutdown))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(10)
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        assert not thread.is_alive()


def configured(directory: Path, config: Config | None = None) -> Config:
    files = tls_files(CA, directory)
    config = config or Config()
    config.certfile, config.keyfile = str(files / "server.pem"), str(files / "server-key.pem")
    config.ca_certs, config.verify_mode = str(files / "ca.pem"), ssl.CERT_OPTIONAL
    return config


@pytest.mark.live
def test_in_code_hand_over_comes_before_hypercorns_own_serve(untouched: Any, tmp_path: Path) -> None:
    hypercorn_tls.hand_over()
    with serving(asgi, configured(tmp_path)) as port:
        for client in IN_TURN:
            answer = ask(port, client)
            assert answer["certificate"] == expected(client)
            assert answer["tls"]["server_cert"] == (tmp_path / "server.pem").read_text()


@pytest.mark.live
def test_hypercorn_itself_still_needs_it(untouched: Any, tmp_path: Path) -> None:
    """The control of the test above. When it fails, hypercorn was mended, and the adapter may go."""
    with serving(report, configured(tmp_path)) as port:
        assert ask(port) == {"certificate": None, "tls": None, "seen": []}


@pytest.mark.live
@pytest.mark.standard("J1")
def test_without_tls_there_is_no_extension(untouched: Any) -> None:
    hypercorn_tls.hand_over()
    with (
        serving(report, Config()) as port,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection,
    ):
        assert report_of(connection)["tls"] is None


class OwnContext(Config):
    def create_ssl_context(self) -> ssl.SSLContext | None:
        return super().create_ssl_context()


@pytest.mark.live
def test_server_cert_is_none_with_an_own_ssl_context(untouched: Any, tmp_path: Path) -> None:
    hypercorn_tls.hand_over()
    with serving(asgi, configured(tmp_path, OwnContext())) as port:
        answer = ask(port)
    assert answer["tls"]["server_cert"] is None
    assert answer["certificate"] == expected(BILLING)


@pytest.mark.live
def test_the_applications_module_can_do_it_for_plain_hypercorn(tmp_path: Path) -> None:
    lines = [
        "from mtls_middleware.servers.hypercorn_tls import hand_over",
        "from tests.servers.tls_applications import asgi",
    ]
    (tmp_path / "served_here.py").write_text("\n".join([*lines, "hand_over()", "hand_over()", ""]))
    port = free_port()
    command = ["-m", "hypercorn", "served_here:asgi", "--bind", f"127.0.0.1:{port}", *options(tls_files(CA, tmp_path))]
    with running([*command, "--verify-mode", "CERT_REQUIRED"], port, PYTHONPATH=str(tmp_path)):
        assert ask(port)["certificate"] == expected(BILLING)


# --- a moved interface ---


class OtherArguments(TCPServer):
    def __init__(self, app: Any, writer: Any) -> None:
        raise NotImplementedError


class OtherRun(TCPServer):
    async def run(self) -> None:
        raise NotImplementedError


async def other_worker_serve() -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "moved", "message"),
    [
        ("TCPServer", OtherArguments, "the arguments of TCPServer are not named app, loop"),
        ("TCPServer", OtherRun, "does not pass its app to a protocol"),
        ("worker_serve", other_worker_serve, "creates no TCPServer"),
    ],
    ids=["arguments", "run", "worker_serve"],
)
def test_a_moved_interface_is_told_before_hypercorn_listens(
    untouched: pytest.MonkeyPatch, name: str, moved: Any, message: str
) -> None:
    untouched.setattr(hypercorn.asyncio.run, name, moved)
    with pytest.raises(ConfigurationError, match=f"{message}.*pip install 'hypercorn==0.18") as refused:
        hypercorn_tls.hand_over()
    assert "of hypercorn 0." in str(refused.value)


class NoCheck(H11Protocol):
    _check_protocol = None


class OtherEvents(H11Protocol):
    async def _handle_events(self) -> None:
        raise NotImplementedError


class OtherCount(H11Protocol):
    async def stream_send(self, event: Any) -> None:
        raise NotImplementedError


class OtherWrapper(ProtocolWrapper):
    def __init__(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "moved", "message"),
    [
        ("H11Protocol", NoCheck, "NoCheck has no _check_protocol"),
        ("H11Protocol", OtherEvents, "does not call _check_protocol and _create_stream"),
        ("H11Protocol", OtherCount, "does not count requests"),
        ("ProtocolWrapper", OtherWrapper, "creates no H11Protocol"),
    ],
)
def test_a_moved_protocol_is_told_before_hypercorn_listens(
    untouched: pytest.MonkeyPatch, name: str, moved: Any, message: str
) -> None:
    untouched.setattr(hypercorn.protocol, name, moved)
    with pytest.raises(ConfigurationError, match=f"{message}.*pip install 'hypercorn==0.18"):
        hypercorn_tls.hand_over()


def test_a_class_that_is_gone_is_told(untouched: pytest.MonkeyPatch) -> None:
    untouched.delattr(hypercorn.asyncio.run, "TCPServer")
    with pytest.raises(ConfigurationError, match="TCPServer"):
        hypercorn_tls.hand_over()


def test_without_hypercorn_the_line_to_type_is_told(untouched: pytest.MonkeyPatch) -> None:
    untouched.setattr("mtls_middleware.servers.interface.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install 'hypercorn>="):
        hypercorn_tls.hand_over()


def test_twice_is_once(untouched: Any) -> None:
    hypercorn_tls.hand_over()
    ours = hypercorn.asyncio.run.TCPServer
    hypercorn_tls.hand_over()
    assert hypercorn.asyncio.run.TCPServer is ours
    assert issubclass(ours, TCPServer)
