"""docs/proxy-results.md says what the tests of this folder check: the same tables, written out.

`MTLS_WRITE_RESULTS=1 pytest tests/proxies` writes it anew, with the versions of the programs that are installed.
"""

import os
from pathlib import Path

import pytest

from tests.proxies import forgery, matrix, programs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proxy-results.md"

HEAD = """# What comes through each proxy

Written by the tests of `tests/proxies`: every cell is tried on the real program, in each of its CI runs, with the
configuration that `mtls-middleware proxy-config` prints. Versions when this page was last written: {versions}.

Attacks on the connection between proxy and server (upgrades, CONNECT, smuggled requests) have their own page:
[smuggling-results.md](smuggling-results.md).

## The client's certificate

Over HTTP/1.1 and HTTP/2 alike. The cells say the `verification` of the certificate that is attached, `+1` where the
intermediate arrives in its `chain` too; *none*: the application is reached without certificate; *refused*: it is not
reached. `required` is tried in front of gunicorn, `optional` of uvicorn with `HTTPTools`, `untrusted` with `H11`.

"""
FORGERIES = """
## What a client forges

With and without a certificate of its own, in front of gunicorn and uvicorn (`HTTPTools`, `H11`), in both header forms.
*removed*: the application is reached, and is told the truth; nothing that was forged arrives. *refused*: it is not
reached. Beside these, each of the {known} header names that `sources/vendors.py` knows is sent to each proxy in
dashes and in underscores, and none arrives. Two cells are not of the proxy's making: Apache lets dots through, which no
server folds; and HAProxy forwards trailer fields, which these servers keep apart from headers (uvicorn's own httptools
class does not: `tests/proxies/test_trailers.py`).

"""

UNIX = """
## An application on a unix socket

`--upstream unix:/path`: gunicorn with `--bind unix:/path` and uvicorn with `--uds /path` alike, the client speaking
HTTP/1.1 and HTTP/2. Traefik reaches no unix sockets.

"""
SECRET = """
## A shared secret

In front of gunicorn. The proxy's own secret arrives once, whatever the client sends. Its copy is removed or refused, as
the table of forgeries says, in these forms:
{forms}.

The cells say what the application is told by somebody who comes past the proxy, from an address that it trusts, with a
header that says what the proxy would.

"""
VIRTUAL_HOSTS = """
## Several virtual hosts on one address

The generated host with `--server-name`, beside a host that verifies against another CA and resumes sessions, and one
that verifies none: two and three hosts in every order, TLS 1.2 and 1.3. A client of the generated host's own CA is
served if both names are that host's. The cells say what every other client gets; where there are two answers, they
depend on the order or on the client's certificate. Sessions of another host and early data give no access at any proxy.

"""
SAMPLES = """
## The samples, with a token that is bound to a certificate

`samples/behind_proxy.py`: the Flask sample on gunicorn, the Starlette sample on uvicorn. The cells are the status that
the token's bearer gets, who presents:

"""


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(versions: str) -> str:
    certificates = table(
        ["proxy", "form", "mode", *matrix.KINDS],
        [
            [each.proxy, each.form, each.mode, *(matrix.expected(each, kind) for kind in matrix.KINDS)]
            for each in matrix.SETUPS
        ],
    )
    columns = [(proxy, protocol) for proxy in matrix.REFUSED for protocol in ("http1", "http2")]
    forgeries = table(
        [
            "form",
            *(f"{proxy} {protocol.replace('http1', '1.1').replace('http2', 'h2')}" for proxy, protocol in columns),
        ],
        [[form, *(matrix.expected_of_forgery(p, form, h) for p, h in columns)] for form in forgery.requests()],
    )
    head, between = HEAD.format(versions=versions), FORGERIES.format(known=len(forgery.KNOWN_HEADERS))
    return head + certificates + between + forgeries + extras()


def extras() -> str:
    unix = table(
        ["proxy", *matrix.UNIX_CASES],
        [[proxy, *matrix.UNIX_CASES.values()] for proxy in dict.fromkeys(each.proxy for each in matrix.UNIX)],
    )
    secret = table(
        ["proxy", *matrix.SECRET_CASES], [[each.proxy, *matrix.SECRET_CASES.values()] for each in matrix.SECRETS]
    )
    hosts = table(
        ["the client sends", *matrix.REFUSED],
        [
            [kind, *(", ".join(sorted(row[proxy])) for proxy in matrix.REFUSED)]
            for kind, row in matrix.VIRTUAL_HOSTS.items()
        ],
    )
    names, statuses = {"HTTPTools": "uvicorn"}, [str(each) for each in matrix.SAMPLE_CASES.values()]
    samples = table(
        ["proxy", "form", "server", *matrix.SAMPLE_CASES],
        [[each.proxy, each.form, names.get(each.server, each.server), *statuses] for each in matrix.SAMPLES],
    )
    return (
        UNIX
        + unix
        + SECRET.format(forms="; ".join(forgery.guesses()))
        + secret
        + VIRTUAL_HOSTS
        + hosts
        + SAMPLES
        + samples
    )


@pytest.mark.live
def test_the_page_of_results_is_current():
    if os.environ.get("MTLS_WRITE_RESULTS"):
        versions = ", ".join(f"{name} {programs.version(name)}" for name in matrix.REFUSED)
        PAGE.write_text(page(versions), "utf-8")
    text = PAGE.read_text("utf-8")
    written = text.partition("last written: ")[2].partition(".\n\n")[0]
    assert text == page(written)
