"""Lists known WSGI servers: how each server handles header names, and where it gets the peer's address.

Each row has been tested with the real server (docs/wsgi-servers.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass

Release = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownServer:
    """One row of the table of known WSGI servers.

    A server is recognised by its `key`, which takes precedence, or by its `software`. If the row has an `input_class`,
    the server is recognised only by `software` and `input_class` together. A client can set none of these values.

    Attributes:
        name: the server's name in log records.
        software: the product at the beginning of `SERVER_SOFTWARE`, in its exact spelling.
        key: a key in the environ that no other server sets.
        input_class: the module and name of the class of `wsgi.input`, if no other server with this `software` has it.
        has_release: whether the environ contains the server's release, after a slash in `SERVER_SOFTWARE` or as the
            value of `key`. If `False`, the row applies to every release that has this `software` or `key`.
        keeps_apart_since: the lowest release that drops or rejects a header name with an underscore; `None` if no
            release does. An older release is treated as an unknown server.
        http2_since: the lowest release that also does so for requests over HTTP/2; `None` if this is
            `keeps_apart_since`.
        options: options of the server that can turn this protection off. Each option is mapped to the values that do
            not turn it off.
        address_is_transports: `True` if `REMOTE_ADDR` is always the address of the connection, or if the environ shows
            when it is not. `False` if an option of the server can set `REMOTE_ADDR` from a header field without a trace
            in the environ.
    """

    name: str
    software: str | None = None
    key: str | None = None
    input_class: str | None = None
    has_release: bool = True
    keeps_apart_since: Release | None = None
    http2_since: Release | None = None
    options: Mapping[str, frozenset[str]] | None = None
    address_is_transports: bool = True


KNOWN_SERVERS = (
    # uWSGI joins X_A and X-A with a comma. Its workers read REMOTE_ADDR from the uwsgi packet, which a proxy or uWSGI's
    # HTTP router writes. The router may get the address from the PROXY protocol (--http-enable-proxy-protocol).
    KnownServer(name="uWSGI", key="uwsgi.version", address_is_transports=False),
    # cheroot uses the last of the fields X_A and X-A, and reads "X-A : 1" as X-A. CherryPy uses cheroot, and its
    # SERVER_SOFTWARE begins with "CherryPy".
    KnownServer(name="cheroot", software="Cheroot", key="ACTUAL_SERVER_PROTOCOL"),
    # granian uses the last of the fields X_A and X-A.
    KnownServer(name="granian", software="Granian", has_release=False),
    # wsgiref joins X_A and X-A with a comma.
    KnownServer(name="wsgiref", software="WSGIServer"),
    # Django's runserver is based on wsgiref, and has the same SERVER_SOFTWARE. It drops header names with an underscore
    # since 1.7.3 (django/core/servers/basehttp.py, docs/releases/1.7.3.txt). It wraps `wsgi.input` since 2.1.4.
    KnownServer(
        name="Django runserver",
        software="WSGIServer",
        input_class="django.core.handlers.wsgi.LimitedStream",
        has_release=False,
        keeps_apart_since=(2, 1, 4),
    ),
    # Since gunicorn 22.0.0, `header_map` is "drop" by default (docs/content/2024-news.md). `header_map` applies to
    # HTTP/2 since 27.0.0 (commit 391dbc78). 25.0 to 26.1 fold names in HTTP/2. With `protocol = "uwsgi"`, the proxy has
    # folded the names.
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
    # gevent drops header names with an underscore since 1.2a1 (docs/changelog_1_2.rst). SERVER_SOFTWARE contains the
    # first two numbers of the release. The row also applies to gunicorn's gevent_pywsgi worker.
    KnownServer(name="gevent", software="gevent", keeps_apart_since=(1, 2)),
    # Werkzeug drops header names with an underscore since 2.3.0 (CHANGES.rst).
    KnownServer(name="Werkzeug", software="Werkzeug", keeps_apart_since=(2, 3, 0)),
    # waitress drops header names with an underscore since 1.0.0 (HISTORY.txt). The environ has no release, and
    # SERVER_SOFTWARE is the operator's `ident`. waitress.client_disconnected exists since 2.0.0. The option
    # `trusted_proxy` writes X-Forwarded-For into REMOTE_ADDR. X-Forwarded-For is in the environ only with this option.
    KnownServer(name="waitress", key="waitress.client_disconnected", has_release=False, keeps_apart_since=(2, 0, 0)),
    # mod_wsgi drops header names with an underscore since 4.3.0 (docs/release-notes/version-4.3.0.rst). It always sets
    # mod_wsgi.version, but Apache's ServerTokens can change SERVER_SOFTWARE. REMOTE_ADDR may not be the address of the
    # connection, because mod_remoteip and WSGITrustedProxyHeaders write X-Forwarded-For into it without a trace.
    KnownServer(
        name="mod_wsgi", key="mod_wsgi.version", keeps_apart_since=(4, 3, 0), address_is_transports=False
    ),
)  # fmt: skip
