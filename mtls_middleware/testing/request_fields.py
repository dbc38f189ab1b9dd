"""`RequestFields`: how a proxy or server passes a test certificate to one source, for any test client."""

import base64
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.request import TESTING_KEY
from mtls_middleware.sources import vendors
from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.products import Envoy
from mtls_middleware.sources.server import ServerTLS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from mtls_middleware.asgi_messages import ASGIApp
    from mtls_middleware.testing.issued import IssuedCertificate

_PORT = 50_000  # the port of the peer, which no decision depends on
_UNIX_SOCKET = "/run/application.sock"
_EXAMPLE = 'for example Nginx(trusted_proxies=["10.0.0.7"]) or ServerTLS()'


class RequestFields(dict[str, str]):
    """The header fields that a source reads for one certificate, and the rest of such a request.

    The mapping contains the header fields: those with the certificate, its chain and the verification word, and the
    field with the shared secret. For `ServerTLS`, it is empty. `IssuedCertificate.for_source` returns these objects.

    Attributes:
        peer: the address of a trusted proxy, `"unix"`, or `None` if the source does not look at the peer.

    Example: `flask_app.test_client().get("/", environ_overrides=billing.for_source(source).environ)`
    """

    def __init__(self, fields: Mapping[str, str], peer: str | None, connection: "IssuedCertificate | None") -> None:
        super().__init__(fields)
        self.peer = peer
        self._connection = connection  # the certificate that the server itself reports

    @property
    def environ(self) -> dict[str, Any]:
        """The WSGI environ keys of such a request.

        Give them to Flask's or werkzeug's test client as `environ_overrides`, or to Django's as keyword arguments of
        `mtls_middleware.testing.django.Client`.
        """
        environ: dict[str, Any] = {TESTING_KEY: True, "REMOTE_ADDR": self.peer or ""}
        for name, value in self.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        if self.peer == "unix":
            environ |= {"REMOTE_ADDR": "", "gunicorn.socket": SimpleNamespace(family=socket.AF_UNIX)}
        if self._connection is not None:
            environ |= self._connection.as_environ()
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
            await app(scope if scope["type"] == "lifespan" else self._scope(scope), receive, send)

        return with_certificate

    def _scope(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        own = {name.lower().encode("ascii"): value.encode("ascii") for name, value in self.items()}
        kept = [(name, value) for name, value in scope["headers"] if bytes(name).lower() not in own]
        changed: dict[str, Any] = {**scope, "headers": [*kept, *own.items()]}
        if self.peer == "unix":
            changed |= {"client": None, "server": (_UNIX_SOCKET, None)}
        elif self.peer is not None:
            changed["client"] = (self.peer, _PORT)
        if self._connection is not None:
            changed["extensions"] = {**(scope.get("extensions") or {}), "tls": self._connection.as_tls_extension()}
        return changed


def request_fields(
    client: "IssuedCertificate", source: object, *, verified: bool, proxy: "IssuedCertificate | None"
) -> RequestFields:
    """Return the fields for `client`. See `IssuedCertificate.for_source`."""
    if isinstance(source, ServerTLS):
        if proxy is not None or not verified:
            raise ConfigurationError("for ServerTLS(), use as_environ() or as_tls_extension() of the certificate")
        return RequestFields({}, None, client)
    if not isinstance(source, HeaderSource) or source.dialect not in _LEAVES:
        raise ConfigurationError(f"{source!r} is not a source of mtls_middleware.sources; expected {_EXAMPLE}")
    trust = source._trust
    if trust.has_proxy_rule and proxy is None:
        raise ConfigurationError("the source has proxy_certificate=: give the proxy's own certificate as proxy=")
    fields = {source._certificate_header: _certificate_field(client, source)}
    if source._chain_header is not None and client.chain and source.dialect in _CHAINS:
        fields[source._chain_header] = _CHAINS[source.dialect](client)
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


def _certificate_field(client: "IssuedCertificate", source: HeaderSource) -> str:
    if isinstance(source, Envoy) and source._reads_xfcc:
        element = f'Hash={client.digest};Cert="{_quoted(client.pem)}"'
        if client.chain:
            element += f';Chain="{_quoted(client.chain_pem)}"'
        return ",".join([element] * ((source._hops or 0) + 1))
    return _LEAVES[source.dialect](client)


def _der(certificate: Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _byte_sequence(certificate: Certificate) -> str:
    return f":{_base64(_der(certificate))}:"  # RFC 9651 3.3.5


def _byte_sequences(client: "IssuedCertificate") -> str:
    return ", ".join(map(_byte_sequence, client.chain))


def _quoted(pem: str) -> str:
    # Like quote(), nginx and Envoy escape all but the unreserved characters of RFC 3986.
    return quote(pem, safe="")


def _quoted_by_aws(pem: str) -> str:
    return quote(pem, safe="+=/")


# How each product encodes the certificate, its chain, and its words for success and failure.
_Encode = Callable[["IssuedCertificate"], str]
_LEAVES: Mapping[vendors.Dialect, _Encode] = {
    vendors.RFC9440: lambda client: _byte_sequence(client.x509),
    vendors.NGINX: lambda client: _quoted(client.pem),
    vendors.APACHE: lambda client: client.pem.replace("\n", " "),
    vendors.HAPROXY: lambda client: _base64(client.der),
    vendors.ENVOY_FORMATTER: lambda client: _quoted(client.pem),
    vendors.TRAEFIK: lambda client: ",".join(_base64(_der(each)) for each in (client.x509, *client.chain)),
    vendors.CADDY: lambda client: _base64(client.der),
    vendors.AWS_VERIFY: lambda client: _quoted_by_aws(client.pem),
    vendors.AWS_PASSTHROUGH: lambda client: _quoted_by_aws(client.chain_pem),
    vendors.GOOGLE: lambda client: _byte_sequence(client.x509),
    vendors.AZURE: lambda client: _base64(client.der),
    vendors.CLOUDFLARE: lambda client: _base64(client.der),
}
_CHAINS: Mapping[vendors.Dialect, _Encode] = {
    vendors.RFC9440: _byte_sequences,
    vendors.GOOGLE: _byte_sequences,
    vendors.HAPROXY: lambda client: _base64(b"".join(map(_der, client.chain))),
}
_WORDS: Mapping[vendors.Dialect, tuple[str, str]] = {
    vendors.HAPROXY: ("0", "10"),
    vendors.GOOGLE: ("true", "false"),
    vendors.CLOUDFLARE: ("true", "false"),
}
