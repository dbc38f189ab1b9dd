"""`RequestFields`: how a proxy or server passes a test certificate to one source, for any test client."""

import hashlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.request import TESTING_KEY
from mtls_middleware.sources import vendors
from mtls_middleware.sources.api_gateway import EVENT_KEYS, AWSAPIGateway
from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.products import Envoy
from mtls_middleware.sources.server import ServerTLS
from mtls_middleware.testing.encodings import CertificatePath, base64_der, byte_sequences, der, escaped_pem, pem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from mtls_middleware.asgi_messages import ASGIApp

_PORT = 50_000  # the port of the peer, on which no decision depends
_UNIX_SOCKET = "/run/application.sock"
_EXAMPLE = 'for example Nginx(trusted_proxies=["10.0.0.7"]) or ServerTLS()'


class Connection(NamedTuple):
    """The data that a server reports about a TLS connection.

    Attributes:
        environ: keys of the WSGI environ.
        extension: the ASGI TLS extension.
        lambda_event: the event of AWS Lambda in the ASGI scope, instead of an extension.
    """

    environ: Mapping[str, Any]
    extension: Mapping[str, Any]
    lambda_event: Mapping[str, Any] | None = None


class RequestFields(dict[str, str]):
    """The header fields that a source reads for one certificate, and the rest of such a request.

    The mapping contains the header fields: those with the certificate, its chain and the verification word, and the
    field with the shared secret. For `ServerTLS`, it is empty. `IssuedCertificate.for_source` returns these objects.

    Attributes:
        peer: the address of a trusted proxy, `"unix"`, or `None` if the source does not look at the peer.

    Example: `flask_app.test_client().get("/", environ_overrides=billing.for_source(source).environ)`
    """

    def __init__(self, fields: Mapping[str, str], peer: str | None, connection: Connection | None) -> None:
        super().__init__(fields)
        self.peer = peer
        self._connection = connection

    def __repr__(self) -> str:
        return f"<RequestFields {', '.join(self)}>"  # the repr omits the values, because one value is the shared secret

    @property
    def environ(self) -> dict[str, Any]:
        """The WSGI environ keys of such a request.

        Give them to the test client of Flask or werkzeug as `environ_overrides`.
        """
        environ: dict[str, Any] = {TESTING_KEY: True, "REMOTE_ADDR": self.peer or ""}
        for name, value in self.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        if self.peer == "unix":
            environ |= {"REMOTE_ADDR": "", "gunicorn.socket": SimpleNamespace(family=socket.AF_UNIX)}
        if self._connection is not None:
            environ |= self._connection.environ
        return environ

    def wsgi(self, app: "WSGIApplication") -> "WSGIApplication":
        """Return a WSGI application that adds these fields to each request. Use it only in development and tests.

        Example: `httpx2.Client(transport=httpx2.WSGITransport(app=fields.wsgi(app)))`
        """

        def with_certificate(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            environ.update(self.environ)
            return app(environ, start_response)

        return with_certificate

    def asgi(self, app: "ASGIApp") -> "ASGIApp":
        """Return an ASGI application that adds these fields to each request. Use it only in development and tests.

        Example: `starlette.testclient.TestClient(fields.asgi(app))`
        """

        async def with_certificate(
            scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
        ) -> None:
            await app(scope if scope["type"] == "lifespan" else self.scope(scope), receive, send)

        return with_certificate

    def scope(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of an ASGI scope, with these fields. Example: `fields.scope(scope)`"""
        own = {name.lower().encode("ascii"): value.encode("ascii") for name, value in self.items()}
        kept = [(name, value) for name, value in scope["headers"] if bytes(name).lower() not in own]
        changed: dict[str, Any] = {**scope, "headers": [*kept, *own.items()]}
        if self.peer == "unix":
            changed |= {"client": None, "server": (_UNIX_SOCKET, None)}
        elif self.peer is not None:
            changed["client"] = (self.peer, _PORT)
        if self._connection is not None and self._connection.lambda_event is not None:
            changed["aws.event"] = self._connection.lambda_event
        elif self._connection is not None:
            changed["extensions"] = {**(scope.get("extensions") or {}), "tls": self._connection.extension}
        return changed


def request_fields(
    path: CertificatePath, source: object, *, verified: bool, own: Connection, proxy: Connection | None
) -> RequestFields:
    """Return the fields for a certificate. See `IssuedCertificate.for_source`.

    Arguments: `path`, the certificate and its chain; `own`, a TLS connection of the client itself; `proxy`, a TLS
    connection of the proxy.
    """
    if isinstance(source, ServerTLS):
        if proxy is not None or not verified:
            raise ConfigurationError("for ServerTLS(), use as_environ() or as_tls_extension() of the certificate")
        return RequestFields({}, None, own)
    if isinstance(source, AWSAPIGateway):
        if proxy is not None or not verified:
            raise ConfigurationError("for AWSAPIGateway(), give neither proxy= nor verified=False")
        event = _lambda_event(path)
        return RequestFields({}, None, Connection({EVENT_KEYS[0]: event, TESTING_KEY: True}, {}, event))
    if not isinstance(source, HeaderSource) or source.dialect not in _LEAVES:
        raise ConfigurationError(f"{source!r} is not a source of mtls_middleware.sources; expected {_EXAMPLE}")
    trust = source._trust
    if trust.has_proxy_rule and proxy is None:
        raise ConfigurationError("the source has proxy_certificate=: give the proxy's own certificate as proxy=")
    fields = {source._certificate_header: _certificate_field(path, source)}
    if source._chain_header is not None and len(path) > 1 and source.dialect in _CHAINS:
        fields[source._chain_header] = _CHAINS[source.dialect](path[1:])
    if source._verify_header is not None:
        succeeded, failed = _WORDS.get(source.dialect, ("SUCCESS", "FAILED:certificate has expired"))
        fields[source._verify_header] = succeeded if verified else failed
    elif not verified:
        raise ConfigurationError(f"verified=False: {source!r} reads no verification word")
    if trust._secret is not None:
        header, values = trust._secret
        fields[header] = values[0].decode("ascii")
    return RequestFields(fields, _peer(trust.trusted_proxies), proxy)


def _peer(trusted: tuple[str, ...]) -> str | None:
    """Return an address of the first trusted network."""
    if not trusted or trusted[0] == "unix":
        return "unix" if trusted else None
    return str(next(iter(ip_network(trusted[0]).hosts())))


def _lambda_event(path: CertificatePath) -> dict[str, Any]:
    """Return the part of an event of an HTTP API (format 2.0) that `AWSAPIGateway` reads."""
    certificate = {"clientCertPem": pem(path[:1])}
    context = {"domainName": "api.example.com", "apiId": "a1b2c3", "authentication": {"clientCert": certificate}}
    return {"version": "2.0", "requestContext": context}


def _certificate_field(path: CertificatePath, source: HeaderSource) -> str:
    if isinstance(source, Envoy) and source._reads_xfcc:
        element = f'Hash={hashlib.sha256(der(path[0])).hexdigest()};Cert="{escaped_pem(path[:1])}"'
        if len(path) > 1:
            element += f';Chain="{escaped_pem(path)}"'
        return ",".join([element] * ((source._hops or 0) + 1))
    return _LEAVES[source.dialect](path)


# For each product, the function that encodes a path as the certificate field of this product.
_LEAVES: Mapping[vendors.Dialect, Callable[[CertificatePath], str]] = {
    vendors.RFC9440: lambda path: byte_sequences(path[:1]),
    vendors.NGINX: lambda path: escaped_pem(path[:1]),
    vendors.APACHE: lambda path: pem(path[:1]).replace("\n", " "),
    vendors.HAPROXY: lambda path: base64_der(path[:1]),
    vendors.ENVOY_FORMATTER: lambda path: escaped_pem(path[:1]),
    vendors.TRAEFIK: lambda path: ",".join(base64_der((each,)) for each in path),
    vendors.CADDY: lambda path: base64_der(path[:1]),
    vendors.AWS_VERIFY: lambda path: escaped_pem(path[:1], unescaped="+=/"),
    vendors.AWS_PASSTHROUGH: lambda path: escaped_pem(path, unescaped="+=/"),
    vendors.GOOGLE: lambda path: byte_sequences(path[:1]),
    vendors.NETSCALER: lambda path: pem(path[:1]).replace("\n", ""),
    vendors.CLOUD_FOUNDRY: lambda path: base64_der(path[:1]),
    vendors.AZURE_GATEWAY: lambda path: escaped_pem(path[:1]),
    vendors.AZURE: lambda path: base64_der(path[:1]),
    vendors.CLOUDFLARE: lambda path: base64_der(path[:1]),
}
_CHAINS: Mapping[vendors.Dialect, Callable[[CertificatePath], str]] = {
    vendors.RFC9440: byte_sequences,
    vendors.GOOGLE: byte_sequences,
    vendors.HAPROXY: base64_der,
}
_WORDS: Mapping[vendors.Dialect, tuple[str, str]] = {
    vendors.HAPROXY: ("0", "10"),
    vendors.CLOUD_FOUNDRY: ("0", "10"),
    vendors.AZURE_GATEWAY: ("SUCCESS", "PASSTHROUGH"),
    vendors.GOOGLE: ("true", "false"),
    vendors.CLOUDFLARE: ("true", "false"),
}
