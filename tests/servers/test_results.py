"""docs/server-results.md says what `test_each_server.py` checks of each server: the same table, written out.

`MTLS_WRITE_RESULTS=1 pytest tests/servers` writes it anew, with the versions of the servers that are installed.
"""

import os
from importlib.metadata import version

from tests.live.servers import ROOT
from tests.servers.test_each_server import SERVERS, Kind

PAGE = ROOT / "docs" / "server-results.md"
PACKAGES = "uvicorn h11 httptools zttp hypercorn uvloop gunicorn gevent daphne twisted werkzeug cheroot".split()  # noqa: SIM905

HEAD = """# What each server hands over

Written by the tests of `tests/servers`: every cell is tried on the real server, in each CI run, with two clients whose
chains differ and one without certificate, taking turns. Versions when this page was last written: {versions}.

*own*: every request is told the certificate of its own connection, `BY_SERVER`, or none where there is none. In turn:
over connections that stay open (*kept*) or that the server closes behind each answer (*closed*). HTTP/2: six streams at
once on each connection. Resumed, in TLS 1.2 and 1.3: a second connection with the session of the first; *leaf*: the
certificate is told without its chain; *no*: the server resumes none, and each handshake is a full one. Chain: the
intermediates arrive, all of them. A certificate of another CA gets in nowhere. hypercorn's websockets are tried as
streams of HTTP/2 too.

"""


def cells(kind: Kind) -> list[str]:
    """What the tests of `test_each_server.py` demand of this server, in their order."""
    return [
        "own, kept" if kind.keeps_alive else "own, closed",
        "own" if kind.http2 else "not spoken",
        "own" if kind.asgi else "WSGI has none",
        "leaf" if kind.resumes else "no",
        "yes",
    ]


def page(versions: str) -> str:
    head = ["server", "connections in turn", "HTTP/2", "websocket", "resumed session", "chain"]
    lines = [head, ["---"] * len(head), *([name, *cells(kind)] for name, kind in SERVERS.items())]
    return HEAD.format(versions=versions) + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_the_page_of_results_is_current() -> None:
    if os.environ.get("MTLS_WRITE_RESULTS"):
        PAGE.write_text(page(", ".join(f"{name} {version(name)}" for name in PACKAGES)), "utf-8")
    text = PAGE.read_text("utf-8")
    written = text.partition("last written: ")[2].partition(".\n\n")[0]
    assert text == page(written)
