"""uvicorn's protocol classes, with the ASGI TLS extension 0.2, and with no upgrade but that to a websocket.

    uvicorn app:app --ssl-certfile server.pem --ssl-keyfile server.key --ssl-ca-certs clients.pem --ssl-cert-reqs 1 \\
        --http mtls_middleware.servers.uvicorn_tls:H11 --ws mtls_middleware.servers.uvicorn_tls:WebSockets

`--http` takes `H11`, `HTTPTools`, `Zttp` or `HTTP2` (which is uvicorn's `--http zttp --http2`) and serves requests,
`--ws` takes `WebSockets` or `WSProto` and serves websockets. `--ssl-cert-reqs`: 1 accepts clients without a
certificate, 2 does not; 0, uvicorn's default, asks for none. Without the `--ssl` options, the classes serve clear text
behind a proxy.

The classes depend on these internals of uvicorn 0.53 and 0.54. If one of them has moved, naming a class raises
`ConfigurationError`, before uvicorn listens.

- A protocol takes its application from `config.loaded_app` when it is made, keeps it as `app`, and takes that for each
  request. `connection_made` brings the transport, which it keeps as `transport`, also when an HTTP protocol hands its
  connection to a websocket's.
- `config` has `ssl`, `ssl_certfile` and `ssl_context_factory`.
- An HTTP/1 protocol asks its `_should_upgrade` whether the request of `scope` and `headers` becomes a websocket, before
  it takes the application. It has `ws_protocol_class`, and the request being served as `cycle`, with `more_body`.
- The protocol of httptools has the callbacks `on_message_begin`, `on_header`, `on_headers_complete`, `on_body` and
  `on_message_complete`, a `parser`, `handle_websocket_upgrade`, `send_400_response` and
  `_unset_keepalive_if_required`; its `cycle` has `response_complete`.
- The protocol that chooses between HTTP/1.1 and HTTP/2 does so in `_switch(http2, initial_data)`.
"""

import asyncio
from functools import partial
from inspect import signature
from typing import Any

from mtls_middleware.asgi import ASGIApp
from mtls_middleware.servers.extension import first_certificate, negotiated, telling
from mtls_middleware.servers.interface import names_used, require_attributes, require_methods, taken
from mtls_middleware.servers.upgrades import Asks, asked, framing, has_body, last_response, without_upgrade


class _HandsOver(asyncio.Protocol):
    """Precedes one of uvicorn's classes. What TLS negotiated is read once for each connection."""

    rests_on: tuple[str, ...] = ("connection_made", "data_received")
    rests_on_attributes: tuple[str, ...] = ("transport",)
    config: Any
    app: ASGIApp
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:  # the extension is for TLS connections only
            self.app = telling(self.app, partial(_extension, ssl_object, self.config))

    def data_received(self, data: bytes) -> None:
        # After close(), the TLS transports of asyncio and uvloop still deliver what they have decrypted.
        if not self.transport.is_closing():
            super().data_received(data)  # uvicorn's class is the next in line, here and below


class _OnlyWebsockets(_HandsOver):
    """Precedes a class for HTTP/1: a request that asks for another protocol is the last of its connection."""

    rests_on: tuple[str, ...] = ("connection_made", "data_received", "_should_upgrade")
    rests_on_attributes: tuple[str, ...] = ("transport", "scope", "headers", "ws_protocol_class", "cycle")
    scope: Any
    headers: list[tuple[bytes, bytes]]
    ws_protocol_class: Any
    cycle: Any
    _last = False  # the cycle at hand is that of the last request

    def data_received(self, data: bytes) -> None:
        if not self._last or self.cycle.more_body:
            super().data_received(data)

    def _should_upgrade(self) -> bool:
        asks = self._asked(self.scope["method"], self.scope["http_version"])
        self._prepare(asks)
        return asks is Asks.WEBSOCKET

    def _asked(self, method: str, http_version: str) -> Asks:
        return asked(method, http_version, self.headers, websockets=self.ws_protocol_class is not None)

    def _prepare(self, asks: Asks) -> None:
        """Change the request at hand. The scope has the same list of headers."""
        if asks is Asks.WEBSOCKET:
            # `Content-Length: 0` at most, which websockets 13 does not accept.
            self.headers[:] = [field for field in self.headers if field not in framing(self.headers)]
        elif asks.ends:
            self._last = True
            self.headers[:] = without_upgrade(self.headers)
            self.app = last_response(self.app, asks.status)


class _Streams(_HandsOver):
    """Precedes the class for HTTP/2, to which a TLS connection comes that has negotiated it."""


class _Chooses(asyncio.Protocol):
    """Precedes the class that chooses the protocol of a connection. HTTP/2 must be negotiated, in TLS (ALPN).

    uvicorn's own class also speaks HTTP/2 in clear text with a client that begins with its preface. A client that has a
    tunnel through a proxy could do so.
    """

    rests_on = ("connection_made", "_switch")
    rests_on_attributes = ("transport", "config", "server_state", "app_state", "loop")
    transport: asyncio.Transport
    config: Any
    server_state: Any
    app_state: Any
    loop: Any

    def _switch(self, http2: bool, initial_data: bytes = b"") -> None:
        negotiated = http2 and self.transport.get_extra_info("ssl_object") is not None
        protocol = __getattr__("_HTTP2Streams" if negotiated else "Zttp")(
            config=self.config, server_state=self.server_state, app_state=self.app_state, _loop=self.loop
        )
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if initial_data:
            protocol.data_received(initial_data)


class _ReadsBodies(_OnlyWebsockets):
    """Precedes the class for httptools, in two matters.

    httptools does not read the body of a request that asks for an upgrade: it takes the body for the next request. This
    class reads it with a parser of its own, which knows the length of the body and nothing of an upgrade.

    httptools reports trailer fields as it reports header fields, and uvicorn appends them to the headers of the scope
    that the application already reads. Behind a proxy that deletes header fields but forwards trailer fields, a client
    could forge any field (RFC 9110 section 6.5.1). This class drops them.
    """

    rests_on = (
        *("connection_made", "data_received", "_should_upgrade", "handle_websocket_upgrade", "send_400_response"),
        *("_unset_keepalive_if_required", "on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body"),
        "on_message_complete",
    )
    rests_on_attributes = (*_OnlyWebsockets.rests_on_attributes, "parser", "logger")
    parser: Any
    logger: Any
    url: bytes
    _headers_complete = False
    _asks = Asks.NOTHING
    _body_parser: Any = None  # of the last request, if httptools takes it for an upgrade
    _complete = False  # the last request has been read

    def data_received(self, data: bytes) -> None:
        from httptools import HttpParserError

        if self._complete or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()  # type: ignore[attr-defined]  # uvicorn's class is the next
        try:
            rest = data if self._body_parser else self._feed(data)
            if self._body_parser and rest:
                self._body_parser.feed_data(rest)
        except HttpParserError:
            if not self._complete:  # else the error is about octets after the last request
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")  # type: ignore[attr-defined]  # uvicorn's class is the next

    def _feed(self, data: bytes) -> bytes:
        """Parse; returns what follows the head of a request that httptools takes for an upgrade."""
        from httptools import HttpParserUpgrade

        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()  # type: ignore[attr-defined]  # uvicorn's class is the next
                return b""
            return data[upgrade.args[0] :]
        return b""

    def on_message_begin(self) -> None:
        if self._asks.ends:
            raise RuntimeError("nothing follows a request that asks for an upgrade")
        self._headers_complete = False
        super().on_message_begin()  # type: ignore[misc]  # uvicorn's class is the next

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers_complete:
            super().on_header(name, value)  # type: ignore[misc]  # uvicorn's class is the next

    def on_headers_complete(self) -> None:
        self._headers_complete = True
        self._asks = self._asked(self.parser.get_method().decode("ascii"), self.parser.get_http_version())
        if self._asks is Asks.WEBSOCKET and self.cycle is not None and not self.cycle.response_complete:
            self._asks = Asks.UPGRADE  # the response to an earlier request would be written into the websocket
        if self._asks.ends:
            self._begin_last()
        self._prepare(self._asks)
        super().on_headers_complete()  # type: ignore[misc]  # uvicorn's class is the next
        if self._asks.ends and self.parser.should_upgrade() and self._body_parser is None:
            self._end_last()

    def _begin_last(self) -> None:
        if self._asks is Asks.TUNNEL:
            self.url = b"/"  # uvicorn cannot parse host:port
        elif self.parser.should_upgrade() and has_body(self.headers):
            import httptools

            lines = [name + b": " + value for name, value in framing(self.headers)]
            self._body_parser = httptools.HttpRequestParser(_LastBody(self))
            # It accepts no second request: `Connection: close`.
            self._body_parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", b"Connection: close", *lines, b"", b""]))

    def _end_last(self) -> None:
        self._complete = True
        super().on_message_complete()  # type: ignore[misc]  # uvicorn's class is the next

    def on_message_complete(self) -> None:
        # httptools says so at once of a request that it takes for an upgrade.
        if not self._asks.ends:
            super().on_message_complete()  # type: ignore[misc]  # uvicorn's class is the next
        elif not self.parser.should_upgrade():
            self._end_last()

    def _should_upgrade(self) -> bool:
        return self._asks is Asks.WEBSOCKET


class _LastBody:
    """The callbacks for the body of the last request."""

    def __init__(self, protocol: Any) -> None:
        self.on_body = protocol.on_body
        self.on_message_complete = protocol._end_last


# our name: (module below uvicorn.protocols, its class, the library that it needs, what we put before it)
_CLASSES: dict[str, tuple[str, str, str, type[Any]]] = {
    "H11": ("http.h11_impl", "H11Protocol", "h11", _OnlyWebsockets),
    "HTTPTools": ("http.httptools_impl", "HttpToolsProtocol", "httptools", _ReadsBodies),
    "Zttp": ("http.zttp_impl", "ZttpProtocol", "zttp", _OnlyWebsockets),
    "HTTP2": ("http.auto_zttp_impl", "AutoZttpProtocol", "zttp", _Chooses),
    "_HTTP2Streams": ("http.zttp_h2_impl", "ZttpH2Protocol", "zttp", _Streams),
    "WebSockets": ("websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol", "websockets", _HandsOver),
    "WSProto": ("websockets.wsproto_impl", "WSProtocol", "wsproto", _HandsOver),
}


def __getattr__(name: str) -> type[Any]:
    """The class, made when it is first named: all libraries but one are optional. Raises `ConfigurationError`."""
    if name in globals():
        return globals()[name]  # type: ignore[no-any-return]  # a class, made above
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, base, library, before = _CLASSES[name]
    uvicorns = taken(
        f"{__name__}:{name}",
        f"uvicorn.protocols.{module}",
        base,
        partial(_probe, before=before),
        needs=("uvicorn", library),
        release="0.54",
        pip=f"'mtls-middleware[uvicorn]' {library}",
    )
    made: type[asyncio.Protocol] = type(name, (before, uvicorns), {"__doc__": before.__doc__})
    if before is _Chooses:
        for each in ("Zttp", "_HTTP2Streams"):  # found and tried now, before uvicorn listens
            __getattr__(each)
    globals()[name] = made
    return made


def _probe(base: Any, before: type[Any]) -> None:
    """Make one protocol as uvicorn makes it, and raise unless it is what the module's docstring says."""
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    require_methods(base, before.rests_on, asyncio.Protocol)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        """Never called."""

    config = Config(application, http=base, ws="none", lifespan="off", interface="asgi3", log_config=None)
    config.load()
    # Nothing runs on the loop; one is given because no loop need be running now.
    protocol = base(config=config, server_state=ServerState(), app_state={}, _loop=object())
    require_attributes(protocol, before.rests_on_attributes)
    if before is _Chooses:
        if list(signature(base._switch).parameters) != ["self", "http2", "initial_data"]:
            raise TypeError("its _switch takes other arguments than http2 and initial_data")
        if "_switch" not in names_used(base.connection_made.__code__) & names_used(base.data_received.__code__):
            raise TypeError("it does not choose by its _switch")
    elif protocol.app is not config.loaded_app:
        raise TypeError("its app is not config.loaded_app")
    if issubclass(before, _OnlyWebsockets):
        _probe_upgrades(base)
    require_attributes(config, ("ssl", "ssl_certfile", "ssl_context_factory"))


def _probe_upgrades(base: Any) -> None:
    asks: Any = getattr(base, "on_headers_complete", None) or getattr(base, "handle_events", None)
    if asks is None or {"_should_upgrade", "app"} - names_used(asks.__code__):
        raise TypeError("it does not ask _should_upgrade before it takes its app")
    cycle = asks.__globals__["RequestResponseCycle"]
    if {"more_body", "response_complete"} - names_used(cycle.__init__.__code__):
        raise TypeError("its cycle has no more_body or response_complete")


def _extension(ssl_object: Any, config: Any) -> dict[str, object]:
    return negotiated(ssl_object, _server_certificate(ssl_object, config))


def _server_certificate(ssl_object: Any, config: Any) -> str | None:
    """The certificate that uvicorn itself loaded, else `None`: `ssl` does not know which one was sent."""
    if config.ssl_context_factory is not None or ssl_object.context is not config.ssl:
        return None
    return first_certificate(config.ssl_certfile)
