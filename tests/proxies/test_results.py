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
    return head + certificates + between + forgeries


@pytest.mark.live
def test_the_page_of_results_is_current():
    if os.environ.get("MTLS_WRITE_RESULTS"):
        versions = ", ".join(f"{name} {programs.version(name)}" for name in matrix.REFUSED)
        PAGE.write_text(page(versions), "utf-8")
    text = PAGE.read_text("utf-8")
    written = text.partition("last written: ")[2].partition(".\n\n")[0]
    assert text == page(written)
