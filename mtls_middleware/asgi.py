"""The ASGI gateway (ASGI 3): translate, drive, answer, attach.

Must never decide: every rule is in the core, and the WSGI gateway drives the same one.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from mtls_middleware.asgi_messages import ASGIApp, Message, Receive, Scope, Send, varying, write
from mtls_middleware.asgi_request import ASGIRequest, enter, facts_reader, leave
from mtls_middleware.asgi_websocket import watched
from mtls_middleware.binding import Binding
from mtls_middleware.effects.flow import AwaitingDriver
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.decisions import allowed, refused
from mtls_middleware.layers.interface import Layer
from mtls_middleware.layers.paths import Allow
from mtls_middleware.layers.stack import Stack
from mtls_middleware.layers.token import TokenLayer, check_without_tokens, with_published
from mtls_middleware.layers.websocket_lifetime import WebsocketLifetime
from mtls_middleware.resource_server.access_tokens import AccessTokens
from mtls_middleware.sources.source import Source
from mtls_middleware.validation.chain_validator import ChainValidator
from mtls_middleware.validity import CLOCK_SKEW, Validity

__all__ = [
    "ASGIApp",
    "CertificateBoundTokenMiddleware",
    "ClientAuthenticationMiddleware",
    "ClientCertificateMiddleware",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "protect",
]

if TYPE_CHECKING:
    from mtls_middleware.token_endpoint.authentication import ClientAuthenticator


class _Gateway:
    """Runs a stack of layers in front of one application. Adjacent middlewares are merged into one stack."""

    def __init__(self, app: ASGIApp, layer: Layer) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r} is not an ASGI application")
        self._app: ASGIApp = app
        self._layers: tuple[Layer, ...] = (layer,)
        if isinstance(app, _Gateway) and type(app).__call__ is _Gateway.__call__:
            self._app, self._layers = app._app, (layer, *app._layers)
        self._stack = Stack(self._layers, facts_reader)
        self._vary = [(b"vary", each.encode("ascii")) for each in self._stack.vary]
        self._prefixes = ApplicationPrefixes(self._app)
        self._driver = AwaitingDriver()

    @property
    def application(self) -> ASGIApp:
        """The application inside of all layers of this gateway."""
        return self._app

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of this gateway, the outermost first, as `mtls-middleware doctor` describes them."""
        return self._layers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        if kind not in ("http", "websocket"):
            raise RuntimeError(f"ASGI scope type {kind!r} is unknown here; expected 'http', 'websocket' or 'lifespan'")
        try:
            request = ASGIRequest(scope, receive, self._prefixes)
        except Exception as error:  # noqa: BLE001 (fail closed: the application is not reached)
            await write(refused(self._layers[0], error, None), scope, receive, send)
            return
        response, watch = None, None
        try:
            decided = self._stack.recall(request)
            if decided < len(self._layers):
                response = await self._driver.run(self._stack.decide(request, decided))
            if request.is_websocket:
                watch = watched(request, request.rechecks, receive, send, self._driver)
        except Exception as error:  # noqa: BLE001 (fail closed: the application is not reached)
            response = refused(request.layer, error, request)
        finally:
            request.place(self._stack.drop_headers)  # also for a rejected request, for middleware outside
        if response is not None:
            await write(response, scope, receive, send)
            return
        allowed(request.layer, request)
        send = varying(send, self._vary) if self._vary else send
        passage = request.attached.passage
        outside = enter(passage)
        try:
            await (self._app(scope, request.receive, send) if watch is None else watch.run(self._app, scope))
        finally:
            leave(passage, outside)


class ClientCertificateMiddleware(_Gateway):
    """Attach the client certificate to each request, and refuse those that must have one and have not.

    Arguments:
        app: the ASGI application.
        source: where certificates come from, one object of `mtls_middleware.sources`.
        trust_store: validates chains in this process; a certificate that does not validate is refused.
        allow: a rule of `mtls_middleware.policy`, or one for each path, `{"/admin": ..., "/": ...}`; a certificate that
            it does not allow is refused.
        required: `True`: no acceptable certificate, no application. Default: `True` where `allow` is given.
        exempt: exact decoded paths that are never rejected; `"/static/*"` covers the paths below `/static`.
        exempt_preflight: if true, a CORS preflight is never rejected. Use it if the application answers preflights.
        root_path: where the application is mounted, whatever the server says, for example `"/api"`, or `""`. Paths in
            `allow` and `exempt` are below it. The layer writes it into the scope, for the application to read.
        clock_skew: tolerance at both ends of the certificate's validity period, in seconds, 0 to 300.
        validity: `"each_request"`: a verified certificate must be within its validity period on every request, also
            over an old connection. `"handshake"`: the server or proxy checked the time when the connection began, and
            this is enough; a `trust_store` still validates at the time of the request.
        websocket_lifetime: `"certificate"`, `"credentials"`: a websocket ends with 1008 at most two seconds after its
            certificate expires, or after this process knows that it is revoked: `allow` and `trust_store` then decide
            once a second for each open websocket. `"connection"`: the middleware closes no websocket.

    Raises `ConfigurationError` at construction. Answers: 400 and 403 as JSON; a websocket is refused before accept.

    Example: `app.add_middleware(ClientCertificateMiddleware, source=Envoy(trusted_proxies=[...], shared_secret=(...)))`
    """

    def __init__(
        self,
        app: ASGIApp,
        source: Source,
        *,
        trust_store: ChainValidator | None = None,
        allow: Allow | None = None,
        required: bool | None = None,
        exempt: Collection[str] = (),
        exempt_preflight: bool = False,
        root_path: str | None = None,
        clock_skew: float = CLOCK_SKEW,
        validity: Validity = "each_request",
        websocket_lifetime: WebsocketLifetime = "certificate",
    ) -> None:
        layer = CertificateLayer(
            source,
            trust_store=trust_store,
            allow=allow,
            required=required,
            exempt=exempt,
            exempt_preflight=exempt_preflight,
            root_path=root_path,
            clock_skew=clock_skew,
            validity=validity,
            websocket_lifetime=websocket_lifetime,
        )
        super().__init__(app, layer)


class CertificateBoundTokenMiddleware(_Gateway):
    """Demand a certificate-bound access token (RFC 8705 3), inside of a `ClientCertificateMiddleware`.

    Arguments:
        app: the ASGI application.
        tokens: validates token texts, for example `JWTAccessTokens(...)`.
        scopes: scopes that every request needs.
        binding: `"required"`: an unbound token is refused. `"when_present"`: it passes as plain Bearer, `bound=False`.
        exempt: exact decoded paths that are never rejected; `"/static/*"` covers the paths below `/static`.
        exempt_preflight: if true, a CORS preflight is never rejected. Use it if the application answers preflights.
        root_path: where the application is mounted, as in `ClientCertificateMiddleware`.
        realm: parameter of the challenge (RFC 6750 3).
        resource_metadata: the https address of the resource's metadata, a parameter of the challenge (RFC 9728 5.1); or
            the document itself, as `protected_resource_metadata` makes it: the layer then serves it at its well-known
            path to whoever asks (RFC 9728 3). The certificate layer must let that path through: `exempt`.
        websocket_lifetime: `"credentials"`: a websocket ends with 1008 at most two seconds after the token expires, or
            after this process knows that the token, or the certificate that it is bound to, is revoked
            (`RevocableTokens`). No authorization server is asked again. `"certificate"`: only if that certificate is
            revoked. `"connection"`: this layer closes no websocket.

    Raises `ConfigurationError` at construction. Answers: RFC 6750 3.

    Example: `CertificateBoundTokenMiddleware(app, tokens, scopes=["invoices:read"])`
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: AccessTokens,
        *,
        scopes: Collection[str] = (),
        binding: Binding = "required",
        exempt: Collection[str] = (),
        exempt_preflight: bool = False,
        root_path: str | None = None,
        realm: str | None = None,
        resource_metadata: str | Mapping[str, Any] | None = None,
        websocket_lifetime: WebsocketLifetime = "certificate",
    ) -> None:
        layer = TokenLayer(
            tokens,
            scopes=scopes,
            binding=binding,
            exempt=exempt,
            exempt_preflight=exempt_preflight,
            root_path=root_path,
            realm=realm,
            resource_metadata=resource_metadata,
            websocket_lifetime=websocket_lifetime,
        )
        super().__init__(app, layer)


class ClientAuthenticationMiddleware(_Gateway):
    """Authenticate OAuth clients by certificate (RFC 8705 2), inside of a `ClientCertificateMiddleware`.

    Arguments:
        app: the ASGI application.
        authenticator: who the clients are, a `ClientAuthenticator`.
        paths: exact decoded paths where clients authenticate: token, introspection, revocation, pushed requests.
        root_path: where the application is mounted, as in `ClientCertificateMiddleware`.

    A POST there from a client that registered a certificate reaches the application with `oauth_client(request)`, or
    not at all. A client of another method reaches it with `None` if the request has credentials of exactly that
    method: the application verifies them. Otherwise the request is rejected. It reads the body as ever.

    Raises `ConfigurationError` at construction. Answers: RFC 6749 5.2; 405 for other methods than POST.

    Example: `ClientAuthenticationMiddleware(app, ClientAuthenticator(clients), paths=["/token", "/introspect"])`
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: "ClientAuthenticator",
        *,
        paths: Collection[str] = ("/token",),
        root_path: str | None = None,
    ) -> None:
        from mtls_middleware.layers.client import ClientLayer  # few applications are token endpoints

        super().__init__(app, ClientLayer(authenticator, paths=paths, root_path=root_path))


def protect(
    app: ASGIApp,
    *,
    source: Source,
    trust_store: ChainValidator | None = None,
    allow: Allow | None = None,
    tokens: AccessTokens | None = None,
    scopes: Collection[str] = (),
    exempt: Collection[str] = (),
    exempt_preflight: bool = False,
    root_path: str | None = None,
    resource_metadata: str | Mapping[str, Any] | None = None,
    clock_skew: float = CLOCK_SKEW,
    validity: Validity = "each_request",
    websocket_lifetime: WebsocketLifetime = "certificate",
) -> "ClientCertificateMiddleware":
    """Put the layers around `app`: the certificate layer, and the token layer inside of it if there are `tokens`.

    Arguments:
        app: the ASGI 3 application.
        source: where certificates come from, an object of `mtls_middleware.sources` (or any other `Source`).
        trust_store: validates certification paths in this process, for example `TrustStore(["clients-ca.pem"])`. A
            certificate without a valid path is rejected.
        allow: a rule of `mtls_middleware.policy`, or a mapping of path to rule, such as `{"/": rule, "/admin": ops}`. A
            certificate that the rule does not allow is rejected.
        tokens: validates access tokens, for example `JWTAccessTokens(...)`. Each token must be bound to the certificate
            of its request (RFC 8705 section 3). Without `tokens`, every request needs a verified certificate.
        scopes: the scopes that every token needs, for example `["invoices:read"]`. Only with `tokens`.
        exempt: exact decoded paths that are never rejected. `"/static/*"` covers the paths below `/static`.
        exempt_preflight: if true, a CORS preflight is never rejected. Use it if the application answers preflights.
        root_path: where the application is mounted, whatever the server says, for example `"/api"`, or `""`. Paths in
            `allow` and `exempt` are below it.
        resource_metadata: for clients without a token (RFC 9728): the address of the document, or the document itself,
            which is then served to clients without a certificate, too. Only with `tokens`.
        clock_skew: tolerance at both ends of the certificate's validity period, in seconds, 0 to 300.
        validity: `"each_request"`: a verified certificate must be within its validity period on every request, also
            over an old connection. `"handshake"`: the check at the beginning of the connection is enough.
        websocket_lifetime: when a websocket is closed, with code 1008. `"certificate"`: when its certificate expires or
            is revoked. `"credentials"`: also when its token expires or is revoked. `"connection"`: never.

    Returns the outermost layer, which is itself an ASGI application. Put it where the server or framework takes one.
    Raises `ConfigurationError` if the arguments do not fit together. Responses to rejected requests: 400, 401, 403 and
    503 as JSON, 500 for an error in the configuration.

    Example: `app = protect(app, source=ServerTLS(), allow=SpiffeTrustDomain("acme.internal"))`
    """
    if tokens is None:
        check_without_tokens(scopes=scopes, resource_metadata=resource_metadata)
        return ClientCertificateMiddleware(
            app,
            source,
            trust_store=trust_store,
            allow=allow,
            required=True,
            exempt=exempt,
            exempt_preflight=exempt_preflight,
            root_path=root_path,
            clock_skew=clock_skew,
            validity=validity,
            websocket_lifetime=websocket_lifetime,
        )
    inner = CertificateBoundTokenMiddleware(
        app,
        tokens,
        scopes=scopes,
        exempt=exempt,
        exempt_preflight=exempt_preflight,
        root_path=root_path,
        resource_metadata=resource_metadata,
        websocket_lifetime=websocket_lifetime,
    )
    return ClientCertificateMiddleware(
        inner,
        source,
        trust_store=trust_store,
        allow=allow,
        exempt=with_published(exempt, resource_metadata),
        exempt_preflight=exempt_preflight,
        root_path=root_path,
        clock_skew=clock_skew,
        validity=validity,
        websocket_lifetime=websocket_lifetime,
    )
