"""The table of traps: settings with which a client can forge a certificate, or the server loses the certificate.

Every row was tested with the real server.
"""

import re
from collections.abc import Callable

from mtls_middleware.cli.server_command import Command
from mtls_middleware.cli.trap import Trap

# The size of a header with a percent-encoded certificate of 12 kB, in octets. Envoy's header with the chain has 38 kB.
_LARGE = 18_881

_UVICORN_MODULE = "mtls_middleware.servers.uvicorn_tls:"
_GUNICORN_ASGI_WORKER = "mtls_middleware.servers.gunicorn_asgi.Worker"
_HTTPTOOLS = ("auto", "httptools", "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol")
_UVICORN_WORKER = re.compile(r"uvicorn(?:_worker|\.workers)\.(?:_workers\.)?Uvicorn\w*Worker")
# The gunicorn workers that never read X_Name as X-Name. The tornado worker reads X_Name as X-Name.
_GUNICORN_WORKERS = ("", "sync", "gthread", "gevent", "gevent_pywsgi", "gevent_wsgi", "eventlet", "asgi")


def _is_uvicorn_worker(command: Command) -> bool:
    return _UVICORN_WORKER.fullmatch(command.get("--worker-class")) is not None


def _is_tornado_worker(command: Command) -> bool:
    return "tornado" in command.get("--worker-class").lower()


def _may_fold(command: Command) -> bool:
    return command.hyphens and command.served != "ASGI"


def _rewrites_peers(command: Command) -> bool:
    disabled = "--no-proxy-headers" in command.options or command.get("--forwarded-allow-ips", "127.0.0.1") == ""
    return command.addresses and not disabled


def _forwards_certificates(command: Command) -> bool:
    names = command.get("--forwarder-headers", "SCRIPT_NAME,PATH_INFO").upper().replace("-", "_")
    return command.hyphens and any(word in names for word in ("SSL", "CERT", "CLIENT", "TLS", "MTLS", "SECRET"))


def _uvicorn_http(command: Command) -> str:
    return command.get("--http", "auto") or "auto"


FOLDS = (
    "joins a client's X_SSL_Client_Cert and the proxy's X-SSL-Client-Cert to one name: a header source that reads a "
    "name with hyphens raises ConfigurationError"
)
FOLDS_ADVICE = (
    "use header names without hyphens such as MtlsClientCert, as proxy-config does; or use another server, such as "
    "gunicorn or waitress; or let the proxy delete all header names with underscores, and set "
    "proxy_deletes_underscores=True"
)
HIDES = (
    "does not show a WSGI application where the peer's address comes from, so trusted_proxies= never matches: the "
    "certificate is ignored"
)
HIDES_ADVICE = "use shared_secret= without trusted_proxies=; or wrap the adapter in a layer of mtls_middleware.asgi"
_NO_CURE = "A shared_secret= is a second line of defence and not a cure: half a request gets the next request's secret."
_H2C = (
    "accepts HTTP/2 in clear text: if the proxy forwards upgrades, a client can write to the server directly, with the "
    "proxy's address and any certificate header"
)
_BODY = (
    "does not consume the body of a request for an upgrade: a second request in this body has the proxy's address, "
    "and can have any certificate header"
)
_CONNECT = (
    "reads what follows CONNECT as requests: if the proxy forwards CONNECT, these requests have the proxy's "
    "address, and can have any certificate header"
)
_CONNECT_ADVICE = "let the proxy answer CONNECT itself, as the configurations of proxy-config do"
_ADDRESS = "start the server without this option, or use shared_secret= without trusted_proxies="
_UVICORN_HTTP_ADVICE = f"start uvicorn with --http {_UVICORN_MODULE}HTTPTools (or H11, Zttp, HTTP2)"


def _folding(server: str, when: Callable[[Command], bool] = _may_fold) -> Trap:
    return Trap(server, when, "error", f"{server} {FOLDS}", FOLDS_ADVICE)


def _hidden_address(server: str, when: Callable[[Command], bool] = lambda c: c.served == "WSGI") -> Trap:
    return Trap(server, lambda c: c.addresses and when(c), "error", f"{server} {HIDES}", HIDES_ADVICE)


def _connect(server: str, advice: str = "", when: Callable[[Command], bool] = lambda _: True) -> Trap:
    advice = f"{advice}{'; also ' if advice else ''}{_CONNECT_ADVICE}"
    return Trap(server, lambda c: c.headers and when(c), "warning", f"{server} {_CONNECT}", f"{advice}. {_NO_CURE}")


TRAPS = (
    _folding("cheroot"),
    _folding("wsgiref"),
    _folding("twist"),
    _connect("twist"),
    _hidden_address("twist"),
    _folding("granian"),
    Trap(
        "granian",
        lambda c: c.headers and c.get("--http", "auto") != "1",
        "error",
        f"granian {_H2C} (--http auto is the default)",
        f"start granian with --http 1. {_NO_CURE}",
    ),
    _connect("granian", when=lambda c: c.get("--http", "auto") != "2"),
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
        _ADDRESS,
    ),
    _connect("waitress"),
    _folding("uwsgi"),
    _hidden_address("uwsgi"),
    Trap(
        "uwsgi",
        lambda c: c.headers and c.number("--buffer-size", 4096) < _LARGE,
        "warning",
        "uWSGI closes the connection if the headers of a request exceed 4 kB (--buffer-size)",
        "start uWSGI with --buffer-size 65535",
        "--buffer-size",
    ),
    _connect("uwsgi", when=lambda c: "--http-keepalive" in c.options),
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
        lambda c: _may_fold(c) and c.get("--protocol").strip().lower() == "uwsgi",
        "error",
        f"gunicorn with protocol = uwsgi {FOLDS}",
        f"leave protocol at its default, http; or {FOLDS_ADVICE}",
        "--protocol",
    ),
    Trap(
        "gunicorn",
        lambda c: _may_fold(c) and c.get("--header-map").strip().lower() == "dangerous",
        "error",
        "gunicorn's header_map = dangerous joins a client's X_SSL_Client_Cert to the proxy's header",
        "leave header_map at its default, drop",
        "--header-map",
    ),
    Trap(
        "gunicorn",
        lambda c: (
            _may_fold(c)
            and c.get("--worker-class") not in _GUNICORN_WORKERS
            and not c.get("--worker-class").startswith(("egg:gunicorn#g", "gunicorn.workers.g", "mtls_middleware."))
            and not _is_uvicorn_worker(c)
        ),
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
        f"gunicorn with http2_cleartext {_H2C}",
        f"leave http2_cleartext at its default, off. {_NO_CURE}",
        "--http2-cleartext",
    ),
    Trap(
        "gunicorn",
        lambda c: c.headers and _is_uvicorn_worker(c) and not c.get("--worker-class").endswith("H11Worker"),
        "error",
        f"uvicorn's worker (httptools) {_BODY}",
        f"start gunicorn with --worker-class {_GUNICORN_ASGI_WORKER}. {_NO_CURE}",
        "--worker-class",
    ),
    Trap(
        "gunicorn",
        lambda c: _is_uvicorn_worker(c) and _rewrites_peers(c),
        "error",
        "uvicorn's worker replaces the peer's address, which trusted_proxies= reads, with that in X-Forwarded-For",
        f"start gunicorn with --forwarded-allow-ips '', or --worker-class {_GUNICORN_ASGI_WORKER}",
        "--forwarded-allow-ips",
    ),
    _connect("gunicorn", f"start gunicorn with --worker-class {_GUNICORN_ASGI_WORKER}", _is_uvicorn_worker),
    _hidden_address("gunicorn", _is_tornado_worker),
    _connect("gunicorn", "start gunicorn with --worker-class gthread", _is_tornado_worker),
    Trap(
        "gunicorn",
        lambda c: c.addresses and c.get("--proxy-protocol", "off").strip().lower() not in ("off", "false", "none", "0"),
        "error",
        "gunicorn takes the peer's address from the PROXY protocol, and trusted_proxies= does not trust this address",
        _ADDRESS,
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
        "uvicorn",
        _rewrites_peers,
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
        lambda c: c.headers and "--http2" not in c.options and _uvicorn_http(c) in _HTTPTOOLS,
        "error",
        f"uvicorn's httptools (--http auto is the default) {_BODY}",
        f"{_UVICORN_HTTP_ADVICE}, or --http h11. {_NO_CURE}",
    ),
    Trap(
        "uvicorn",
        lambda c: c.headers and "--http2" in c.options,
        "error",
        f"uvicorn with --http2 {_H2C}",
        f"start uvicorn with --http {_UVICORN_MODULE}Zttp or --http {_UVICORN_MODULE}HTTP2, not --http2. {_NO_CURE}",
    ),
    _connect("uvicorn", _UVICORN_HTTP_ADVICE, lambda c: not _uvicorn_http(c).startswith(_UVICORN_MODULE)),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and not _uvicorn_http(c).startswith(_UVICORN_MODULE),
        "error",
        "uvicorn itself does not hand over the client certificate, so ServerTLS() never finds a certificate",
        f"start uvicorn with --http {_UVICORN_MODULE}H11 --ws {_UVICORN_MODULE}WebSockets",
    ),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and c.number("--ssl-cert-reqs", 0) == 0,
        "error",
        "uvicorn does not request client certificates (--ssl-cert-reqs 0), so ServerTLS() never finds a certificate",
        "start uvicorn with --ssl-cert-reqs 1 (optional) or 2 (required), and --ssl-ca-certs",
    ),
    Trap(
        "uvicorn",
        lambda c: c.own_tls and not c.get("--ws").startswith(_UVICORN_MODULE) and c.get("--ws") != "none",
        "warning",
        "websockets get no certificate, because --ws does not name a class of mtls-middleware",
        f"start uvicorn with --ws {_UVICORN_MODULE}WebSockets, or --ws none",
    ),
    Trap(
        "uvicorn",
        lambda c: c.behind_haproxy and "--http2" not in c.options and _uvicorn_http(c) in _HTTPTOOLS,
        "error",
        "HAProxy forwards trailer fields, and uvicorn's httptools class reads them as header fields: a client can "
        "forge any certificate",
        f"start uvicorn with --http h11 or --http {_UVICORN_MODULE}HTTPTools",
    ),
    Trap("hypercorn", _may_fold, "error", f"hypercorn's WSGI {FOLDS}", FOLDS_ADVICE),
    Trap("hypercorn_tls", _may_fold, "error", f"hypercorn's WSGI {FOLDS}", FOLDS_ADVICE),
    Trap(
        "hypercorn",
        lambda c: c.headers,
        "error",
        f"hypercorn {_H2C}; no option turns this off",
        f"start python -m mtls_middleware.servers.hypercorn_tls instead, with the same options. {_NO_CURE}",
    ),
    Trap(
        "hypercorn_tls",
        lambda c: c.headers and c.get("--worker-class") == "trio",
        "error",
        f"hypercorn's trio worker {_H2C}; mtls_middleware.servers.hypercorn_tls fixes only the asyncio worker",
        f"start the server without --worker-class trio. {_NO_CURE}",
        "--worker-class",
    ),
    _hidden_address("hypercorn"),
    _hidden_address("hypercorn_tls"),
    _hidden_address("uvicorn", lambda c: c.get("--interface") == "wsgi"),
    _connect("hypercorn", "start python -m mtls_middleware.servers.hypercorn_tls instead"),
    Trap(
        "hypercorn",
        lambda c: c.own_tls,
        "error",
        "hypercorn itself does not hand over the client certificate, so ServerTLS() never finds a certificate",
        "start python -m mtls_middleware.servers.hypercorn_tls instead, with the same options",
    ),
    _connect("daphne", "with TLS between proxy and daphne, start python -m mtls_middleware.servers.daphne_tls"),
    Trap(
        "daphne",
        lambda c: c.addresses and "--proxy-headers" in c.options,
        "error",
        "daphne replaces the peer's address, which trusted_proxies= reads, with X-Forwarded-For (--proxy-headers)",
        _ADDRESS,
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
