"""Lists the traps of uvicorn. Every row was tested with the real server."""

from mtls_middleware.cli.server_command import Command
from mtls_middleware.cli.trap import (
    BODY,
    FOLDS,
    FOLDS_ADVICE,
    H2C,
    NO_CURE,
    UVICORN_MODULE,
    Trap,
    connect,
    hidden_address,
    rewrites_peers,
)

# Any other class may be a subclass of uvicorn's httptools class.
_SAFE_HTTP = (
    "h11", "zttp", "uvicorn.protocols.http.h11_impl.", "uvicorn.protocols.http.zttp_impl.",
    "mtls_middleware.servers.uvicorn_tls.",
)  # fmt: skip
_UVICORN_HTTP_ADVICE = f"start uvicorn with --http {UVICORN_MODULE}HTTPTools (or H11, Zttp, HTTP2)"


def _uvicorn_http(command: Command) -> str:
    return command.get("--http", "auto") or "auto"


def _is_safe_http(command: Command) -> bool:
    return _uvicorn_http(command).replace(":", ".").startswith(_SAFE_HTTP)


UVICORN_TRAPS = (
    Trap(
        "uvicorn",
        rewrites_peers,
        "error",
        "uvicorn replaces the peer's address with the address in X-Forwarded-For (--proxy-headers is the default)",
        "start uvicorn with --no-proxy-headers: trusted_proxies= must not use an address from a header",
        "--forwarded-allow-ips",
    ),
    Trap(
        "uvicorn",
        lambda c: c.hyphens and c.get("--interface") == "wsgi",
        "error",
        f"uvicorn's --interface wsgi {FOLDS}",
        FOLDS_ADVICE,
    ),
    Trap(
        "uvicorn",
        lambda c: c.served == "WSGI" and c.get("--interface") != "wsgi",
        "error",
        "uvicorn serves ASGI applications, and this one is WSGI",
        "use a WSGI server, for example gunicorn",
    ),
    Trap(
        "uvicorn",
        lambda c: c.headers and "--http2" not in c.options and not _is_safe_http(c),
        "error",
        f"uvicorn's httptools (--http auto is the default) {BODY}",
        f"{_UVICORN_HTTP_ADVICE}, or --http h11. {NO_CURE}",
        "--http",
    ),
    Trap(
        "uvicorn",
        lambda c: c.headers and "--http2" in c.options,
        "error",
        f"uvicorn with --http2 {H2C}",
        f"start uvicorn with --http {UVICORN_MODULE}Zttp or --http {UVICORN_MODULE}HTTP2, not --http2. {NO_CURE}",
    ),
    connect("uvicorn", _UVICORN_HTTP_ADVICE, lambda c: not _uvicorn_http(c).startswith(UVICORN_MODULE)),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and not _uvicorn_http(c).startswith(UVICORN_MODULE),
        "error",
        "uvicorn itself does not hand over the client certificate, so ServerTLS() never finds a certificate",
        f"start uvicorn with --http {UVICORN_MODULE}H11 --ws {UVICORN_MODULE}WebSockets",
        "--http",
    ),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and c.number("--ssl-cert-reqs", 0) == 0,
        "error",
        "uvicorn does not request client certificates (--ssl-cert-reqs 0), so ServerTLS() never finds a certificate",
        "start uvicorn with --ssl-cert-reqs 1 (optional) or 2 (required), and --ssl-ca-certs",
        "--ssl-cert-reqs",
    ),
    Trap(
        "uvicorn",
        lambda c: c.launcher == "fastapi" and (c.headers or c.own_tls),
        "note",
        "the fastapi command starts uvicorn, and has no option for --http, --ws or TLS",
        f"start uvicorn itself: uvicorn MODULE:APP --http {UVICORN_MODULE}HTTPTools",
    ),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and not c.get("--ws").startswith(UVICORN_MODULE) and c.get("--ws") != "none",
        "warning",
        "websockets get no certificate, because --ws does not name a class of mtls-middleware",
        f"start uvicorn with --ws {UVICORN_MODULE}WebSockets, or --ws none",
    ),
    Trap(
        "uvicorn",
        lambda c: c.behind_haproxy and "--http2" not in c.options and not _is_safe_http(c),
        "error",
        "HAProxy forwards trailer fields, and uvicorn's httptools class reads them as header fields: a client can "
        "forge any certificate",
        f"start uvicorn with --http h11 or --http {UVICORN_MODULE}HTTPTools",
    ),
    hidden_address("uvicorn", lambda c: c.get("--interface") == "wsgi"),
)  # fmt: skip
