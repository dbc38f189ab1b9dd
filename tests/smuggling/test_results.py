"""docs/smuggling-results.md says what `python -m tests.smuggling --write` measured: `results.json`, written out.

`MTLS_WRITE_RESULTS=1 pytest tests/smuggling/test_results.py` writes the page again.
"""

import os
from typing import Any

from mtls_middleware.cli.proxies import PROXIES
from tests.live.servers import ROOT
from tests.smuggling import report
from tests.smuggling.findings import EFFECTS
from tests.smuggling.payload import GROUPS
from tests.smuggling.servers import LEFT_OUT, SERVERS

PAGE = ROOT / "docs" / "smuggling-results.md"

HEAD = """# Tunnels and smuggled requests

An attacker who puts bytes onto the connection between proxy and server has the proxy's address. This page says which
attacks succeed through each proxy to each server, with the configuration that `mtls-middleware proxy-config` prints.

`python -m tests.smuggling --write` measures the tables on the real programs. It ran last on {date}, with {versions}.
Every CI run repeats the most important attacks and a sample of the others, with the secret configured.

The tables are from before a change of the configurations on 2026-11-29: Apache, Traefik and Caddy now forward a
websocket handshake without a body, as nginx, HAProxy and Envoy did before. After this change, on the same day and with
the same versions, `python -m tests.smuggling --share 0.05` sent a sample of the attacks through Apache, Traefik, Caddy
and HAProxy to each server of the tables, with the secret and without it: 433 attacks for each cell, 76,208 in total.
No attack succeeded. The other attacks of the tables have not been repeated since the change.

## What is sent

Each payload exists in up to four kinds. *Forge*: a complete request with the certificate of another client in every
field name that a generated configuration uses. *Forge over HTTP/2*: the same request, sent as HTTP/2 in clear text.
*Poison*: the beginning of a request, which the next client's request completes. *Capture*: a request with a long body,
which the next client's request becomes a part of. After each attack, an innocent client sends ordinary requests
through the same proxy. Half of the attackers have a certificate of their own.

{groups}
The second column of the tables says how the library treats the forged request if it arrives from the proxy's address
(with the secret, if there is one). *trusted*: an attack that reaches the server can succeed. *not trusted*: the library
does not trust the peer's address under this server. *rejected*: this server folds header names, and the library rejects
every request.

A cell says how many attacks succeeded, and how many were sent. Behind them are the requests and answers that show it:

{effects}
"""
MEANINGS = {
    "upgrade": "requests that ask for another protocol, with a body or with bytes after them",
    "connect": "CONNECT in HTTP/1.1 and HTTP/2, and extended CONNECT (RFC 8441)",
    "form": "lengths, encodings, chunks, line ends and targets of HTTP/1.1 that two programs may read differently",
    "downgrade": "the same in HTTP/2, for a proxy that writes HTTP/1.1 to the server, and cancelled streams",
    "feature": "Expect, TRACE, HTTP/1.0, early answers, and answers with 101, 1xx, 204 and 304",
}
TITLES = {True: "## With the secret", False: "## Without the secret"}
TAIL = """
## Servers that are not in the tables

{left_out}
¹ The project advises against these servers behind a header source:

{known_bad}"""


def table(head: list[str], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])


def cell(each: report.Cell) -> str:
    effects = ", ".join(f"{name} {count}" for name, count in each["effects"].items())
    return f"{each['succeeded']} of {each['attempts']}" + (f" ({effects})" if effects else "")


def row(server: str, cells: dict[str, report.Cell]) -> list[str]:
    controls = sorted({each["control"] for each in cells.values()})
    name = f"{server} ¹" if SERVERS[server].known_bad else server
    return [name, ", ".join(controls), *(cell(cells[proxy]) if proxy in cells else "not measured" for proxy in PROXIES)]


def page(results: dict[str, Any]) -> str:
    cells: list[report.Cell] = results["cells"]
    groups = table(
        ["group", "attacks", "what they are"],
        [[group, str(count), MEANINGS[group]] for group, count in results["attacks"].items()],
    )
    text = HEAD.format(
        date=results["date"],
        versions=", ".join(f"{name} {number}" for name, number in results["versions"].items()),
        groups=groups,
        effects="".join(f"- *{name}*: {meaning}.\n" for name, meaning in EFFECTS.items()),
    )
    for secret, title in TITLES.items():
        rows = [
            row(server, {each["proxy"]: each for each in cells if (each["server"], each["secret"]) == (server, secret)})
            for server in SERVERS
        ]
        text += f"{title}\n\n" + table(["server", "forged request", *PROXIES], rows) + "\n"
    known_bad = "".join(f"- {name}: {each.known_bad}.\n" for name, each in SERVERS.items() if each.known_bad)
    left_out = "".join(f"- {name}: {reason}.\n" for name, reason in LEFT_OUT.items())
    return text.rstrip("\n") + "\n" + TAIL.format(left_out=left_out, known_bad=known_bad)


def test_the_page_says_what_was_measured() -> None:
    results = report.load()
    expected = page(results)
    if os.environ.get("MTLS_WRITE_RESULTS"):
        PAGE.write_text(expected, "utf-8")
    assert PAGE.read_text("utf-8") == expected


def test_every_proxy_and_server_is_measured_with_and_without_the_secret() -> None:
    measured = {report.place(each) for each in report.load()["cells"]}
    assert measured == {(proxy, server, secret) for proxy in PROXIES for server in SERVERS for secret in (True, False)}


def test_the_data_names_every_group_of_payloads() -> None:
    assert tuple(report.load()["attacks"]) == GROUPS
