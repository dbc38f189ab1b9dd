"""Extends uvicorn's protocol classes with the ASGI TLS extension 0.2, and prevents upgrades except to websocket.

    uvicorn app:app --ssl-certfile server.pem --ssl-keyfile server.key --ssl-ca-certs clients.pem --ssl-cert-reqs 1 \\
        --http mtls_middleware.servers.uvicorn_tls:H11 --ws mtls_middleware.servers.uvicorn_tls:WebSockets

`--http` accepts `H11`, `HTTPTools`, `Zttp` or `HTTP2`. `HTTP2` is the equivalent of uvicorn's `--http zttp --http2`.
`--ws` accepts `WebSockets` or `WSProto`. With `--ssl-cert-reqs 1`, clients without a certificate are accepted. With
`--ssl-cert-reqs 2`, they are rejected. With uvicorn's default, 0, no certificate is requested. Without the `--ssl`
options, the classes serve clear text behind a proxy.

The classes depend on these internals of uvicorn 0.53 and 0.54. If one of them has changed, accessing a class raises
`ConfigurationError`, before uvicorn listens.

- When a protocol is created, it takes its application from `config.loaded_app` and keeps it as `app`. It uses `app` for
  each request. `connection_made` receives the transport, and the protocol keeps it as `transport`. This is also
  true of a websocket protocol that takes over the connection of an HTTP protocol.
- `config` has `ssl`, `ssl_certfile` and `ssl_context_factory`.
- Before an HTTP/1 protocol uses the application, it calls its `_should_upgrade` to find out whether the request in
  `scope` and `headers` becomes a websocket. The protocol has `ws_protocol_class`. `cycle` is the current request, with
  `more_body`.
- The protocol for httptools has the callbacks `on_message_begin`, `on_header`, `on_headers_complete`, `on_body` and
  `on_message_complete`, a `parser`, `handle_websocket_upgrade`, `send_400_response` and
  `_unset_keepalive_if_required`. Its `cycle` has `response_complete`.
- The protocol that chooses between HTTP/1.1 and HTTP/2 does this in `_switch(http2, initial_data)`.
"""

import asyncio
from functools import partial
from inspect import signature
from typing import Any

from mtls_middleware.asgi import ASGIApp
from mtls_middleware.servers.extension import extension_from_ssl, first_certificate, with_tls_extension
from mtls_middleware.servers.interface import names_used, require_attributes, require_methods, server_interface
from mtls_middleware.servers.upgrades import (
    ProtocolChange,
    framing_fields,
    has_body,
    protocol_change,
    with_connection_close,
    without_upgrade,
)


class _TLSExtensionMixin(asyncio.Protocol):
    """Extends a protocol class of uvicorn with the TLS extension, which is read once for each connection."""

    required_methods: tuple[str, ...] = ("connection_made", "data_received")
    required_attributes: tuple[str, ...] = ("transport",)
    config: Any
    app: ASGIApp
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:  # only TLS connections get the extension
            self.app = with_tls_extension(self.app, partial(_extension, ssl_object, self.config))

    def data_received(self, data: bytes) -> None:
        # After close(), the TLS transports of asyncio and uvloop still deliver data that they have decrypted.
        if not self.transport.is_closing():
            super().data_received(data)


class _HTTP1Mixin(_TLSExtensionMixin):
    """Extends a class for HTTP/1: a request that asks for another protocol is the last request of its connection."""

    required_methods: tuple[str, ...] = ("connection_made", "data_received", "_should_upgrade")
    required_attributes: tuple[str, ...] = ("transport", "scope", "headers", "ws_protocol_class", "cycle")
    scope: Any
    headers: list[tuple[bytes, bytes]]
    ws_protocol_class: Any
    cycle: Any
    _is_last_request = False  # whether `cycle` is the last request of the connection

    def data_received(self, data: bytes) -> None:
        if not self._is_last_request or self.cycle.more_body:
            super().data_received(data)

    def _should_upgrade(self) -> bool:
        change = self._protocol_change(self.scope["method"], self.scope["http_version"])
        self._apply(change)
        return change is ProtocolChange.WEBSOCKET

    def _protocol_change(self, method: str, http_version: str) -> ProtocolChange:
        return protocol_change(method, http_version, self.headers, websockets=self.ws_protocol_class is not None)

    def _apply(self, change: ProtocolChange) -> None:
        """Prepare the current request for `change`. Changes to `self.headers` also change the scope of the request."""
        if change is ProtocolChange.WEBSOCKET:
            # This removes at most `Content-Length: 0`, which websockets 13 does not accept.
            self.headers[:] = [field for field in self.headers if field not in framing_fields(self.headers)]
        elif change.ends_connection:
            self._is_last_request = True
            self.headers[:] = without_upgrade(self.headers)
            self.app = with_connection_close(self.app, change.status)


class _HTTP2Mixin(_TLSExtensionMixin):
    """Extends the class for HTTP/2, which serves TLS connections that have negotiated HTTP/2."""


class _ProtocolChoiceMixin(asyncio.Protocol):
    """Extends the class that chooses the protocol of a connection. HTTP/2 must be negotiated in TLS (ALPN).

    uvicorn's own class also accepts HTTP/2 in clear text from a client that begins with the HTTP/2 preface. A client
    with a tunnel through a proxy could send this preface.
    """

    required_methods = ("connection_made", "_switch")
    required_attributes = ("transport", "config", "server_state", "app_state", "loop")
    transport: asyncio.Transport
    config: Any
    server_state: Any
    app_state: Any
    loop: Any

    def _switch(self, http2: bool, initial_data: bytes = b"") -> None:
        negotiated = http2 and self.transport.get_extra_info("ssl_object") is not None
        protocol = __getattr__("_HTTP2Only" if negotiated else "Zttp")(
            config=self.config, server_state=self.server_state, app_state=self.app_state, _loop=self.loop
        )
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if initial_data:
            protocol.data_received(initial_data)


class _HTTPToolsMixin(_HTTP1Mixin):
    """Extends the class for httptools, and changes how it reads bodies and trailer fields.

    httptools does not read the body of a request that asks for an upgrade: it parses the body as the next request. This
    class reads the body with a second parser, which receives the length of the body but not the `Upgrade` field.

    httptools reports trailer fields in the same way as header fields, and uvicorn appends them to the headers of a
    scope that the application already reads. Behind a proxy that deletes header fields but forwards trailer fields, a
    client could forge any field (RFC 9110 section 6.5.1). This class ignores trailer fields.
    """

    required_methods = (
        *("connection_made", "data_received", "_should_upgrade", "handle_websocket_upgrade", "send_400_response"),
        *("_unset_keepalive_if_required", "on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body"),
        "on_message_complete",
    )
    required_attributes = (*_HTTP1Mixin.required_attributes, "parser", "logger")
    parser: Any
    logger: Any
    url: bytes
    _headers_complete = False
    _change = ProtocolChange.NONE
    # The parser for the body of the last request, if httptools treats this request as an upgrade.
    _body_parser: Any = None
    _is_complete = False  # whether the last request of the connection has been read completely

    def data_received(self, data: bytes) -> None:
        from httptools import HttpParserError

        if self._is_complete or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()  # type: ignore[attr-defined]  # a method of uvicorn's class
        try:
            rest = data if self._body_parser else self._feed(data)
            if self._body_parser and rest:
                self._body_parser.feed_data(rest)
        except HttpParserError:
            if not self._is_complete:  # any later error is about octets after the last request
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")  # type: ignore[attr-defined]  # a method of uvicorn's class

    def _feed(self, data: bytes) -> bytes:
        """Parse `data`. If httptools treats the request as an upgrade, return the octets after the header section."""
        from httptools import HttpParserUpgrade

        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()  # type: ignore[attr-defined]  # a method of uvicorn's class
                return b""
            return data[upgrade.args[0] :]
        return b""

    def on_message_begin(self) -> None:
        if self._change.ends_connection:
            raise RuntimeError("a request follows a request that ends the connection")
        self._headers_complete = False
        super().on_message_begin()  # type: ignore[misc]  # super() is uvicorn's class

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers_complete:
            super().on_header(name, value)  # type: ignore[misc]  # super() is uvicorn's class

    def on_headers_complete(self) -> None:
        self._headers_complete = True
        self._change = self._protocol_change(self.parser.get_method().decode("ascii"), self.parser.get_http_version())
        if self._change is ProtocolChange.WEBSOCKET and self.cycle is not None and not self.cycle.response_complete:
            # Otherwise uvicorn would write the response to an earlier request into the websocket.
            self._change = ProtocolChange.UPGRADE
        if self._change.ends_connection:
            self._begin_last()
        self._apply(self._change)
        super().on_headers_complete()  # type: ignore[misc]  # super() is uvicorn's class
        if self._change.ends_connection and self.parser.should_upgrade() and self._body_parser is None:
            self._end_last()

    def _begin_last(self) -> None:
        if self._change is ProtocolChange.TUNNEL:
            self.url = b"/"  # a placeholder, because uvicorn cannot parse host:port, the target of CONNECT
        elif self.parser.should_upgrade() and has_body(self.headers):
            import httptools

            lines = [name + b": " + value for name, value in framing_fields(self.headers)]
            self._body_parser = httptools.HttpRequestParser(_BodyCallbacks(self))
            # `Connection: close` makes this parser reject a second request.
            self._body_parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", b"Connection: close", *lines, b"", b""]))

    def _end_last(self) -> None:
        self._is_complete = True
        super().on_message_complete()  # type: ignore[misc]  # super() is uvicorn's class

    def on_message_complete(self) -> None:
        # If httptools treats a request as an upgrade, it calls this method before the body has arrived.
        if not self._change.ends_connection:
            super().on_message_complete()  # type: ignore[misc]  # super() is uvicorn's class
        elif not self.parser.should_upgrade():
            self._end_last()

    def _should_upgrade(self) -> bool:
        return self._change is ProtocolChange.WEBSOCKET


class _BodyCallbacks:
    """The callbacks of the second parser, which reads the body of the last request."""

    def __init__(self, protocol: Any) -> None:
        self.on_body = protocol.on_body
        self.on_message_complete = protocol._end_last


# The name of our class -> (the module below uvicorn.protocols, its class, the library that it needs, our mixin).
_CLASSES: dict[str, tuple[str, str, str, type[Any]]] = {
    "H11": ("http.h11_impl", "H11Protocol", "h11", _HTTP1Mixin),
    "HTTPTools": ("http.httptools_impl", "HttpToolsProtocol", "httptools", _HTTPToolsMixin),
    "Zttp": ("http.zttp_impl", "ZttpProtocol", "zttp", _HTTP1Mixin),
    "HTTP2": ("http.auto_zttp_impl", "AutoZttpProtocol", "zttp", _ProtocolChoiceMixin),
    "_HTTP2Only": ("http.zttp_h2_impl", "ZttpH2Protocol", "zttp", _HTTP2Mixin),
    "WebSockets": ("websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol", "websockets", _TLSExtensionMixin),
    "WSProto": ("websockets.wsproto_impl", "WSProtocol", "wsproto", _TLSExtensionMixin),
}


def __getattr__(name: str) -> type[Any]:
    """Create a class when it is first accessed, because its library is optional.

    Raises `ConfigurationError` if uvicorn or the library is missing or has changed.
    """
    if name in globals():
        return globals()[name]  # type: ignore[no-any-return]  # a class that was created by an earlier access
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, base, library, mixin = _CLASSES[name]
    base_class = server_interface(
        f"{__name__}:{name}",
        f"uvicorn.protocols.{module}",
        base,
        partial(_probe, mixin=mixin),
        needs=("uvicorn", library),
        release="0.54",
        pip=f"'mtls-middleware[uvicorn]' {library}",
    )
    protocol: type[asyncio.Protocol] = type(name, (mixin, base_class), {"__doc__": mixin.__doc__})
    if mixin is _ProtocolChoiceMixin:
        for each in ("Zttp", "_HTTP2Only"):  # these classes are checked now, before uvicorn listens
            __getattr__(each)
    globals()[name] = protocol
    return protocol


def _probe(base: Any, mixin: type[Any]) -> None:
    """Create a protocol as uvicorn does.

    Raises an exception unless it has the internals that the module's docstring lists.
    """
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    require_methods(base, mixin.required_methods, asyncio.Protocol)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        """Do nothing. uvicorn never calls this application."""

    config = Config(application, http=base, ws="none", lifespan="off", interface="asgi3", log_config=None)
    config.load()
    # Without `_loop`, the protocol would look up the running loop, and there may be none. The loop here is a
    # placeholder on which no task runs.
    protocol = base(config=config, server_state=ServerState(), app_state={}, _loop=object())
    require_attributes(protocol, mixin.required_attributes)
    if mixin is _ProtocolChoiceMixin:
        if list(signature(base._switch).parameters) != ["self", "http2", "initial_data"]:
            raise TypeError("the arguments of _switch are not named http2 and initial_data")
        if "_switch" not in names_used(base.connection_made.__code__) & names_used(base.data_received.__code__):
            raise TypeError(f"{base.__name__} does not call _switch")
    elif protocol.app is not config.loaded_app:
        raise TypeError(f"the app of {base.__name__} is not config.loaded_app")
    if issubclass(mixin, _HTTP1Mixin):
        _probe_upgrades(base)
    require_attributes(config, ("ssl", "ssl_certfile", "ssl_context_factory"))


def _probe_upgrades(base: Any) -> None:
    method: Any = getattr(base, "on_headers_complete", None) or getattr(base, "handle_events", None)
    if method is None or {"_should_upgrade", "app"} - names_used(method.__code__):
        raise TypeError(f"{base.__name__} does not call _should_upgrade before it uses its app")
    cycle = method.__globals__["RequestResponseCycle"]
    if {"more_body", "response_complete"} - names_used(cycle.__init__.__code__):
        raise TypeError("RequestResponseCycle has no more_body or no response_complete")


def _extension(ssl_object: Any, config: Any) -> dict[str, object]:
    return extension_from_ssl(ssl_object, _server_certificate(ssl_object, config))


def _server_certificate(ssl_object: Any, config: Any) -> str | None:
    """Return the certificate that uvicorn loaded; `None` if the connection may have used another TLS context.

    `ssl` does not report the certificate that the server sent.
    """
    if config.ssl_context_factory is not None or ssl_object.context is not config.ssl:
        return None
    return first_certificate(config.ssl_certfile)
