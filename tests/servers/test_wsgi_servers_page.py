"""docs/wsgi-servers.md says what `test_wsgi_servers.py` checks of each WSGI server and adapter: the same table.

`MTLS_WRITE_RESULTS=1 pytest tests/servers` writes it, with the versions of the servers that are installed.
"""

import os
import platform
from importlib.metadata import version

from mtls_middleware.sources.known_servers import KNOWN_SERVERS
from tests.live.servers import ROOT
from tests.servers.test_results import DEBIANS, installed
from tests.servers.wsgi_kinds import WSGI_KINDS, WSGIKind

PAGE = ROOT / "docs" / "wsgi-servers.md"
PACKAGES = sorted({kind.package for kind in WSGI_KINDS.values()})

HEAD = """# WSGI servers: header names and addresses

A WSGI environ has one key, `HTTP_X_SSL_CLIENT_CERT`, for `X-SSL-Client-Cert` and for `X_SSL_Client_Cert` (RFC 3875
4.1.18). Some servers drop a name with an underscore. Under the others, a client can send a field that the application
reads as the proxy's field. The library trusts a server to keep names apart only if the server is in its table.

## What you can do

If the log says that a server is not known to keep header names apart, do one of these:

1. **Use names without hyphens.** No name with an underscore becomes `MtlsClientCert`. `mtls-middleware proxy-config`
   writes these names, and prints the source that reads them. They work under every server below.

   ```python
   Nginx(
       shared_secret=("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"]),
       certificate_header="MtlsClientCert",
       verify_header="MtlsClientVerify",
   )
   ```

   A name of your own should not contain `ss`, because Python's `upper()` turns the letter `ß` into `SS`. The library
   treats such a name like a name with a hyphen.
2. **Use a server that keeps names apart**: {known}.
3. **State that the proxy deletes such names**: `proxy_deletes_underscores=True`. The proxy must delete every name that
   has an underscore, a blank before the colon, or another odd character, for every client. [proxies.md](proxies.md)
   shows how. A `shared_secret` alone does not replace this: the proxy adds its secret to a request with a forged field,
   too.

If the log says that the peer's address may be set from a header field, give `shared_secret=` without
`trusted_proxies=`. Or run the ASGI middleware outside the adapter: it sees the address and the names as they arrived.

In tests, the test client creates the environ, not a server. Add `TESTING_ENVIRON` (Django's own client does not run
what is in `wsgi.py`; use werkzeug's `Client(application)` for that):

```python
from mtls_middleware.testing import TESTING_ENVIRON
proxy = {{**TESTING_ENVIRON, "REMOTE_ADDR": "10.0.0.1"}}
flask_app.test_client().get("/", headers=client.as_nginx(), environ_overrides=proxy)  # Flask, werkzeug
django.test.Client(headers=client.as_nginx(), **proxy).get("/")  # layers inside of Django
webtest.TestApp(app, extra_environ=proxy).get("/", headers=client.as_nginx())  # WebTest
```

## The known servers

| server | recognised by | names are kept apart | undone by | `REMOTE_ADDR` |
| --- | --- | --- | --- | --- |
{rows}

A release that is not two to four numbers, such as a pre-release, counts as unknown. waitress tells no release; its key
exists from 2.0.0 on. gunicorn's options are seen at run time, unless another WSGI middleware wraps `start_response`;
`mtls-middleware doctor` sees them on the command line.

The library does not trust `REMOTE_ADDR` under uWSGI (its workers take it from the uwsgi packet) and mod_wsgi
(mod_remoteip and `WSGITrustedProxyHeaders` replace it without a trace). Give `shared_secret=` without
`trusted_proxies=` there.

## Measured

Each cell is tried on the real server, in each CI run (`tests/servers/test_wsgi_servers.py`). The versions when this
page was last written: {versions}.

- `X_A` alone: *folded*: the application reads it as `X-A`.
- Both: if there are `X-A` and `X_A`, the application reads the value of the *hyphen*, the *last* one, or both *joined*
  by a comma.
- Odd names: which of {odd} other spellings of `MtlsClientCert` arrive as `MtlsClientCert`. Tried are underscores,
  hyphens, dots, blanks, a tab, NUL, and letters that `upper()` turns into `S`, `SS` and `I`. A proxy must not forward a
  name with a blank or a tab before the colon (RFC 9112 5.1).
- Address: whether `REMOTE_ADDR` is that of the *connection* or from a *header*, if the client sends `X-Forwarded-For`.
- Then what the library does: a source that reads `X-SSL-Client-Cert`, a source that reads `MtlsClientCert` with a
  secret, the same with `trusted_proxies=` instead, and a source with `proxy_deletes_underscores=True`.

gunicorn's HTTP/2 is tried in two releases: 25.3.0 folds names there (500), the newest does not. gunicorn's
`--protocol uwsgi` takes names that the proxy has folded (500). Without a test of their own: CherryPy (it runs on
cheroot), and pyvoy (1.3.0 joins both, and sets neither `SERVER_SOFTWARE` nor `REMOTE_ADDR`).

"""


def since(release: tuple[int, ...] | None) -> str:
    return "no" if release is None else f"from {'.'.join(map(str, release))}"


def known_rows() -> str:
    lines = []
    for row in KNOWN_SERVERS:
        marks = [f"`SERVER_SOFTWARE: {row.software}`"] if row.software else []
        marks += [f"key `{row.key}`"] if row.key else []
        marks = [f"{marks[0]} and `wsgi.input` of Django"] if row.input_class else marks
        apart = since(row.keeps_apart_since)
        apart += f"; HTTP/2 {since(row.http2_since)}" if row.http2_since else ""
        options = ", ".join(f"`{name}`" for name in row.options or ()) or "-"
        trusted = "the connection's" if row.address_is_transports else "not trusted"
        lines.append(f"| {row.name} | {' or '.join(marks)} | {apart} | {options} | {trusted} |")
    return "\n".join(lines)


def cells(kind: WSGIKind) -> list[str]:
    """What the tests of `test_wsgi_servers.py` demand of this server, in their order."""
    by_address = "certificate" if kind.address_known else "no certificate"
    if kind.address_known and kind.address == "header":
        by_address = "certificate, none with `X-Forwarded-For`"
    return [
        kind.alone,
        kind.both,
        ", ".join(kind.odd) or "none",
        kind.address,
        by_address if kind.names_known else "500",
        "certificate",
        by_address,
        "certificate",
    ]


def page(versions: str) -> str:
    from tests.servers.test_wsgi_servers import ODD

    head = ["server", "`X_A` alone", "both", "odd names", "address", "hyphens, address", "no hyphens, secret"]
    head += ["no hyphens, address", "hyphens, stated"]
    table = [head, ["---"] * len(head), *([name, *cells(kind)] for name, kind in WSGI_KINDS.items())]
    kept = [
        f"{row.name} {since(row.keeps_apart_since)}"
        for row in KNOWN_SERVERS
        if row.keeps_apart_since and not row.input_class
    ]
    text = HEAD.format(known=", ".join(kept), rows=known_rows(), versions=versions, odd=len(ODD))
    return text + "".join(f"| {' | '.join(line)} |\n" for line in table)


def release(package: str) -> str:
    if package == "Python":
        return platform.python_version()
    return installed(package) if package in DEBIANS else version(package)


def test_the_page_of_wsgi_servers_is_current() -> None:
    if os.environ.get("MTLS_WRITE_RESULTS"):
        PAGE.write_text(page(", ".join(f"{name} {release(name)}" for name in PACKAGES)), "utf-8")
    text = PAGE.read_text("utf-8")
    written = text.partition("last written: ")[2].partition(".\n\n")[0]
    assert text == page(written)


def test_every_known_server_is_tried() -> None:
    tried = " ".join(WSGI_KINDS).lower()
    assert [row.name for row in KNOWN_SERVERS if row.name.lower() not in tried] == []
