"""hypercorn, with the ASGI TLS extension 0.2, and with no upgrade but that to a websocket.

    python -m mtls_middleware.servers.hypercorn_tls app:app --bind 0.0.0.0:8443 \\
        --certfile server.pem --keyfile server.key --ca-certs clients.pem --verify-mode CERT_OPTIONAL

This is `hypercorn` with all its options. In code: call `hand_over()`, then `hypercorn.asyncio.serve(app, config)`; or
call `hand_over()` in the application's module, and run plain `hypercorn`. `CERT_OPTIONAL` accepts clients without a
certificate, `CERT_REQUIRED` does not. The extension is there with the workers `asyncio` and `uvloop`, and not with
`trio` or over HTTP/3 (`--quic-bind`).

HTTP/2 is for TLS connections that negotiate it (ALPN): there is no h2c, neither by upgrade nor with prior knowledge.

The module depends on these internals of hypercorn 0.17 and 0.18. If one of them has moved, `hand_over()` raises
`ConfigurationError`, before hypercorn listens.

- `hypercorn.asyncio.run` makes a `TCPServer` of its module's globals for each connection. Its `app` is called for each
  request, with the scope first.
- `hypercorn.protocol` makes an `H11Protocol` of its module's globals for each connection of HTTP/1. For each request,
  that calls `_check_protocol(event)`, then `_create_stream(request)`. Its response closes the connection from
  `config.keep_alive_max_requests` requests on, which it counts in `keep_alive_requests`. It has `_send_error_response`,
  `send`, and h11's `connection`.
"""

import sys
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

from mtls_middleware.servers.extension import Extension, first_certificate, negotiated, telling
from mtls_middleware.servers.interface import names_used, require_methods, taken
from mtls_middleware.servers.upgrades import Asks, asked, without_upgrade

_ARGUMENTS = ["self", "app", "loop", "config", "context", "state", "reader", "writer"]


class _HandsOver:
    """Precedes hypercorn's `TCPServer`, which is made for each connection."""

    hands_over_tls = True

    def __init__(  # noqa: PLR0917 (hypercorn's own)
        self, app: Any, loop: Any, config: Any, context: Any, state: Any, reader: Any, writer: Any
    ) -> None:
        ssl_object = writer.get_extra_info("ssl_object")
        if ssl_object is not None:  # the extension is for TLS connections only
            app = telling(app, partial(_extension, ssl_object, config, writer.get_extra_info("sslcontext")))
        super().__init__(app, loop, config, context, state, reader, writer)  # type: ignore[call-arg]  # hypercorn's class is the next


class _OnlyWebsockets:
    """Precedes hypercorn's `H11Protocol`: a request that asks for another protocol is the last of its connection."""

    only_websockets = True
    config: Any
    connection: Any
    keep_alive_requests: int
    send: Any

    async def _check_protocol(self, event: Any) -> None:
        """hypercorn's own method begins HTTP/2 here."""

    async def _create_stream(self, request: Any) -> None:
        headers = list(request.headers)
        asks = asked(request.method.decode("ascii"), request.http_version.decode("ascii"), headers)
        if asks.status:
            from hypercorn.events import Closed

            await self._send_error_response(asks.status)  # type: ignore[attr-defined]  # hypercorn's class is the next in line
            await self.send(Closed())
            return
        if asks is Asks.WEBSOCKET and self.connection.trailing_data[0]:
            # A client sends nothing before the response (RFC 6455 section 4.1). Else hypercorn responds 400 and leaves
            # the connection open.
            asks = Asks.UPGRADE
        if asks is Asks.UPGRADE:
            import h11

            raw = without_upgrade(request.headers.raw_items())
            request = h11.Request(
                method=request.method, target=request.target, headers=raw, http_version=request.http_version
            )
            self.keep_alive_requests = self.config.keep_alive_max_requests
        await super()._create_stream(request)  # type: ignore[misc]  # hypercorn's class is the next


def hand_over() -> None:
    """Change hypercorn in this process, for the connections that it accepts from now on. A second call does nothing.

    Raises `ConfigurationError` if hypercorn is not installed, or is not as in 0.18.
    """
    http1 = taken(
        f"{_NAME}.hand_over()",
        "hypercorn.protocol",
        "H11Protocol",
        _probe_http1,
        needs=("hypercorn",),
        release="0.18",
        pip="'hypercorn>=0.18'",
    )
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
    if not getattr(http1, "only_websockets", False):
        protocol: Any = import_module("hypercorn.protocol")
        protocol.H11Protocol = type("H11Protocol", (_OnlyWebsockets, http1), {"__doc__": _OnlyWebsockets.__doc__})


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


def _probe_http1(base: Any) -> None:
    wrapper: Any = import_module("hypercorn.protocol").ProtocolWrapper
    if "H11Protocol" not in names_used(wrapper.__init__.__code__):
        raise TypeError("its ProtocolWrapper makes no H11Protocol")
    if getattr(base, "only_websockets", False):
        return
    require_methods(base, ("_check_protocol", "_create_stream", "_send_error_response"))
    if {"_check_protocol", "_create_stream"} - names_used(base._handle_events.__code__):
        raise TypeError("it does not call _check_protocol and _create_stream")
    if {"keep_alive_requests", "keep_alive_max_requests"} - names_used(base.stream_send.__code__):
        raise TypeError("its stream_send does not count requests")
    if {"config", "connection", "send"} - names_used(base.__init__.__code__):
        raise TypeError("it does not keep config, connection and send")


def _extension(ssl_object: Any, config: Any, context: Any) -> Extension:
    from hypercorn.config import Config

    # `ssl` does not say which certificate was sent. It is known if hypercorn loaded it and no name chose another.
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
