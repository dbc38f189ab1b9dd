"""The programs: each proxy once, with and without a secret, and the servers behind them one after the other."""

import contextlib
import io
import json
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mtls_middleware.cli.proxies import SECRET
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE, ProxyOptions
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.smuggling.attack import ATTACKER, INNOCENT, VICTIM, Attack, certificate
from tests.smuggling.client import InnocentClient
from tests.smuggling.servers import SERVERS

Control = Literal["trusted", "not trusted", "rejected"]
SECRET_HEADER = SECRET


@dataclass(frozen=True)
class Configuration:
    """One proxy, with or without a secret. `key` is the first path segment of requests to it."""

    proxy: str
    secret: bool

    @property
    def key(self) -> str:
        return f"{self.proxy}-{'secret' if self.secret else 'address'}"

    def wanted(self, listen: int, upstream: int, files: Path) -> ProxyOptions:
        return ProxyOptions(
            proxy=self.proxy,
            listen=f"127.0.0.1:{listen}",
            upstream=f"127.0.0.1:{upstream}",
            ca=str(files / "ca.pem"),
            certificate=str(files / "server.pem"),
            key=str(files / "server.pem.key"),
            secret_header=SECRET_HEADER if self.secret else None,
            secret=matrix.SECRET if self.secret else None,
        )


@dataclass(frozen=True)
class Stage:
    """Proxies that run, in front of the port where a server will listen."""

    ports: dict[Configuration, int]
    upstream: int
    log: Path
    read: list[int] = field(default_factory=lambda: [0])  # octets of the log that were read

    @property
    def keys(self) -> dict[str, tuple[str, bool]]:
        return {each.key: (each.proxy, each.secret) for each in self.ports}

    def records(self) -> list[dict[str, Any]]:
        """What the application has recorded, without what an earlier call returned."""
        with self.log.open("rb") as log:  # nothing is cut off: a server may be writing
            log.seek(self.read[0])
            whole = log.read().rpartition(b"\n")[0]
        self.read[0] += len(whole) + bool(whole)
        return [json.loads(line) for line in whole.splitlines()]


@contextlib.contextmanager
def proxies(configurations: Sequence[Configuration]) -> Iterator[Stage]:
    """Start the proxies of these configurations; they end with the block."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="mtls-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # Apache reads it as another user
        server = matrix.servers().server()
        (root / "server.pem").write_text(server.chain_pem)
        (root / "server.pem.key").write_text(server.key_pem)
        (root / "ca.pem").write_text(matrix.clients().pem)
        log = root / "log"
        log.touch()
        log.chmod(0o666)  # mod_wsgi writes it as another user
        upstream, ports = free_port(), {}
        for each in configurations:
            ports[each] = free_port()
            place = root / each.key
            place.mkdir()
            with contextlib.redirect_stderr(io.StringIO()):  # proxy-config prints the source there
                stack.enter_context(programs.proxy(each.wanted(ports[each], upstream, root), place))
        yield Stage(ports, upstream, log)


@contextlib.contextmanager
def server(name: str, stage: Stage) -> Iterator[dict[Configuration, Control]]:
    """Start this server behind the proxies of the stage. Gives the result of `control`."""
    environment = {
        "SOURCES": json.dumps({each.key: source(each, name) for each in stage.ports}),
        SECRET_VARIABLE: matrix.SECRET,
        "LOG": str(stage.log),
        "MARKS": json.dumps(marks()),
    }
    command = SERVERS[name].command
    with tempfile.TemporaryDirectory(prefix="mtls-") as folder:
        Path(folder).chmod(0o755)
        argv = command(stage.upstream, Path(folder))
        with programs.started(argv, stage.upstream, ROOT, gently=False, **environment):
            until_they_answer(stage)
            yield control(stage)


def source(configuration: Configuration, server: str) -> str:
    """The source object that the operator writes, as Python text."""
    text = configuration.wanted(1, 1, Path()).source()
    if configuration.secret and SERVERS[server].secret_alone:
        return re.sub(r"trusted_proxies=\[[^]]*\](, )?", "", text)
    return text


def marks() -> dict[str, str]:
    """The strings that must not reach an attacker: name -> string."""
    return {"secret": matrix.SECRET, "certificate": certificate_mark(), "request": "/innocent/"}


def certificate_mark() -> str:
    """A part of the innocent client's certificate alone, which base64 and percent-encoding write alike."""
    innocent, *others = ("".join(certificate(kind).pem.splitlines()[1:-1]) for kind in (INNOCENT, VICTIM, ATTACKER))
    lines = [innocent[at : at + 64] for at in range(0, len(innocent), 64)]
    runs = [run[at : at + 16] for line in lines for run in re.split("[/+=]", line) for at in range(len(run) - 15)]
    return next(run for run in runs if not any(run in other for other in others))


def until_they_answer(stage: Stage) -> None:
    """Wait until a request reaches the application through each proxy, and forget the record of it."""
    until = time.monotonic() + 30
    for configuration, port in stage.ports.items():
        client = InnocentClient(port, configuration.key)
        try:
            while not any(f"/{configuration.key}/" in each["path"] for each in stage.records()):
                assert time.monotonic() < until, f"no request reaches the application through {configuration.key}"
                client.request()
                time.sleep(0.02)
        finally:
            client.close()


def control(stage: Stage) -> dict[Configuration, Control]:
    """What the application gets from a forged request from the proxy's address; it contains the secret if there is one.

    `"trusted"`: the victim's certificate, so an attack that reaches the server can succeed. `"not trusted"`: no
    certificate. `"rejected"`: the request does not reach the application.
    """
    found: dict[Configuration, Control] = {}
    for each in stage.ports:
        attack = Attack(each.proxy, each.key, "control", "forge")
        secret = f"{SECRET_HEADER}: {matrix.SECRET}\r\n".encode() if each.secret else b""
        request = attack.inner.replace(b"Host: localhost\r\n", b"Host: localhost\r\nConnection: close\r\n" + secret)
        with socket.create_connection(("127.0.0.1", stage.upstream), timeout=10) as connection:
            connection.sendall(request)
            with contextlib.suppress(OSError):
                while connection.recv(65_536):
                    pass
        record = recorded(stage, "/control,")
        trusted = record["certificate"] and record["certificate"]["thumbprint"] == certificate(VICTIM).thumbprint
        found[each] = "trusted" if trusted else "not trusted" if record["reached"] else "rejected"
    return found


def recorded(stage: Stage, part: str) -> dict[str, Any]:
    """The record of the request with this part in its path; a server may write it after the answer."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for record in stage.records():
            if part in record["path"]:
                return record
        time.sleep(0.02)
    raise AssertionError(f"no record of a request with {part!r} in its path")
