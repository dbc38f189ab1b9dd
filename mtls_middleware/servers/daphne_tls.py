"""Extends daphne with client certificates and the ASGI TLS extension 0.2, and prevents upgrades except to websocket.

    python -m mtls_middleware.servers.daphne_tls --certfile server.pem --keyfile server.key \\
        --ca-certs clients.pem --cert-reqs 1 --bind 0.0.0.0 --port 8443 app:app

This command accepts all options of `daphne`. All endpoints use TLS. Use `tcp:` and not Twisted's `ssl:`, which cannot
request a client certificate. In code:
`Server(app, endpoints=["tcp:8443"], tls=TLS(certfile=..., keyfile=..., ca_certs=..., cert_reqs=1)).run()`.
With `--cert-reqs 1`, clients without a certificate are accepted. With `--cert-reqs 2`, they are rejected. Websockets,
and requests over HTTP/1.1 and HTTP/2, have the extension. HTTP/2 requires `twisted[http2]`, and must be negotiated
(ALPN).

The classes depend on these internals of daphne 3.0 to 4.2 and of Twisted. If one of them has changed, accessing
`Server` raises `ConfigurationError`. If a request nevertheless arrives without TLS, the response is 500.

- `Server.run` listens with `self.http_factory`, which it sets itself. The factory's `buildProtocol` sets the
  `requestFactory` of a connection to daphne's `WebRequest`.
- For each request and websocket, daphne calls `Server.create_application(protocol, scope)`. `protocol.transport` holds
  the connection. Over HTTP/2, `protocol.channel._conn` holds the connection. It is Twisted's `H2Connection`.
- `WebSocketProtocol.serverClose(code)` closes a websocket, and autobahn's `sendCloseFrame(code)` sends any code.
- `WebRequest.process` serves a request whose body has arrived. If `requestHeaders` are those of a websocket handshake,
  it starts a websocket.
- Twisted's `HTTPChannel` closes the connection after a response unless its `persistent` is true.
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
from mtls_middleware.servers.extension import Extension, add_tls_extension, cipher_suite, extension, first_certificate
from mtls_middleware.servers.interface import names_used, require_methods, server_interface
from mtls_middleware.servers.upgrades import protocol_change


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """The server's PEM files, and whether clients must present a certificate.

    Arguments:
        certfile: the server's certificate and its chain.
        keyfile: the private key, without a password.
        ca_certs: the CAs that must have signed the client certificates.
        cert_reqs: a value of `ssl.VerifyMode`. 0: no certificate is requested. 1: clients without a certificate are
            accepted. 2: clients without a certificate are rejected. With 1 and 2, a certificate that does not verify is
            rejected.

    Raises `ConfigurationError` if `cert_reqs` is given without `ca_certs`, if `ca_certs` is given without `cert_reqs`,
    or if `cert_reqs` is not 0, 1 or 2.

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
                f"cert_reqs={self.cert_reqs!r} with ca_certs={self.ca_certs!r}: expected both or neither, for example "
                "cert_reqs=1, ca_certs='clients.pem'"
            )

    def options(self) -> Any:
        """Return Twisted's `CertificateOptions` for these files. Raises `ConfigurationError` if a file is unusable."""
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
            # This call raises an exception if key and certificate do not match, before the server listens.
            options.getContext()
        except Exception as error:
            raise ConfigurationError(
                f"{self} cannot be used ({type(error).__name__}: {error}): expected PEM files, and a key without a "
                "password"
            ) from error
        return options


def _certificates(path: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(Path(path).read_bytes())


class _ServerMixin:
    """Extends daphne's `Server` with TLS on each endpoint, and with the client certificate in `extensions["tls"]`."""

    def __init__(self, *args: Any, tls: TLS, **options: Any) -> None:
        self._tls = tls
        self._options = tls.options()
        self._extensions: WeakKeyDictionary[Any, Extension] = WeakKeyDictionary()  # connection -> extension
        super().__init__(*args, **options)

    @property
    def http_factory(self) -> Any:
        """The factory that daphne listens with: daphne's own factory, wrapped in TLS as `reactor.listenSSL` does."""
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
        """Add the TLS extension to the scope, and create the application as daphne does.

        Raises `RuntimeError` if the connection has no TLS. daphne then responds with 500.
        """
        add_tls_extension(scope, partial(self._extension, _connection(protocol)))
        if scope["type"] == "websocket":
            protocol.serverClose = partial(_close, protocol, protocol.serverClose)
        return super().create_application(protocol, scope)  # type: ignore[misc]  # super() is daphne's class

    def _extension(self, connection: Any) -> Extension:
        if connection not in self._extensions:
            self._extensions[connection] = _extension(connection, first_certificate(self._tls.certfile))
        return self._extensions[connection]


class _WebRequestMixin:
    """Extends daphne's `WebRequest`: a request that asks for another protocol is the last request of its connection.

    The connection also closes after a response with `Connection: close`.
    """

    def process(self) -> Any:
        request: Any = self
        headers = request.requestHeaders
        version = request.clientproto.partition(b"/")[2].decode("ascii")
        if not hasattr(request.channel, "persistent"):  # an HTTP/2 stream
            return super().process()  # type: ignore[misc]  # super() is daphne's class
        fields = [(name.lower(), value) for name, values in headers.getAllRawHeaders() for value in values]
        change = protocol_change(request.method.decode("ascii"), version, fields)
        if change.ends_connection:
            request.channel.persistent = False
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            headers.removeHeader(b"Upgrade")
        if change.status:
            request.setResponseCode(change.status)
            request.setHeader(b"Content-Length", b"0")
            return request.finish()
        return super().process()  # type: ignore[misc]  # super() is daphne's class

    def finish(self) -> Any:
        """Finish the response, and close the connection if the response has `Connection: close` (RFC 9112 9.6).

        Twisted itself would keep the connection open.
        """
        request: Any = self
        options = b",".join(request.responseHeaders.getRawHeaders(b"Connection", [])).lower().split(b",")
        if b"close" in map(bytes.strip, options) and hasattr(request.channel, "persistent"):
            request.channel.persistent = False
        return super().finish()  # type: ignore[misc]  # super() is daphne's class


def _close(protocol: Any, close: Callable[..., Any], code: int | None = None) -> None:
    """Close a websocket with `code`, which may be any close code that a server may send (RFC 6455 7.4.1).

    autobahn's `sendClose` rejects most of the codes below 3000, for example 1008.
    """
    if code in _CLOSE_CODES:
        protocol.sendCloseFrame(code=code)
    else:
        close(code=code)


# The registered close codes that a server may send (RFC 6455 7.4.1, IANA): all except 1004, 1005, 1006 and 1015.
_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})


@cache
def _request_class(base: type) -> type:
    return type(base.__name__, (_WebRequestMixin, base), {"__doc__": _WebRequestMixin.__doc__})


def _connection(protocol: Any) -> Any:
    """Return the pyOpenSSL connection of an HTTP/1 request, an HTTP/2 stream or a websocket.

    Raises `RuntimeError` if the connection has no TLS.
    """
    from OpenSSL.SSL import Connection

    http2 = getattr(getattr(protocol, "channel", None), "_conn", None)
    transport = protocol.transport if http2 is None else http2.transport
    connection = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(connection, Connection):
        raise RuntimeError("a request arrived without TLS: this server must use TLS on every endpoint")
    return connection


def _extension(connection: Any, server_cert: str | None) -> Extension:
    leaf = connection.get_peer_certificate(as_cryptography=True)
    chain = [each.public_bytes(Encoding.DER) for each in connection.get_peer_cert_chain(as_cryptography=True) or ()]
    der = leaf.public_bytes(Encoding.DER) if leaf is not None else None
    return extension(
        server_cert=server_cert,
        leaf=der,
        # On the server side, OpenSSL's SSL_get_peer_cert_chain does not include the leaf.
        presented=chain if der is None or chain[:1] == [der] else [der, *chain],
        error=None,  # with VERIFY_PEER and no callback, OpenSSL aborts the handshake if a certificate does not verify
        version=connection.get_protocol_version(),
        cipher_suite=cipher_suite(_every_suite(), connection.get_cipher_name()),
    )


@lru_cache(maxsize=1)
def _every_suite() -> ssl.SSLContext:
    """Return a context with all cipher suites and their numbers. pyOpenSSL has the same names, but no numbers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def __getattr__(name: str) -> type:
    """Create `Server` or `CommandLineInterface` when it is first accessed, because daphne is optional.

    Raises `ConfigurationError` if daphne is missing or has changed.
    """
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, mixin, probe = _CLASSES[name]
    base = server_interface(
        f"{_NAME}.{name}",
        module,
        name,
        probe,
        needs=("daphne", "twisted", "OpenSSL"),
        release="4.2",
        pip="'daphne>=4.2' 'twisted[http2]'",
    )
    extended = type(name, (mixin, base), {"__doc__": mixin.__doc__, "__module__": __name__})
    globals()[name] = extended
    return extended


class _CommandLineMixin:
    """Extends daphne's command line with the options of `TLS`."""

    def __init__(self) -> None:
        super().__init__()
        add = self.parser.add_argument  # type: ignore[attr-defined]  # super() is daphne's class
        add("--certfile", required=True, help="PEM file with the server's certificate and its chain")
        add("--keyfile", required=True, help="PEM file with the private key, without a password")
        add("--ca-certs", help="PEM file with the CAs that client certificates must be signed by")
        help_text = "client certificates: 0 does not request them (default), 1 makes them optional, 2 requires them"
        add("--cert-reqs", type=int, default=0, help=help_text)

    def run(self, args: Any) -> None:
        """Parse the options of `TLS`, then run daphne's own command line."""
        options = self.parser.parse_args(args)  # type: ignore[attr-defined]  # super() is daphne's class
        tls = TLS(
            certfile=options.certfile,
            keyfile=options.keyfile,
            ca_certs=options.ca_certs,
            cert_reqs=options.cert_reqs,
        )
        self.server_class = partial(__getattr__("Server"), tls=tls)
        super().run(args)  # type: ignore[misc]  # super() is daphne's class


def _probe_server(base: Any) -> None:
    require_methods(base, ("run", "create_application"))
    if {"http_factory", "listen"} - names_used(base.run.__code__):
        raise TypeError("Server.run does not use http_factory to listen")
    if list(signature(base.create_application).parameters) != ["self", "protocol", "scope"]:
        raise TypeError("the arguments of create_application are not named protocol and scope")
    protocol: Any = import_module("daphne.http_protocol")
    require_methods(protocol.WebRequest, ("process", "finish"))
    websocket: Any = import_module("daphne.ws_protocol").WebSocketProtocol
    require_methods(websocket, ("serverClose", "sendCloseFrame"))
    if {"requestFactory", "WebRequest"} - names_used(protocol.HTTPFactory.buildProtocol.__code__):
        raise TypeError("HTTPFactory.buildProtocol does not set requestFactory")
    if "persistent" not in names_used(import_module("twisted.web.http").HTTPChannel.requestDone.__code__):
        raise TypeError("Twisted's HTTPChannel.requestDone does not read the attribute persistent")
    if import_module("twisted.web.http").H2_ENABLED:
        stream = import_module("twisted.web._http2").H2Stream
        if "_conn" not in names_used(stream.__init__.__code__):
            raise TypeError("Twisted's H2Stream has no _conn")


def _probe_command_line(base: Any) -> None:
    require_methods(base, ("run", "server_class"))
    if {"server_class", "parser", "parse_args"} - names_used(base.run.__code__):
        raise TypeError("CommandLineInterface.run does not use server_class and parser.parse_args")


_NAME = "mtls_middleware.servers.daphne_tls"
# The name of a class, which is the same in this module and in daphne -> (daphne's module, our mixin, the function that
# checks daphne's class).
_CLASSES: dict[str, tuple[str, type, Any]] = {
    "Server": ("daphne.server", _ServerMixin, _probe_server),
    "CommandLineInterface": ("daphne.cli", _CommandLineMixin, _probe_command_line),
}

if __name__ == "__main__":
    __getattr__("CommandLineInterface")().run(sys.argv[1:])
