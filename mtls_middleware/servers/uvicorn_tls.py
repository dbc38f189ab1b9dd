"""uvicorn's protocol classes, made to say what TLS negotiated: `extensions["tls"]`, the ASGI TLS extension 0.2.

Must never know: header fields. What it tells is the `ssl` module's word alone, which `sources.ServerTLS` then reads.

    uvicorn app:app --ssl-certfile server.pem --ssl-keyfile server.key --ssl-ca-certs clients.pem --ssl-cert-reqs 1 \\
        --http mtls_middleware.servers.uvicorn_tls:H11 --ws mtls_middleware.servers.uvicorn_tls:WebSockets

`--http` takes `H11`, `HTTPTools`, `Zttp` or `HTTP2` (which is uvicorn's `--http zttp --http2`) and serves requests,
`--ws` takes `WebSockets` or `WSProto` and serves websockets. `--ssl-cert-reqs`: 1 lets clients without certificate in,
2 does not; 0, uvicorn's default, asks for none.

Rests on what uvicorn does not promise, as it is in 0.54: a protocol takes its application from `config.loaded_app`
when it is made, keeps it as `app` and calls that for each request; `connection_made` brings the transport, also when
an HTTP protocol hands its connection to a websocket's; with `HTTP2` it is then that the connection is handed to the
protocol of the version negotiated, over TLS; httptools' callbacks `on_message_begin`, `on_header` and
`on_headers_complete`; `ssl`, `ssl_certfile` and `ssl_context_factory` of its `Config`. Works with 0.53 too. Where that
has moved, naming a class raises `ConfigurationError`, before uvicorn listens.
"""

import asyncio
from functools import partial
from importlib import import_module
from typing import Any

from mtls_middleware.asgi import ASGIApp
from mtls_middleware.servers.extension import first_certificate, negotiated, telling
from mtls_middleware.servers.interface import names_used, require_attributes, require_methods, taken


class _HandsOver(asyncio.Protocol):
    """Stands before one of uvicorn's classes. What TLS says is read once for each connection."""

    rests_on: tuple[str, ...] = ("connection_made",)
    hands_on = False
    config: Any
    app: ASGIApp

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:  # without TLS the extension is forbidden (J1)
            serves: Any = transport.get_protocol() if self.hands_on else self
            serves.app = telling(serves.app, partial(_extension, ssl_object, self.config))


class _Chooses(_HandsOver):
    """For the class that chooses a protocol by what ALPN negotiated, and hands the connection to it at once."""

    rests_on = ("connection_made", "_switch")
    hands_on = True


class _WithoutTrailers(_HandsOver):
    """For httptools, which reports trailer fields as it reports header fields.

    uvicorn appends those to the headers of the very scope that the application reads, so a client behind a proxy that
    cleans headers but forwards trailers (HAProxy) could forge any header, a certificate's too (RFC 9110 6.5.1).
    """

    rests_on = ("connection_made", "on_message_begin", "on_header", "on_headers_complete")
    _headers_complete = False

    def on_message_begin(self) -> None:
        self._headers_complete = False
        super().on_message_begin()  # type: ignore[misc]  # uvicorn's class is the next in line, here and below

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers_complete:
            super().on_header(name, value)  # type: ignore[misc]

    def on_headers_complete(self) -> None:
        self._headers_complete = True
        super().on_headers_complete()  # type: ignore[misc]


# our name: (module below uvicorn.protocols, its class, the library that it needs, what we put before it)
_CLASSES: dict[str, tuple[str, str, str, type[_HandsOver]]] = {
    "H11": ("http.h11_impl", "H11Protocol", "h11", _HandsOver),
    "HTTPTools": ("http.httptools_impl", "HttpToolsProtocol", "httptools", _WithoutTrailers),
    "Zttp": ("http.zttp_impl", "ZttpProtocol", "zttp", _HandsOver),
    "HTTP2": ("http.auto_zttp_impl", "AutoZttpProtocol", "zttp", _Chooses),
    "WebSockets": ("websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol", "websockets", _HandsOver),
    "WSProto": ("websockets.wsproto_impl", "WSProtocol", "wsproto", _HandsOver),
}


def __getattr__(name: str) -> type[asyncio.Protocol]:
    """The class, made when it is first named: all libraries but one are optional. Raises `ConfigurationError`."""
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
    globals()[name] = made
    return made


def _probe(base: Any, before: type[_HandsOver]) -> None:
    """Make one protocol as uvicorn makes it, and raise unless it is what the module's docstring says."""
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    require_methods(base, before.rests_on, asyncio.Protocol)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        """Never called."""

    config = Config(application, http=base, ws="none", lifespan="off", interface="asgi3", log_config=None)
    config.load()
    serving = [base]
    if before is _Chooses:
        if "set_protocol" not in names_used(base._switch.__code__):
            raise TypeError("its _switch sets no protocol")
        module = import_module(base.__module__)
        serving = [module.ZttpProtocol, module.ZttpH2Protocol]
    for each in serving:
        # Nothing runs on the loop; one is given because none need be running now.
        protocol = each(config=config, server_state=ServerState(), app_state={}, _loop=object())
        if protocol.app is not config.loaded_app:
            raise TypeError("its app is not config.loaded_app")
    require_attributes(config, ("ssl", "ssl_certfile", "ssl_context_factory"))


def _extension(ssl_object: Any, config: Any) -> dict[str, object]:
    return negotiated(ssl_object, _server_certificate(ssl_object, config))


def _server_certificate(ssl_object: Any, config: Any) -> str | None:
    """The certificate that uvicorn itself loaded, else `None`: `ssl` does not tell which one was sent."""
    if config.ssl_context_factory is not None or ssl_object.context is not config.ssl:
        return None
    return first_certificate(config.ssl_certfile)
