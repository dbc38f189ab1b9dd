"""docs/server-results.md says what `test_each_server.py` checks of each server: the same table, written out.

`MTLS_WRITE_RESULTS=1 pytest tests/servers` writes it anew, with the versions of the servers that are installed.
"""

import os
import subprocess
from importlib.metadata import version

from tests.live.servers import ROOT
from tests.servers.kinds import KINDS, PINNED, Kind

PAGE = ROOT / "docs" / "server-results.md"
PACKAGES = "uvicorn h11 httptools zttp hypercorn uvloop gunicorn gevent daphne twisted werkzeug cheroot".split()  # noqa: SIM905

# Debian's packages; `mod_wsgi` runs in the Apache that docs/proxy-results.md names.
DEBIANS = {"uwsgi": "uwsgi-core", "mod_wsgi": "libapache2-mod-wsgi-py3"}

HEAD = """# What each server hands over

Written by the tests of `tests/servers`: every cell is tried on the real server, in each CI run, with two clients whose
chains differ and one without certificate, taking turns. Each server of PyPI is tried in two releases, the oldest that
we work with and the newest. The newest when this page was last written: {versions}.

*own*: every request is told the certificate of its own connection, `BY_SERVER`, or none where there is none. In turn:
over connections that stay open (*kept*) or that the server closes behind each answer (*closed*). HTTP/2: six streams at
once on each connection. Resumed, in TLS 1.2 and 1.3: a second connection with the session of the first; *leaf*: the
certificate is told without its chain, which *own* never had; *no*: the server resumes none, and each handshake is a
full one. Chain: the intermediates arrive, all of them. No header, and no trailer field, is ever the certificate. A
certificate of another CA gets in nowhere. hypercorn's websockets are tried as streams of HTTP/2 too.

"""


def cells(kind: Kind) -> list[str]:
    """What the tests of `test_each_server.py` demand of this server, in their order."""
    resumed = "leaf" if kind.chain else "own"
    return [
        "own, kept" if kind.keeps_alive else "own, closed",
        "own" if kind.http2 else "not spoken",
        "own" if kind.asgi else "WSGI has none",
        resumed if kind.resumes else "no",
        "yes" if kind.chain else "no",
    ]


def releases(kind: Kind, newest: dict[str, str]) -> str:
    if kind.package in PINNED:
        return f"{PINNED[kind.package]}, {newest[kind.package]}"
    return newest[kind.package]


def page(versions: str) -> str:
    newest = dict(each.split(" ") for each in versions.replace("\n", " ").split(", "))
    head = ["server", "releases", "connections in turn", "HTTP/2", "websocket", "resumed session", "chain"]
    lines = [head, ["---"] * len(head), *([name, releases(kind, newest), *cells(kind)] for name, kind in KINDS.items())]
    return HEAD.format(versions=versions) + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def installed(name: str) -> str:
    if name not in DEBIANS:
        return version(name)
    command = ["dpkg-query", "--show", "--showformat", "${Version}", DEBIANS[name]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("-")[0]


def test_the_page_of_results_is_current() -> None:
    if os.environ.get("MTLS_WRITE_RESULTS"):
        PAGE.write_text(page(", ".join(f"{name} {installed(name)}" for name in [*PACKAGES, *DEBIANS])), "utf-8")
    text = PAGE.read_text("utf-8")
    written = text.partition("last written: ")[2].partition(".\n\n")[0]
    assert text == page(written)
