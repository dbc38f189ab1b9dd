"""Lists the traps: settings with which a client can forge a certificate, or the server loses the certificate.

Every row was tested with the real server.
"""

import re

from mtls_middleware.cli.server_command import Command
from mtls_middleware.cli.trap import (
    ADDRESS,
    BODY,
    FOLDS,
    FOLDS_ADVICE,
    H2C,
    NO_CURE,
    Trap,
    connect,
    folding,
    hidden_address,
    may_fold,
    rewrites_peers,
)
from mtls_middleware.cli.uvicorn_traps import UVICORN_TRAPS

# The size of a header with a percent-encoded certificate of 12 kB, in octets. Envoy's header with the chain has 38 kB.
_LARGE = 18_881

_GUNICORN_ASGI_WORKER = "mtls_middleware.servers.gunicorn_asgi.Worker"
_DEVELOPMENT = "mtls_middleware.testing.development.context"
_UVICORN_WORKER = re.compile(r"uvicorn(?:_worker|\.workers)\.(?:_workers\.)?Uvicorn\w*Worker")
# The gunicorn workers that never read X_Name as X-Name. The tornado worker is missing, because it reads X_Name as
# X-Name.
_GUNICORN_WORKERS = ("", "sync", "gthread", "gevent", "gevent_pywsgi", "gevent_wsgi", "eventlet", "asgi")


def _is_uvicorn_worker(command: Command) -> bool:
    return _UVICORN_WORKER.fullmatch(command.get("--worker-class").replace(":", ".")) is not None


def _is_tornado_worker(command: Command) -> bool:
    return "tornado" in command.get("--worker-class").lower()


def _forwards_certificates(command: Command) -> bool:
    names = command.get("--forwarder-headers", "SCRIPT_NAME,PATH_INFO").upper().replace("-", "_")
    return command.hyphens and any(word in names for word in ("SSL", "CERT", "CLIENT", "TLS", "MTLS", "SECRET"))


def _is_name(value: str) -> bool:
    """Whether flask run can read this value of --cert as the name of a Python object, and not as a file."""
    return value != "adhoc" and "/" not in value and not value.endswith((".pem", ".crt", ".cert"))


TRAPS = (
    *UVICORN_TRAPS,
    folding("cheroot"),
    folding("wsgiref"),
    folding("twist"),
    connect("twist"),
    hidden_address("twist"),
    folding("granian"),
    Trap(
        "granian",
        lambda c: c.headers and c.get("--http", "auto") != "1",
        "error",
        f"granian {H2C} (--http auto is the default)",
        f"start granian with --http 1. {NO_CURE}",
    ),
    connect("granian", when=lambda c: c.get("--http", "auto") != "2"),
    Trap(
        "granian",
        lambda c: c.own_tls,
        "error",
        "granian cannot hand over the client certificate, so ServerTLS() never finds a certificate",
        "let a proxy terminate TLS, and use the header source of that proxy",
    ),
    Trap(
        "waitress",
        lambda c: c.own_tls,
        "error",
        "waitress has no TLS, so ServerTLS() never finds a certificate",
        "let a proxy terminate TLS, and use the header source of that proxy",
    ),
    Trap(
        "waitress",
        lambda c: c.addresses and "--trusted-proxy" in c.options,
        "error",
        "waitress replaces the peer's address with the address in X-Forwarded-For (--trusted-proxy)",
        ADDRESS,
    ),
    connect("waitress"),
    folding("uwsgi"),
    hidden_address("uwsgi"),
    Trap(
        "uwsgi",
        lambda c: c.headers and c.number("--buffer-size", 4096) < _LARGE,
        "warning",
        "uWSGI closes the connection if the headers of a request exceed 4 kB (--buffer-size)",
        "start uWSGI with --buffer-size 65535",
        "--buffer-size",
    ),
    connect("uwsgi", when=lambda c: "--http-keepalive" in c.options),
    Trap(
        "gunicorn",
        _forwards_certificates,
        "error",
        "gunicorn's forwarder_headers accepts a certificate header that is spelled with underscores, even a forged one",
        "remove certificate headers from forwarder_headers",
        "--forwarder-headers",
    ),
    Trap(
        "gunicorn",
        lambda c: may_fold(c) and c.get("--protocol").strip().lower() == "uwsgi",
        "error",
        f"gunicorn with protocol = uwsgi {FOLDS}",
        f"leave protocol at its default, http; or {FOLDS_ADVICE}",
        "--protocol",
    ),
    Trap(
        "gunicorn",
        lambda c: may_fold(c) and c.get("--header-map").strip().lower() == "dangerous",
        "error",
        "gunicorn's header_map = dangerous joins a client's X_SSL_Client_Cert to the proxy's header",
        "leave header_map at its default, drop",
        "--header-map",
    ),
    Trap(
        "gunicorn",
        lambda c: (
            may_fold(c)
            and c.get("--worker-class") not in _GUNICORN_WORKERS
            and not c.get("--worker-class").startswith(("egg:gunicorn#g", "gunicorn.workers.g", "mtls_middleware."))
            and not _is_uvicorn_worker(c)
        )
        or (may_fold(c) and _is_tornado_worker(c)),
        "error",
        "gunicorn's worker class is unknown, and may read X_SSL_Client_Cert as X-SSL-Client-Cert; for example, the "
        f"tornado worker {FOLDS}",
        f"use sync, gthread or gevent; or {FOLDS_ADVICE}",
        "--worker-class",
    ),
    Trap(
        "gunicorn",
        lambda c: (
            c.headers
            and c.get("--http2-cleartext").strip().lower() not in ("", "off", "false", "none")
            and ("h2" in c.get("--http-protocols") or "--http-protocols" in c.unknown)
        ),
        "error",
        f"gunicorn with http2_cleartext {H2C}",
        f"leave http2_cleartext at its default, off. {NO_CURE}",
        "--http2-cleartext",
    ),
    Trap(
        "gunicorn",
        lambda c: c.headers and _is_uvicorn_worker(c) and not c.get("--worker-class").endswith("H11Worker"),
        "error",
        f"uvicorn's worker (httptools) {BODY}",
        f"start gunicorn with --worker-class {_GUNICORN_ASGI_WORKER}. {NO_CURE}",
        "--worker-class",
    ),
    Trap(
        "gunicorn",
        lambda c: _is_uvicorn_worker(c) and rewrites_peers(c),
        "error",
        "uvicorn's worker replaces the peer's address, which trusted_proxies= reads, with that in X-Forwarded-For",
        f"start gunicorn with --forwarded-allow-ips '', or --worker-class {_GUNICORN_ASGI_WORKER}",
        "--forwarded-allow-ips",
    ),
    connect("gunicorn", f"start gunicorn with --worker-class {_GUNICORN_ASGI_WORKER}", _is_uvicorn_worker),
    hidden_address("gunicorn", _is_tornado_worker),
    connect("gunicorn", "start gunicorn with --worker-class gthread", _is_tornado_worker),
    Trap(
        "gunicorn",
        lambda c: c.addresses and c.get("--proxy-protocol", "off").strip().lower() not in ("off", "false", "none", "0"),
        "error",
        "gunicorn takes the peer's address from the PROXY protocol, and trusted_proxies= does not trust this address",
        ADDRESS,
        "--proxy-protocol",
    ),
    Trap(
        "gunicorn",
        lambda c: c.headers and c.number("--limit-request-field_size", 8190) < _LARGE,
        "warning",
        "gunicorn answers 431 to a header of more than 8190 octets; the header for a certificate of 12 kB has 19 kB",
        "start gunicorn with --limit-request-field_size 65536 if certificates may be large",
        "--limit-request-field_size",
    ),
    Trap(
        "gunicorn",
        lambda c: c.own_tls and c.number("--cert-reqs", 0) == 0,
        "error",
        "gunicorn does not request client certificates (--cert-reqs 0), so ServerTLS() never finds a certificate",
        "start gunicorn with --cert-reqs 1 (optional) or 2 (required), and --ca-certs",
        "--cert-reqs",
    ),
    Trap(
        "werkzeug",
        lambda c: c.own_tls and not c.get("--cert"),
        "error",
        "flask run without --cert has no TLS, so ServerTLS() never finds a certificate",
        f"for development, run mtls-middleware dev-ca, and start flask run with --cert {_DEVELOPMENT}",
        "--cert",
    ),
    Trap(
        "werkzeug",
        lambda c: c.own_tls and c.get("--cert") != "" and not _is_name(c.get("--cert")),
        "error",
        "flask run with a certificate file requests no client certificates, so ServerTLS() never finds one",
        f"start flask run with --cert and the name of an ssl.SSLContext that requests them, for example {_DEVELOPMENT}",
        "--cert",
    ),
    Trap(
        "wsgiref",
        lambda c: c.own_tls,
        "error",
        "Django's runserver and wsgiref have no TLS, so ServerTLS() never finds a certificate",
        "in production, use another server; in development, wrap the application: see docs/testing.md",
    ),
    Trap("hypercorn", may_fold, "error", f"hypercorn's WSGI {FOLDS}", FOLDS_ADVICE),
    Trap("hypercorn_tls", may_fold, "error", f"hypercorn's WSGI {FOLDS}", FOLDS_ADVICE),
    Trap(
        "hypercorn",
        lambda c: c.headers,
        "error",
        f"hypercorn {H2C}; no option turns this off",
        f"start python -m mtls_middleware.servers.hypercorn_tls instead, with the same options. {NO_CURE}",
    ),
    Trap(
        "hypercorn_tls",
        lambda c: c.headers and c.get("--worker-class") == "trio",
        "error",
        f"hypercorn's trio worker {H2C}; mtls_middleware.servers.hypercorn_tls fixes only the asyncio worker",
        f"start the server without --worker-class trio. {NO_CURE}",
        "--worker-class",
    ),
    hidden_address("hypercorn"),
    hidden_address("hypercorn_tls"),
    connect("hypercorn", "start python -m mtls_middleware.servers.hypercorn_tls instead"),
    Trap(
        "hypercorn",
        lambda c: c.own_tls,
        "error",
        "hypercorn itself does not hand over the client certificate, so ServerTLS() never finds a certificate",
        "start python -m mtls_middleware.servers.hypercorn_tls instead, with the same options",
    ),
    connect("daphne", "with TLS between proxy and daphne, start python -m mtls_middleware.servers.daphne_tls"),
    Trap(
        "daphne",
        lambda c: c.addresses and "--proxy-headers" in c.options,
        "error",
        "daphne replaces the peer's address, which trusted_proxies= reads, with X-Forwarded-For (--proxy-headers)",
        ADDRESS,
    ),
    *(
        Trap(
            daphne,
            lambda c: c.headers and c.behind_envoy,
            "warning",
            "daphne answers 400 to a header of more than 16 kB; the header of Envoy may have 38 kB",
            "leave chain: true out of Envoy's set_current_client_cert_details if certificates may be large",
        )
        for daphne in ("daphne", "daphne_tls")
    ),
)  # fmt: skip
