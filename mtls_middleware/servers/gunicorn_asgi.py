"""Extends gunicorn's asgi worker with the ASGI TLS extension 0.2, and prevents upgrades except to websocket.

    gunicorn app:app --worker-class mtls_middleware.servers.gunicorn_asgi.Worker \\
        --certfile server.pem --keyfile server.key --ca-certs clients.pem --cert-reqs 1

With `--cert-reqs 1`, clients without a certificate are accepted. With `--cert-reqs 2`, they are rejected. gunicorn's
other workers need no class of this package, because `ServerTLS` reads the certificate from `gunicorn.socket`.

HTTP/2 requires a TLS connection that negotiates HTTP/2 (ALPN). The worker does not start with `--http2-cleartext`.

The class depends on these internals of gunicorn 25.3 to 27.0. If one of them has changed, gunicorn logs a
`ConfigurationError` and does not start.

- For each connection, the worker creates an `ASGIProtocol`, which it looks up in its module's globals. The protocol
  takes its application from `worker.asgi`, keeps it as `app`, and calls it for each request.
- When the header section of a request is complete, the protocol calls its `_on_headers_complete`, which sets
  `_current_request`. It calls `_is_websocket_upgrade(request)` before it calls the application with the scope from
  `_build_http_scope`. After a request with `must_close`, it closes the connection.
- The worker creates its TLS context in `_get_ssl_context`.
"""

import asyncio
from functools import partial
from importlib import import_module
from typing import Any

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.servers.extension import Extension, extension_from_ssl, first_certificate, with_tls_extension
from mtls_middleware.servers.interface import names_used, require_methods, server_interface
from mtls_middleware.servers.upgrades import ProtocolChange, protocol_change, with_connection_close, without_upgrade


class _ProtocolMixin(asyncio.Protocol):
    """Extends gunicorn's `ASGIProtocol`, the class of each connection.

    A request that asks for another protocol is the last request of its connection.
    """

    app: Any
    cfg: Any
    _current_request: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:  # only TLS connections get the extension
            read = partial(_extension, ssl_object, self.cfg, transport.get_extra_info("sslcontext"))
            self.app = with_tls_extension(self.app, read)
        super().connection_made(transport)

    def _on_headers_complete(self) -> Any:
        result = super()._on_headers_complete()  # type: ignore[misc]  # super() is gunicorn's class
        change = _protocol_change(self._current_request)
        if change.ends_connection:
            self._current_request.must_close = True
            self.app = with_connection_close(self.app, change.status)
        return result

    def _is_websocket_upgrade(self, request: Any) -> bool:
        return _protocol_change(request) is ProtocolChange.WEBSOCKET

    def _build_http_scope(self, request: Any, *rest: Any) -> Any:
        scope = super()._build_http_scope(request, *rest)  # type: ignore[misc]  # super() is gunicorn's class
        if request.must_close:
            scope["headers"] = without_upgrade(scope["headers"])
        return scope


def _protocol_change(request: Any) -> ProtocolChange:
    version = ".".join(str(number) for number in request.version)
    headers = [(name.encode("latin-1").lower(), value.encode("latin-1")) for name, value in request.headers]
    return protocol_change(request.method, version, headers)


class _WorkerMixin:
    """Extends gunicorn's asgi worker: the application finds the client certificate in `extensions["tls"]`."""

    cfg: Any

    def init_process(self) -> None:
        cleartext = getattr(self.cfg, "http2_cleartext", "off")
        if cleartext != "off":
            raise ConfigurationError(
                f"http2_cleartext={cleartext!r}: expected 'off', the default. This worker supports HTTP/2 over TLS "
                "only, because a client could send HTTP/2 in clear text through a proxy's connection"
            )
        # This assignment changes the module only in the worker's own process, which uses no other worker class.
        module: Any = import_module("gunicorn.workers.gasgi")
        module.ASGIProtocol = type("ASGIProtocol", (_ProtocolMixin, module.ASGIProtocol), {})
        super().init_process()  # type: ignore[misc]  # super() is gunicorn's class

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()  # type: ignore[misc]  # super() is gunicorn's class
        if context is None and self.cfg.is_ssl:
            # gunicorn has logged the reason. Without this exit, gunicorn would serve clear text on this port.
            raise SystemExit(import_module("gunicorn.arbiter").Arbiter.WORKER_BOOT_ERROR)
        return context


def __getattr__(name: str) -> type:
    """Create `Worker` when it is first accessed, because gunicorn is optional.

    Raises `ConfigurationError` if gunicorn is missing or has changed.
    """
    if name != "Worker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = server_interface(
        f"{__name__}.Worker",
        "gunicorn.workers.gasgi",
        "ASGIWorker",
        _probe,
        needs=("gunicorn",),
        release="27.0",
        pip="'gunicorn>=27.0'",
    )
    worker = type(name, (_WorkerMixin, base), {"__doc__": _WorkerMixin.__doc__, "__module__": __name__})
    globals()[name] = worker
    return worker


def _probe(base: Any) -> None:
    protocol = import_module("gunicorn.workers.gasgi").ASGIProtocol
    require_methods(base, ("init_process", "_serve", "_get_ssl_context"))
    names = ("connection_made", "_on_headers_complete", "_is_websocket_upgrade", "_build_http_scope")
    require_methods(protocol, names, asyncio.Protocol)
    if "_is_websocket_upgrade" not in names_used(protocol._handle_connection.__code__):
        raise TypeError("ASGIProtocol does not call _is_websocket_upgrade")
    if "_current_request" not in names_used(protocol._on_headers_complete.__code__):
        raise TypeError("ASGIProtocol has no _current_request")
    if "must_close" not in names_used(import_module("gunicorn.asgi.parser").CallbackRequest.should_close.__code__):
        raise TypeError("CallbackRequest has no must_close")
    if "ASGIProtocol" not in names_used(base._serve.__code__):
        raise TypeError("ASGIWorker does not create an ASGIProtocol")
    if {"app", "asgi", "cfg"} - names_used(protocol.__init__.__code__):
        raise TypeError("ASGIProtocol does not take its app from worker.asgi")


def _extension(ssl_object: Any, cfg: Any, context: Any) -> Extension:
    # `ssl` does not report the certificate that the server sent. The server sent the certificate in `certfile`, unless
    # a hook created or replaced the context.
    own = cfg.ssl_context is cfg.settings["ssl_context"].default and ssl_object.context is context
    return extension_from_ssl(ssl_object, first_certificate(cfg.certfile) if own else None)
