"""gunicorn's asgi worker, made to say what TLS negotiated: `extensions["tls"]`, the ASGI TLS extension 0.2.

Must never know: header fields. What it tells is the `ssl` module's word alone, which `sources.ServerTLS` then reads.

    gunicorn app:app --worker-class mtls_middleware.servers.gunicorn_asgi.Worker \\
        --certfile server.pem --keyfile server.key --ca-certs clients.pem --cert-reqs 1

`--cert-reqs`: 1 lets clients without certificate in, 2 does not. gunicorn's other workers need nothing: `ServerTLS`
reads `gunicorn.socket`.

Rests on what gunicorn does not promise, as it is in 27.0, and was since 25.3: its asgi worker makes an `ASGIProtocol`
of its module's globals for each connection, which takes its application from `worker.asgi`, keeps it as `app` and
calls that for each request; and makes its TLS context in `_get_ssl_context`. Where that has moved, gunicorn does not
start, with a `ConfigurationError` that says so.
"""

import asyncio
from functools import partial
from importlib import import_module
from typing import Any

from mtls_middleware.servers.extension import Extension, first_certificate, negotiated, telling
from mtls_middleware.servers.interface import names_used, require_methods, taken


class _Tells(asyncio.Protocol):
    """Stands before gunicorn's protocol, of which there is one for each connection."""

    app: Any
    cfg: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:  # without TLS the extension is forbidden (J1)
            read = partial(_extension, ssl_object, self.cfg, transport.get_extra_info("sslcontext"))
            self.app = telling(self.app, read)
        super().connection_made(transport)


class _HandsOver:
    """gunicorn's asgi worker, whose applications find the client certificate in `extensions["tls"]`."""

    cfg: Any

    def init_process(self) -> None:
        # In this worker's process alone, which serves with this class alone.
        module: Any = import_module("gunicorn.workers.gasgi")
        module.ASGIProtocol = type("ASGIProtocol", (_Tells, module.ASGIProtocol), {})
        super().init_process()  # type: ignore[misc]  # gunicorn's class is the next in line, here and below

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()  # type: ignore[misc]
        if context is None and self.cfg.is_ssl:
            # gunicorn has logged why, and would go on without TLS on the port that was to have it.
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
    require_methods(protocol, ("connection_made",), asyncio.Protocol)
    if "ASGIProtocol" not in names_used(base._serve.__code__):
        raise TypeError("it makes no ASGIProtocol")
    if {"app", "asgi", "cfg"} - names_used(protocol.__init__.__code__):
        raise TypeError("the app of its ASGIProtocol is not worker.asgi")


def _extension(ssl_object: Any, cfg: Any, context: Any) -> Extension:
    # `ssl` does not tell which certificate was sent: it is known where no hook made or chose another context.
    own = cfg.ssl_context is cfg.settings["ssl_context"].default and ssl_object.context is context
    return negotiated(ssl_object, first_certificate(cfg.certfile) if own else None)
