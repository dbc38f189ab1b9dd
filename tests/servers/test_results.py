"""docs/server-results.md says what `test_each_server.py` checks of each server: the same table, written out.

`MTLS_WRITE_RESULTS=1 pytest tests/servers` writes it anew, with the versions of the servers that are installed.
"""

import os
import subprocess
from importlib.metadata import version

from tests.live.servers import ROOT
from tests.servers.kinds import KINDS, PINNED, Kind
from tests.servers.plain import OURS, OWN, Class, Own
from tests.servers.upgrades import PAYLOADS

PAGE = ROOT / "docs" / "server-results.md"
PACKAGES = [
    "uvicorn", "h11", "httptools", "zttp", "hypercorn", "uvloop",
    "gunicorn", "gevent", "daphne", "twisted", "werkzeug", "cheroot",
]  # fmt: skip

OTHERS = ["granian", "waitress"]  # servers of the second table that the first one does not have

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


UPGRADES = """
## Upgrades, CONNECT and HTTP/2 in clear text

A client that gets an upgrade or a CONNECT through a proxy can write to the proxy's connection. Its bytes then come from
the proxy's address. The same happens if the server takes the body of such a request for the next request.

The first table is measured on each server as it is by itself, in clear text, as behind a proxy. It also has {others}.
HTTP/2: the server answers 101 to `Upgrade: h2c` (*upgrade*), or speaks HTTP/2 with a client that begins with it (*prior
knowledge*). Body of an upgrade: of a request with `Upgrade: foo` or `Upgrade: h2c`, with a length or chunked. Body of a
CONNECT: with a length or chunked. Behind a CONNECT: what a client sends after a CONNECT without a body, if the
application responds 404. Body of a websocket handshake: with a length. *Safe instead*: the option or the class that
avoids what is not safe in this row.

{own}
The second table is about the classes of this library, in the newest and the oldest release of the server. Each of the
{count} payloads of `tests/servers/upgrades.py` contains a second request. The application must not read it. No class
answers 101 to `Upgrade: h2c`, or speaks HTTP/2 that TLS has not negotiated.

{ours}"""
OWN_HEAD = [
    *("server", "HTTP/2", "body of an upgrade", "body of a CONNECT", "behind a CONNECT"),
    *("body of a websocket handshake", "safe instead"),
]
OUR_HEAD = ["class", "in clear text", "other upgrades", "CONNECT", "websocket handshake with a body"]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def table(head: list[str], rows: list[str]) -> str:
    return "".join([row(*head), row(*["---"] * len(head)), *rows])


def own_row(name: str, own: Own) -> str:
    facts = own.facts
    http2 = [word for spoken, word in ((facts.h2c, "upgrade"), (facts.prior_knowledge, "prior knowledge")) if spoken]
    return row(
        f"`{name}`",
        ", ".join(http2) or "no",
        "read" if facts.upgrade_body else "**taken for a request**",
        "read" if facts.connect_body else "**taken for a request**",
        "not read" if facts.connect_rest else "**taken for a request**",
        "no handshake" if facts.websocket_body else "**taken for frames**",
        own.off or "",
    )


def our_row(name: str, kind: Class) -> str:
    upgrade = "ignored, then closed" if kind.ends else "ignored; the connection stays open"
    return row(
        f"`{name}`",
        "tried" if kind.clear_text else "TLS only",
        upgrade,
        "rejected, then closed",
        upgrade if kind.websockets else f"{upgrade} (no websockets)",
    )


def upgrades(others: str) -> str:
    own = table(OWN_HEAD, [own_row(name, each) for name, each in OWN.items()])
    ours = table(OUR_HEAD, [our_row(name, each) for name, each in OURS.items()])
    return UPGRADES.format(others=others, own=own, ours=ours, count=len(PAYLOADS))


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


def page(versions: str, others: str) -> str:
    newest = dict(each.split(" ") for each in versions.replace("\n", " ").split(", "))
    head = ["server", "releases", "connections in turn", "HTTP/2", "websocket", "resumed session", "chain"]
    lines = [head, ["---"] * len(head), *([name, releases(kind, newest), *cells(kind)] for name, kind in KINDS.items())]
    return HEAD.format(versions=versions) + "".join(row(*line) for line in lines) + upgrades(others)


def installed(name: str) -> str:
    if name not in DEBIANS:
        return version(name)
    command = ["dpkg-query", "--show", "--showformat", "${Version}", DEBIANS[name]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("-")[0]


def written(text: str, before: str, after: str) -> str:
    return text.partition(before)[2].partition(after)[0]


def test_the_page_of_results_is_current() -> None:
    if os.environ.get("MTLS_WRITE_RESULTS"):
        versions = ", ".join(f"{name} {installed(name)}" for name in [*PACKAGES, *DEBIANS])
        PAGE.write_text(page(versions, ", ".join(f"{name} {version(name)}" for name in OTHERS)), "utf-8")
    text = PAGE.read_text("utf-8")
    assert text == page(written(text, "last written: ", ".\n\n"), written(text, "It also has ", ".\nHTTP/2:"))
