"""daphne with TLS that asks for client certificates, the ASGI TLS extension 0.2, and no upgrade but to a websocket.

    python -m mtls_middleware.servers.daphne_tls --certfile server.pem --keyfile server.key \\
        --ca-certs clients.pem --cert-reqs 1 --bind 0.0.0.0 --port 8443 app:app

This is `daphne` with all its options; each of its endpoints has TLS. (Twisted's `ssl:` cannot ask for a certificate.)
In code: `Server(app, endpoints=["tcp:8443"], tls=TLS(certfile=..., keyfile=..., ca_certs=..., cert_reqs=1)).run()`.
`--cert-reqs`: 1 accepts clients without a certificate, 2 does not. The extension is there over HTTP/1.1, over HTTP/2
(`twisted[http2]`, for connections that negotiate it), and for websockets.

The classes depend on these internals of daphne 3.0 to 4.2 and of Twisted. If one of them has moved, naming `Server`
raises `ConfigurationError`; a request that comes without TLS gets the response 500.

- `Server.run` listens with `self.http_factory`, which it sets itself. The factory's `buildProtocol` sets the
  `requestFactory` of a connection to daphne's `WebRequest`.
- Each request and websocket comes by `Server.create_application(protocol, scope)`. `protocol.transport` has the
  connection; over HTTP/2, `protocol.channel._conn` has it, which is Twisted's `H2Connection`.
- `WebSocketProtocol.serverClose(code)` closes a websocket, and autobahn's `sendCloseFrame(code)` sends any code.
- `WebRequest.process` serves a request whose body has arrived, and begins a websocket if `requestHeaders` ask for it.
- Twisted's `HTTPChannel` closes the connection after a response unless it is `persistent`.
"""

import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.servers.extension import Extension, cipher_suite, extension, first_certificate, tell
from mtls_middleware.servers.interface import names_used, require_methods, taken
from mtls_middleware.servers.upgrades import asked


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """The server's PEM files, and whether clients must show a certificate.

    `cert_reqs`, as `ssl.VerifyMode`: 0 asks for none, 1 takes none or one that `ca_certs` verifies, 2 takes only such.
    Raises `ConfigurationError` where these contradict.

    Example: `TLS(certfile="server.pem", keyfile="server.key", ca_certs="clients.pem", cert_reqs=1)`
    """

    certfile: str
    keyfile: str
    ca_certs: str | None = None
    cert_reqs: int = 0

    def __post_init__(self) -> None:
        if self.cert_reqs not in (0, 1, 2):
            raise ConfigurationError(f"cert_reqs={self.cert_reqs!r}: expected 0, 1 or 2, for example cert_reqs=1")
        if bool(self.cert_reqs) is not bool(self.ca_certs):
            raise ConfigurationError(
                f"cert_reqs={self.cert_reqs!r} with ca_certs={self.ca_certs!r}: whoever asks for certificates says by "
                "whom they must be signed, for example cert_reqs=1, ca_certs='clients.pem'"
            )

    def options(self) -> Any:
        """Twisted's `CertificateOptions`. Raises `ConfigurationError` where a file cannot be read."""
        from OpenSSL.crypto import X509, PKey
        from twisted.internet.ssl import CertificateOptions

        try:
            leaf, *rest = (X509.from_cryptography(each) for each in _certificates(self.certfile))
            private = load_pem_private_key(Path(self.keyfile).read_bytes(), None)
            key = PKey.from_cryptography_key(private)  # type: ignore[arg-type]  # pyOpenSSL rejects other keys
            roots = [X509.from_cryptography(each) for each in _certificates(self.ca_certs)] if self.ca_certs else None
            options: Any = CertificateOptions(
                privateKey=key,
                certificate=leaf,
                extraCertChain=rest,
                verify=bool(roots),
                caCerts=roots,
                requireCertificate=self.cert_reqs == ssl.CERT_REQUIRED,
            )
            options.getContext()  # made now: a key of another certificate is found before the server listens
        except Exception as error:
            raise ConfigurationError(
                f"{self} cannot be used ({type(error).__name__}: {error}): expected PEM files, the key without password"
            ) from error
        return options


def _certificates(path: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(Path(path).read_bytes())


class _HandsOver:
    """daphne's `Server`, with TLS on each endpoint, and the client certificate in `extensions["tls"]`."""

    def __init__(self, *args: Any, tls: TLS, **options: Any) -> None:
        self._tls = tls
        self._options = tls.options()
        self._read: WeakKeyDictionary[Any, Extension] = WeakKeyDictionary()  # once for each connection
        super().__init__(*args, **options)

    @property
    def http_factory(self) -> Any:
        """What daphne listens with: its own factory behind TLS, as `reactor.listenSSL` has it."""
        return self._http_factory

    @http_factory.setter
    def http_factory(self, factory: Any) -> None:
        from twisted.protocols.tls import TLSMemoryBIOFactory

        build = factory.buildProtocol

        def build_protocol(address: Any) -> Any:
            protocol = build(address)
            protocol.requestFactory = _request_class(protocol.requestFactory)
            return protocol

        factory.buildProtocol = build_protocol
        self._http_factory = TLSMemoryBIOFactory(self._options, False, factory)

    def create_application(self, protocol: Any, scope: Any) -> Any:
        """Raises `RuntimeError` where the request came without TLS, which daphne answers 500."""
        tell(scope, partial(self._extension, _connection(protocol)))
        if scope["type"] == "websocket":
            protocol.serverClose = partial(_close, protocol, protocol.serverClose)
        return super().create_application(protocol, scope)  # type: ignore[misc]  # daphne's class is the next in line

    def _extension(self, connection: Any) -> Extension:
        if connection not in self._read:
            self._read[connection] = _extension(connection, first_certificate(self._tls.certfile))
        return self._read[connection]


class _OnlyWebsockets:
    """Precedes daphne's `WebRequest`: a request that asks for another protocol is the last of its connection.

    So is a request whose response says so.
    """

    def process(self) -> Any:
        request: Any = self
        headers = request.requestHeaders
        version = request.clientproto.partition(b"/")[2].decode("ascii")
        if not hasattr(request.channel, "persistent"):  # a stream of HTTP/2
            return super().process()  # type: ignore[misc]  # daphne's class is the next in line
        fields = [(name.lower(), value) for name, values in headers.getAllRawHeaders() for value in values]
        asks = asked(request.method.decode("ascii"), version, fields)
        if asks.ends:
            request.channel.persistent = False
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            headers.removeHeader(b"Upgrade")
        if asks.status:
            request.setResponseCode(asks.status)
            request.setHeader(b"Content-Length", b"0")
            return request.finish()
        return super().process()  # type: ignore[misc]  # daphne's class is the next

    def finish(self) -> Any:
        """A response with `Connection: close` is the last of its connection (RFC 9112 9.6); Twisted keeps it open."""
        request: Any = self
        options = b",".join(request.responseHeaders.getRawHeaders(b"Connection", [])).lower().split(b",")
        if b"close" in map(bytes.strip, options) and hasattr(request.channel, "persistent"):
            request.channel.persistent = False
        return super().finish()  # type: ignore[misc]  # daphne's class is the next


def _close(protocol: Any, close: Callable[..., Any], code: int | None = None) -> None:
    """Close a websocket with any code of RFC 6455 7.4.1: autobahn's `sendClose` rejects most of them, such as 1008."""
    if code in _CLOSE_CODES:
        protocol.sendCloseFrame(code=code)
    else:
        close(code=code)


# Those that an endpoint may send (RFC 6455 7.4.1, and IANA's registry): not 1004 to 1006, and 1015.
_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})


@cache
def _request_class(base: type) -> type:
    return type(base.__name__, (_OnlyWebsockets, base), {"__doc__": _OnlyWebsockets.__doc__})


def _connection(protocol: Any) -> Any:
    """OpenSSL's connection below a request, a stream of HTTP/2 or a websocket."""
    from OpenSSL.SSL import Connection

    http2 = getattr(getattr(protocol, "channel", None), "_conn", None)
    transport = protocol.transport if http2 is None else http2.transport
    connection = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(connection, Connection):
        raise RuntimeError("a request without TLS at an endpoint that was to have it")
    return connection


def _extension(connection: Any, server_cert: str | None) -> Extension:
    leaf = connection.get_peer_certificate(as_cryptography=True)
    chain = [each.public_bytes(Encoding.DER) for each in connection.get_peer_cert_chain(as_cryptography=True) or ()]
    der = leaf.public_bytes(Encoding.DER) if leaf is not None else None
    return extension(
        server_cert=server_cert,
        leaf=der,
        # OpenSSL leaves the leaf out of what a server is presented (SSL_get_peer_cert_chain).
        presented=chain if der is None or chain[:1] == [der] else [der, *chain],
        error=None,  # OpenSSL ends each handshake whose certificate does not verify: VERIFY_PEER, and no callback
        version=connection.get_protocol_version(),
        cipher_suite=cipher_suite(_every_suite(), connection.get_cipher_name()),
    )


@lru_cache(maxsize=1)
def _every_suite() -> ssl.SSLContext:
    """pyOpenSSL has no numbers of suites: `ssl` has them by the same names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def __getattr__(name: str) -> type:
    """`Server` and `CommandLineInterface`, made when named: daphne is optional. Raises `ConfigurationError`."""
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, before, probe = _CLASSES[name]
    base = taken(
        f"{_NAME}.{name}",
        module,
        name,
        probe,
        needs=("daphne", "twisted", "OpenSSL"),
        release="4.2",
        pip="'daphne>=4.2' 'twisted[http2]'",
    )
    made = type(name, (before, base), {"__doc__": before.__doc__, "__module__": __name__})
    globals()[name] = made
    return made


class _TakesFiles:
    """daphne's command line, with the options of `TLS`."""

    def __init__(self) -> None:
        super().__init__()
        add = self.parser.add_argument  # type: ignore[attr-defined]  # daphne's class is the next in line
        add("--certfile", required=True, help="PEM file: the server's certificate, and its chain")
        add("--keyfile", required=True, help="PEM file: its key")
        add("--ca-certs", help="PEM file: the CAs that sign clients' certificates")
        add("--cert-reqs", type=int, default=0, help="0: ask for none; 1: take none or a verified one; 2: demand one")

    def run(self, args: Any) -> None:
        """Parse the options, then do as daphne does with its own."""
        given = self.parser.parse_args(args)  # type: ignore[attr-defined]  # daphne's class is the next
        tls = TLS(certfile=given.certfile, keyfile=given.keyfile, ca_certs=given.ca_certs, cert_reqs=given.cert_reqs)
        self.server_class = partial(__getattr__("Server"), tls=tls)
        super().run(args)  # type: ignore[misc]  # daphne's class is the next


def _probe_server(base: Any) -> None:
    require_methods(base, ("run", "create_application"))
    if {"http_factory", "listen"} - names_used(base.run.__code__):
        raise TypeError("its run does not listen with http_factory")
    if list(signature(base.create_application).parameters) != ["self", "protocol", "scope"]:
        raise TypeError("its create_application takes other arguments than protocol and scope")
    protocol: Any = import_module("daphne.http_protocol")
    require_methods(protocol.WebRequest, ("process", "finish"))
    websocket: Any = import_module("daphne.ws_protocol").WebSocketProtocol
    require_methods(websocket, ("serverClose", "sendCloseFrame"))
    if {"requestFactory", "WebRequest"} - names_used(protocol.HTTPFactory.buildProtocol.__code__):
        raise TypeError("its HTTPFactory sets no requestFactory")
    if "persistent" not in names_used(import_module("twisted.web.http").HTTPChannel.requestDone.__code__):
        raise TypeError("Twisted's HTTPChannel is not persistent")
    if import_module("twisted.web.http").H2_ENABLED:
        stream = import_module("twisted.web._http2").H2Stream
        if "_conn" not in names_used(stream.__init__.__code__):
            raise TypeError("an HTTP/2 stream of Twisted has no _conn")


def _probe_command_line(base: Any) -> None:
    require_methods(base, ("run", "server_class"))
    if {"server_class", "parser", "parse_args"} - names_used(base.run.__code__):
        raise TypeError("its run makes no server_class, or parses otherwise")


_NAME = "mtls_middleware.servers.daphne_tls"
# our name, which is daphne's: (its module, what we put before it, what must hold)
_CLASSES: dict[str, tuple[str, type, Any]] = {
    "Server": ("daphne.server", _HandsOver, _probe_server),
    "CommandLineInterface": ("daphne.cli", _TakesFiles, _probe_command_line),
}

if __name__ == "__main__":
    __getattr__("CommandLineInterface")().run(sys.argv[1:])
