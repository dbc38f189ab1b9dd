"""uvicorn's protocol classes, made to say what TLS negotiated: `extensions["tls"]`, the ASGI TLS extension 0.2.

Must never know: header fields. What it tells is the `ssl` module's word alone, which `sources.ServerTLS` then reads.

    uvicorn app:app --ssl-certfile server.pem --ssl-keyfile server.key --ssl-ca-certs clients.pem --ssl-cert-reqs 1 \\
        --http mtls_middleware.servers.uvicorn_tls:H11 --ws mtls_middleware.servers.uvicorn_tls:WebSockets

`--http` takes `H11` or `HTTPTools` and serves requests, `--ws` takes `WebSockets` or `WSProto` and serves websockets.
`--ssl-cert-reqs`: 1 lets clients without certificate in, 2 does not; 0, uvicorn's default, asks for none.

Rests on what uvicorn does not promise, as it is in 0.54: a protocol takes its application from `config.loaded_app` when
it is made, keeps it as `app` and calls that for each request; `connection_made` brings the transport, also when an HTTP
protocol hands its connection to a websocket's; httptools' callbacks `on_message_begin`, `on_header` and
`on_headers_complete`. Where that has moved, naming a class raises `ConfigurationError`, before uvicorn listens.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import cache, lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.asgi import ASGIApp, Receive, Scope, Send
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.sources.server import presented_chain

# The two bytes that TLS itself writes (RFC 5246 A.1, RFC 8446 4.2.1), by the names of Python's `ssl`.
_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class _HandsOver(asyncio.Protocol):
    """Stands before one of uvicorn's classes. What TLS says is read once for each connection."""

    rests_on: tuple[str, ...] = ("connection_made",)
    config: Any
    app: ASGIApp

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:  # without TLS the extension is forbidden (J1)
            # Read at the first request: what fails here would leave the connection open, and the application told
            # nothing; what fails there is answered 500.
            self.app = _telling(self.app, cache(partial(_extension, ssl_object, self.config)))


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
    "WebSockets": ("websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol", "websockets", _HandsOver),
    "WSProto": ("websockets.wsproto_impl", "WSProtocol", "wsproto", _HandsOver),
}


def __getattr__(name: str) -> type[asyncio.Protocol]:
    """The class, made when it is first named: three of the four libraries are optional. Raises `ConfigurationError`."""
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, base, library, before = _CLASSES[name]
    if find_spec("uvicorn") is None or find_spec(library) is None:
        raise ConfigurationError(
            f"{__name__}:{name} needs an optional dependency: pip install 'mtls-middleware[uvicorn]' {library}"
        )
    try:
        uvicorns = getattr(import_module(f"uvicorn.protocols.{module}"), base)
        _probe(uvicorns, before.rests_on)
    except Exception as error:
        raise ConfigurationError(
            f"{__name__}:{name} does not fit {base} in uvicorn.protocols.{module} of uvicorn {_version()}, which is "
            f"not as in 0.54 ({error}): upgrade mtls-middleware, or pip install 'uvicorn==0.54.*'"
        ) from error
    made: type[asyncio.Protocol] = type(name, (before, uvicorns), {"__doc__": before.__doc__})
    globals()[name] = made
    return made


def _probe(base: Any, rests_on: tuple[str, ...]) -> None:
    """Make one protocol as uvicorn makes it, and raise unless it is what the module's docstring says."""
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    for method in rests_on:
        if getattr(base, method, None) in (None, getattr(asyncio.Protocol, method, None)):
            raise TypeError(f"it has no {method}")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        """Never called."""

    config = Config(application, http=base, ws="none", lifespan="off", interface="asgi3", log_config=None)
    config.load()
    # Nothing runs on the loop; one is given because none need be running now.
    protocol = base(config=config, server_state=ServerState(), app_state={}, _loop=object())
    if protocol.app is not config.loaded_app:
        raise TypeError("its app is not config.loaded_app")


def _version() -> str:
    return str(getattr(import_module("uvicorn"), "__version__", "of unknown version"))


def _telling(app: ASGIApp, read: Callable[[], dict[str, object]]) -> ASGIApp:
    """`app`, with the extension in each scope; where uvicorn brings one itself, that one stays."""

    def telling(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        extensions = scope.get("extensions") or {}
        if "tls" not in extensions:
            # In the server's own scope, not in a copy: its access log reads the client that ProxyHeaders puts there.
            # A dictionary for each request: what an application writes into it, the connection's next does not see.
            scope["extensions"] = {**extensions, "tls": {**read()}}
        return app(scope, receive, send)

    return telling


def _extension(ssl_object: Any, config: Any) -> dict[str, object]:
    """The six keys of the extension (J2 to J6), each an immutable value."""
    leaf = ssl_object.getpeercert(True)
    chain = presented_chain(ssl_object) if leaf else ()
    if leaf and chain[:1] != (leaf,):
        chain = (leaf,)  # a resumed session still has its leaf, and no chain any more
    # `ssl` ends each handshake whose certificate does not verify, unless it was told not to verify.
    unverified = leaf and ssl_object.context.verify_mode is ssl.CERT_NONE
    return {
        "server_cert": _server_certificate(ssl_object, config),
        "client_cert_chain": tuple(ssl.DER_cert_to_PEM_cert(der) for der in chain),
        "client_cert_name": _subject(leaf) if leaf else None,
        "client_cert_error": "not verified (CERT_NONE)" if unverified else None,
        "tls_version": _VERSIONS.get(ssl_object.version()),
        "cipher_suite": _cipher_suite(ssl_object.context, ssl_object.cipher()[0]),
    }


def _subject(leaf: bytes) -> str | None:
    try:
        return ClientCertificate.from_der(leaf).subject
    except MalformedCertificate:  # OpenSSL is less strict; who reads the chain is told so then
        return None


@lru_cache(maxsize=64)  # names of suites times contexts: more than one only where a callback chooses by server name
def _cipher_suite(context: ssl.SSLContext, name: str) -> int | None:
    """IANA's number: OpenSSL's identifier of a suite is 0x03000000 plus that."""
    return next((each["id"] & 0xFFFF for each in context.get_ciphers() if each["name"] == name), None)


def _server_certificate(ssl_object: Any, config: Any) -> str | None:
    """The certificate that uvicorn itself loaded, else `None`: `ssl` does not tell which one was sent."""
    if config.ssl_context_factory is not None or ssl_object.context is not config.ssl:
        return None
    return _first_certificate(config.ssl_certfile)


@lru_cache(maxsize=8)  # as uvicorn, which loads the file once
def _first_certificate(path: str | PathLike[str]) -> str | None:
    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())[0].public_bytes(Encoding.PEM).decode("ascii")
    except (OSError, ValueError):
        return None
