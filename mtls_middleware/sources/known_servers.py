"""The known WSGI servers, as a table: what each does to header names, and where its peer address comes from.

Facts only. Each row is tried on the real server (docs/wsgi-servers.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass

Release = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownServer:
    """One row.

    A server is recognised by its `key`, which has precedence, or by its `software`. A client can set neither.

    Attributes:
        name: as the log names it.
        software: the product at the beginning of `SERVER_SOFTWARE`, in its exact spelling.
        key: a key in the environ that no other server sets.
        has_release: whether the server tells its release: behind a slash in `SERVER_SOFTWARE`, or as the value of
            `key`. If not, the row holds for every release that sets `key`.
        keeps_apart_since: the lowest release that drops or rejects a name with an underscore; `None` if no release
            does. An environ from an older release counts as one from an unknown server.
        http2_since: the same for requests over HTTP/2, if the server has it.
        options: the server's own options that undo this, and the values that do not.
        address_is_transports: whether `REMOTE_ADDR` is always the address of the connection, or the environ shows
            that it is not. `False` if an option can take it from a header field without a trace in the environ.
    """

    name: str
    software: str | None = None
    key: str | None = None
    has_release: bool = True
    keeps_apart_since: Release | None = None
    http2_since: Release | None = None
    options: Mapping[str, frozenset[str]] | None = None
    address_is_transports: bool = True


KNOWN_SERVERS = (
    # Names with an underscore: joined by a comma with those that have a hyphen. Its workers take REMOTE_ADDR from the
    # uwsgi packet, which a proxy or the http router's PROXY protocol (--http-enable-proxy-protocol) fills.
    KnownServer(name="uWSGI", key="uwsgi.version", address_is_transports=False),
    # The last of both fields wins; also under CherryPy, whose own name begins SERVER_SOFTWARE. "X-A : 1" is X-A, too.
    KnownServer(name="cheroot", software="Cheroot", key="ACTUAL_SERVER_PROTOCOL"),
    # The last of both fields wins.
    KnownServer(name="granian", software="Granian", has_release=False),
    # Joined by a comma. Django's runserver has the same SERVER_SOFTWARE; it drops the underscores, but cannot be told
    # apart (django/core/servers/basehttp.py).
    KnownServer(name="wsgiref", software="WSGIServer"),
    # 22.0.0: `header_map` is "drop" by default (docs/content/2024-news.md). HTTP/2 goes by it from 27.0.0 on (commit
    # 391dbc78); 25.0 to 26.1 fold names there. `protocol = "uwsgi"` takes names that the proxy has folded.
    KnownServer(
        name="gunicorn",
        software="gunicorn",
        keeps_apart_since=(22, 0, 0),
        http2_since=(27, 0, 0),
        options={
            "header_map": frozenset({"drop", "refuse"}),
            "forwarder_headers": frozenset({"SCRIPT_NAME", "PATH_INFO", "REMOTE_USER"}),
            "protocol": frozenset({"http"}),
        },
    ),
    # 1.2a1 (docs/changelog_1_2.rst); SERVER_SOFTWARE has the first two numbers. Also gunicorn's gevent_pywsgi worker.
    KnownServer(name="gevent", software="gevent", keeps_apart_since=(1, 2)),
    # 2.3.0 (CHANGES.rst).
    KnownServer(name="Werkzeug", software="Werkzeug", keeps_apart_since=(2, 3, 0)),
    # 1.0.0 (HISTORY.txt). It tells no release, and SERVER_SOFTWARE is the operator's `ident`. The key exists from 2.0.0
    # on. `trusted_proxy` writes X-Forwarded-For into REMOTE_ADDR, and leaves that field in the environ only then.
    KnownServer(name="waitress", key="waitress.client_disconnected", has_release=False, keeps_apart_since=(2, 0, 0)),
    # 4.3.0 (docs/release-notes/version-4.3.0.rst). SERVER_SOFTWARE depends on Apache's ServerTokens, the key does not.
    # mod_remoteip and WSGITrustedProxyHeaders write X-Forwarded-For into REMOTE_ADDR without a trace.
    KnownServer(
        name="mod_wsgi", key="mod_wsgi.version", keeps_apart_since=(4, 3, 0), address_is_transports=False
    ),
)  # fmt: skip
