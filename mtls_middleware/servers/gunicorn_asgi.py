"""gunicorn's asgi worker, with the ASGI TLS extension 0.2, and with no upgrade but that to a websocket.

    gunicorn app:app --worker-class mtls_middleware.servers.gunicorn_asgi.Worker \\
        --certfile server.pem --keyfile server.key --ca-certs clients.pem --cert-reqs 1

`--cert-reqs`: 1 accepts clients without a certificate, 2 does not. gunicorn's other workers need no class of this
package: `ServerTLS` reads `gunicorn.socket`.

HTTP/2 is for TLS connections that negotiate it (ALPN): the worker does not start with `--http2-cleartext`.

The class depends on these internals of gunicorn 25.3 to 27.0. If one of them has moved, gunicorn does not start, and
logs a `ConfigurationError`.

- The worker makes an `ASGIProtocol` of its module's globals for each connection. That takes its application from
  `worker.asgi`, keeps it as `app`, and calls that for each request.
- When the head of a request is complete, the protocol calls its `_on_headers_complete`, which sets `_current_request`.
  It asks `_is_websocket_upgrade(request)` before it calls the application with the scope of `_build_http_scope`. After
  a request with `must_close`, it closes the connection.
- The worker makes its TLS context in `_get_ssl_context`.
"""

import asyncio
from functools import partial
from importlib import import_module
from typing import Any

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.servers.extension import Extension, first_certificate, negotiated, telling
from mtls_middleware.servers.interface import names_used, require_methods, taken
from mtls_middleware.servers.upgrades import Asks, asked, last_response, without_upgrade


class _Tells(asyncio.Protocol):
    """Precedes gunicorn's protocol, which is made for each connection.

    A request that asks for another protocol is the last of its connection.
    """

    app: Any
    cfg: Any
    _current_request: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:  # the extension is for TLS connections only
            read = partial(_extension, ssl_object, self.cfg, transport.get_extra_info("sslcontext"))
            self.app = telling(self.app, read)
        super().connection_made(transport)

    def _on_headers_complete(self) -> Any:
        answer = super()._on_headers_complete()  # type: ignore[misc]  # gunicorn's class is the next in line, here and below
        asks = _asked(self._current_request)
        if asks.ends:
            self._current_request.must_close = True
            self.app = last_response(self.app, asks.status)
        return answer

    def _is_websocket_upgrade(self, request: Any) -> bool:
        return _asked(request) is Asks.WEBSOCKET

    def _build_http_scope(self, request: Any, *rest: Any) -> Any:
        scope = super()._build_http_scope(request, *rest)  # type: ignore[misc]  # gunicorn's class is the next
        if request.must_close:
            scope["headers"] = without_upgrade(scope["headers"])
        return scope


def _asked(request: Any) -> Asks:
    version = ".".join(str(number) for number in request.version)
    headers = [(name.encode("latin-1").lower(), value.encode("latin-1")) for name, value in request.headers]
    return asked(request.method, version, headers)


class _HandsOver:
    """gunicorn's asgi worker. Its applications find the client certificate in `extensions["tls"]`."""

    cfg: Any

    def init_process(self) -> None:
        cleartext = getattr(self.cfg, "http2_cleartext", "off")
        if cleartext != "off":
            raise ConfigurationError(
                f"http2_cleartext={cleartext!r}: expected 'off', the default. This worker speaks HTTP/2 over TLS "
                "only, because a client could speak it in clear text through a proxy's connection"
            )
        # Only this worker's process is changed, and it serves with this class only.
        module: Any = import_module("gunicorn.workers.gasgi")
        module.ASGIProtocol = type("ASGIProtocol", (_Tells, module.ASGIProtocol), {})
        super().init_process()  # type: ignore[misc]  # gunicorn's class is the next in line, here and below

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()  # type: ignore[misc]  # gunicorn's class is the next
        if context is None and self.cfg.is_ssl:
            # gunicorn has logged why. It would go on and serve clear text on this port.
            raise SystemExit(import_module("gunicorn.arbiter").Arbiter.WORKER_BOOT_ERROR)
        return context


def __getattr__(name: str) -> type:
    """`Worker`, made when it is first named: gunicorn is optional. Raises `ConfigurationError`."""
    if name != "Worker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = taken(
        f"{__name__}.Worker",
        "gunicorn.workers.gasgi",
        "ASGIWorker",
        _probe,
        needs=("gunicorn",),
        release="27.0",
        pip="'gunicorn>=27.0'",
    )
    made = type(name, (_HandsOver, base), {"__doc__": _HandsOver.__doc__, "__module__": __name__})
    globals()[name] = made
    return made


def _probe(base: Any) -> None:
    protocol = import_module("gunicorn.workers.gasgi").ASGIProtocol
    require_methods(base, ("init_process", "_serve", "_get_ssl_context"))
    names = ("connection_made", "_on_headers_complete", "_is_websocket_upgrade", "_build_http_scope")
    require_methods(protocol, names, asyncio.Protocol)
    if "_is_websocket_upgrade" not in names_used(protocol._handle_connection.__code__):
        raise TypeError("its ASGIProtocol does not ask _is_websocket_upgrade")
    if "_current_request" not in names_used(protocol._on_headers_complete.__code__):
        raise TypeError("its ASGIProtocol has no _current_request")
    if "must_close" not in names_used(import_module("gunicorn.asgi.parser").CallbackRequest.should_close.__code__):
        raise TypeError("its requests have no must_close")
    if "ASGIProtocol" not in names_used(base._serve.__code__):
        raise TypeError("it makes no ASGIProtocol")
    if {"app", "asgi", "cfg"} - names_used(protocol.__init__.__code__):
        raise TypeError("the app of its ASGIProtocol is not worker.asgi")


def _extension(ssl_object: Any, cfg: Any, context: Any) -> Extension:
    # `ssl` does not say which certificate was sent. It is known if no hook made or chose another context.
    own = cfg.ssl_context is cfg.settings["ssl_context"].default and ssl_object.context is context
    return negotiated(ssl_object, first_certificate(cfg.certfile) if own else None)
