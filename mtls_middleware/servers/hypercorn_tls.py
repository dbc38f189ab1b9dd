"""hypercorn, made to say what TLS negotiated: `extensions["tls"]` over HTTP/1.1, HTTP/2 and in websockets.

Must never know: header fields. What it tells is the `ssl` module's word alone, which `sources.ServerTLS` then reads.

    python -m mtls_middleware.servers.hypercorn_tls app:app --bind 0.0.0.0:8443 \\
        --certfile server.pem --keyfile server.key --ca-certs clients.pem --verify-mode CERT_OPTIONAL

is `hypercorn` with all its options. In code: `hand_over()`, then `hypercorn.asyncio.serve(app, config)` as ever; or
`hand_over()` in the application's module, and plain `hypercorn`. `CERT_OPTIONAL` lets clients without certificate in,
`CERT_REQUIRED` does not. Workers `asyncio` and `uvloop`; `trio` and HTTP/3 (`--quic-bind`) say nothing of TLS.

Rests on what hypercorn does not promise, as it is in 0.18, and was since 0.17: `hypercorn.asyncio.run` makes a
`TCPServer` of its module's globals for each connection, whose `app` is called for each request with the scope first.
Where that has moved, `hand_over()` raises `ConfigurationError`, before hypercorn listens.
"""

import sys
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

from mtls_middleware.servers.extension import Extension, first_certificate, negotiated, telling
from mtls_middleware.servers.interface import names_used, taken

_ARGUMENTS = ["self", "app", "loop", "config", "context", "state", "reader", "writer"]


class _HandsOver:
    """Stands before hypercorn's `TCPServer`, of which there is one for each connection."""

    hands_over_tls = True

    def __init__(  # noqa: PLR0917 (hypercorn's own)
        self, app: Any, loop: Any, config: Any, context: Any, state: Any, reader: Any, writer: Any
    ) -> None:
        ssl_object = writer.get_extra_info("ssl_object")
        if ssl_object is not None:  # without TLS the extension is forbidden (J1)
            app = telling(app, partial(_extension, ssl_object, config, writer.get_extra_info("sslcontext")))
        super().__init__(app, loop, config, context, state, reader, writer)  # type: ignore[call-arg]


def hand_over() -> None:
    """From now on each TLS connection that hypercorn accepts in this process has the extension; twice is once.

    Raises `ConfigurationError` where hypercorn is not installed, or is not as in 0.18.
    """
    base = taken(
        f"{_NAME}.hand_over()",
        "hypercorn.asyncio.run",
        "TCPServer",
        _probe,
        needs=("hypercorn",),
        release="0.18",
        pip="'hypercorn>=0.18'",
    )
    if not getattr(base, "hands_over_tls", False):
        run: Any = import_module("hypercorn.asyncio.run")
        run.TCPServer = type("TCPServer", (_HandsOver, base), {"__doc__": _HandsOver.__doc__})


def _probe(base: Any) -> None:
    run: Any = import_module("hypercorn.asyncio.run")
    if "TCPServer" not in names_used(run.worker_serve.__code__):
        raise TypeError("its worker_serve makes no TCPServer")
    if getattr(base, "hands_over_tls", False):
        return
    if list(signature(base.__init__).parameters) != _ARGUMENTS:
        raise TypeError(f"TCPServer takes other arguments than {', '.join(_ARGUMENTS[1:])}")
    if {"app", "protocol"} - names_used(base.run.__code__):
        raise TypeError("TCPServer.run does not hand its app to a protocol")


def _extension(ssl_object: Any, config: Any, context: Any) -> Extension:
    from hypercorn.config import Config

    # `ssl` does not tell which certificate was sent: it is known where hypercorn loaded one, and no name chose another.
    own = type(config).create_ssl_context is Config.create_ssl_context and ssl_object.context is context
    return negotiated(ssl_object, first_certificate(config.certfile) if own else None)


def main() -> int:
    """`hypercorn`'s command line."""
    hand_over()
    run: Any = import_module("hypercorn.__main__")
    return int(run.main() or 0)


_NAME = "mtls_middleware.servers.hypercorn_tls"

# hypercorn starts its workers by `spawn`: each imports the main module again, under this other name.
if __name__ == "__mp_main__":
    hand_over()
if __name__ == "__main__":
    sys.exit(main())
