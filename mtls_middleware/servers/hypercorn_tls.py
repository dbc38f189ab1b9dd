"""Extends hypercorn with the ASGI TLS extension 0.2, and prevents upgrades except to websocket.

    python -m mtls_middleware.servers.hypercorn_tls app:app --bind 0.0.0.0:8443 \\
        --certfile server.pem --keyfile server.key --ca-certs clients.pem --verify-mode CERT_OPTIONAL

This command accepts all options of `hypercorn`. In code, call `hand_over()`, then `hypercorn.asyncio.serve(app,
config)`. Or call `hand_over()` in the application's module, and run plain `hypercorn`. With `CERT_OPTIONAL`, clients
without a certificate are accepted. With `CERT_REQUIRED`, they are rejected. The workers `asyncio` and `uvloop` provide
the extension. The worker `trio` and HTTP/3 (`--quic-bind`) do not provide it.

HTTP/2 requires a TLS connection that negotiates HTTP/2 (ALPN). HTTP/2 in clear text (h2c) is not possible, neither by
an upgrade nor with prior knowledge.

The module depends on these internals of hypercorn 0.17 and 0.18. If one of them has changed, `hand_over()` raises
`ConfigurationError`, before hypercorn listens.

- For each connection, `hypercorn.asyncio.run` creates a `TCPServer`, which it looks up in its module's globals.
  hypercorn calls the `app` of the `TCPServer` for each request. The scope is the first argument.
- For each HTTP/1 connection, `hypercorn.protocol` creates an `H11Protocol`, which it looks up in its module's globals.
  For each request, the protocol calls `_check_protocol(event)`, then `_create_stream(request)`. The protocol counts
  requests in `keep_alive_requests`, and closes the connection once the count reaches `config.keep_alive_max_requests`.
  The protocol has `_send_error_response`, `send`, and h11's `connection`.
"""

import sys
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

from mtls_middleware.servers.extension import Extension, extension_from_ssl, first_certificate, with_tls_extension
from mtls_middleware.servers.interface import names_used, require_methods, server_interface
from mtls_middleware.servers.upgrades import ProtocolChange, protocol_change, without_upgrade

_ARGUMENTS = ["self", "app", "loop", "config", "context", "state", "reader", "writer"]


class _TCPServerMixin:
    """Adds the ASGI TLS extension to hypercorn's `TCPServer`. hypercorn creates a `TCPServer` for each connection."""

    adds_tls_extension = True

    def __init__(  # noqa: PLR0917 (hypercorn's signature)
        self, app: Any, loop: Any, config: Any, context: Any, state: Any, reader: Any, writer: Any
    ) -> None:
        ssl_object = writer.get_extra_info("ssl_object")
        if ssl_object is not None:  # only TLS connections get the extension
            read = partial(_extension, ssl_object, config, writer.get_extra_info("sslcontext"))
            app = with_tls_extension(app, read)
        super().__init__(app, loop, config, context, state, reader, writer)  # type: ignore[call-arg]  # super() is hypercorn's class


class _H11ProtocolMixin:
    """Extends hypercorn's `H11Protocol`: the connection closes after a request that asks for another protocol."""

    restricts_upgrades = True
    config: Any
    connection: Any
    keep_alive_requests: int
    send: Any

    async def _check_protocol(self, event: Any) -> None:
        """Do nothing. hypercorn's own method would switch to HTTP/2 in clear text."""

    async def _create_stream(self, request: Any) -> None:
        headers = list(request.headers)
        change = protocol_change(request.method.decode("ascii"), request.http_version.decode("ascii"), headers)
        if change.status:
            from hypercorn.events import Closed

            await self._send_error_response(change.status)  # type: ignore[attr-defined]  # super() is hypercorn's class
            await self.send(Closed())
            return
        if change is ProtocolChange.WEBSOCKET and self.connection.trailing_data[0]:
            # A client must wait for the response before it sends data (RFC 6455 section 4.1). Without this check,
            # hypercorn responds with 400 and leaves the connection open.
            change = ProtocolChange.UPGRADE
        if change is ProtocolChange.UPGRADE:
            import h11

            raw = without_upgrade(request.headers.raw_items())
            request = h11.Request(
                method=request.method, target=request.target, headers=raw, http_version=request.http_version
            )
            self.keep_alive_requests = self.config.keep_alive_max_requests
        await super()._create_stream(request)  # type: ignore[misc]  # super() is hypercorn's class


def hand_over() -> None:
    """Replace two classes of hypercorn in this process. Connections that are accepted later use the new classes.

    A second call does nothing. Raises `ConfigurationError` if hypercorn is not installed, or if its internals differ
    from those of 0.18.

    Example: `hand_over()`, then `asyncio.run(hypercorn.asyncio.serve(app, config))`
    """
    http1 = server_interface(
        f"{_NAME}.hand_over()",
        "hypercorn.protocol",
        "H11Protocol",
        _probe_http1,
        needs=("hypercorn",),
        release="0.18",
        pip="'hypercorn>=0.18'",
    )
    base = server_interface(
        f"{_NAME}.hand_over()",
        "hypercorn.asyncio.run",
        "TCPServer",
        _probe,
        needs=("hypercorn",),
        release="0.18",
        pip="'hypercorn>=0.18'",
    )
    if not getattr(base, "adds_tls_extension", False):
        run: Any = import_module("hypercorn.asyncio.run")
        run.TCPServer = type("TCPServer", (_TCPServerMixin, base), {"__doc__": _TCPServerMixin.__doc__})
    if not getattr(http1, "restricts_upgrades", False):
        protocol: Any = import_module("hypercorn.protocol")
        protocol.H11Protocol = type("H11Protocol", (_H11ProtocolMixin, http1), {"__doc__": _H11ProtocolMixin.__doc__})


def _probe(base: Any) -> None:
    run: Any = import_module("hypercorn.asyncio.run")
    if "TCPServer" not in names_used(run.worker_serve.__code__):
        raise TypeError("worker_serve creates no TCPServer")
    if getattr(base, "adds_tls_extension", False):
        return
    if list(signature(base.__init__).parameters) != _ARGUMENTS:
        raise TypeError(f"the arguments of TCPServer are not named {', '.join(_ARGUMENTS[1:])}")
    if {"app", "protocol"} - names_used(base.run.__code__):
        raise TypeError("TCPServer.run does not pass its app to a protocol")


def _probe_http1(base: Any) -> None:
    wrapper: Any = import_module("hypercorn.protocol").ProtocolWrapper
    if "H11Protocol" not in names_used(wrapper.__init__.__code__):
        raise TypeError("ProtocolWrapper creates no H11Protocol")
    if getattr(base, "restricts_upgrades", False):
        return
    require_methods(base, ("_check_protocol", "_create_stream", "_send_error_response"))
    if {"_check_protocol", "_create_stream"} - names_used(base._handle_events.__code__):
        raise TypeError("H11Protocol does not call _check_protocol and _create_stream")
    if {"keep_alive_requests", "keep_alive_max_requests"} - names_used(base.stream_send.__code__):
        raise TypeError("H11Protocol.stream_send does not count requests")
    if {"config", "connection", "send"} - names_used(base.__init__.__code__):
        raise TypeError("H11Protocol does not keep config, connection and send")


def _extension(ssl_object: Any, config: Any, context: Any) -> Extension:
    from hypercorn.config import Config

    # `ssl` does not report the certificate that the server sent. The server sent the certificate in `certfile` if
    # hypercorn created the context itself and no SNI callback replaced the context.
    own = type(config).create_ssl_context is Config.create_ssl_context and ssl_object.context is context
    return extension_from_ssl(ssl_object, first_certificate(config.certfile) if own else None)


def main() -> int:
    """Call `hand_over()`, run hypercorn's command line, and return the exit status."""
    hand_over()
    run: Any = import_module("hypercorn.__main__")
    return int(run.main() or 0)


_NAME = "mtls_middleware.servers.hypercorn_tls"

# hypercorn starts its workers with `spawn`. Each worker imports the main module again, under the name `__mp_main__`.
if __name__ == "__mp_main__":
    hand_over()
if __name__ == "__main__":
    sys.exit(main())
