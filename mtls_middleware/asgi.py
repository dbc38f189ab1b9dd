"""The layers as ASGI middleware (ASGI 3), and `protect`, which combines them."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtls_middleware.asgi_gateway import Gateway
from mtls_middleware.asgi_messages import ASGIApp, Message, Receive, Scope, Send
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.paths import Allow
from mtls_middleware.layers.protect_arguments import check_without_tokens, requires_certificate, with_published
from mtls_middleware.layers.websocket_lifetime import WebsocketLifetime
from mtls_middleware.resource_server.bearer import Scheme
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
    from mtls_middleware.binding import Binding
    from mtls_middleware.resource_server.access_tokens import AccessTokens
    from mtls_middleware.token_endpoint.authentication import ClientAuthenticator


class ClientCertificateMiddleware(Gateway):
    """Attaches the client certificate to each request, and rejects requests without an acceptable certificate.

    Arguments:
        app: the ASGI application.
        source: finds the certificate, an object of `mtls_middleware.sources`.
        trust_store: validates certification paths in this process. A certificate without a valid path is rejected.
        allow: a rule of `mtls_middleware.policy`, or a mapping of path to rule, `{"/admin": ..., "/": ...}`. A
            certificate that the rule does not allow is rejected.
        required: whether a request without a certificate is rejected. Default: `True` if `allow` is given. If it is
            `True` without `allow`, the certificate must also be verified.
        exempt: exact decoded paths on which no request is rejected. `"/static/*"`: all paths below `/static`.
        exempt_preflight: if true, a CORS preflight is never rejected. Use it if the application answers preflights.
        root_path: where the application is mounted, for example `"/api"`, or `""`. It replaces the server's value: the
            layer writes it into the scope, where the application reads it. Paths in `allow` and `exempt` are below
            it.
        clock_skew: tolerance at both ends of the certificate's validity period, in seconds, 0 to 300.
        validity: `"each_request"`: a verified certificate must be within its validity period on every request, even on
            an old connection. `"handshake"`: only the server or proxy checks the validity period, when the connection
            begins. A `trust_store` still validates at the time of each request.
        websocket_lifetime: `"certificate"` or `"credentials"`: a websocket is closed with code 1008 at most two seconds
            after its certificate expires, or after this process knows that it is revoked. For this, `allow` and
            `trust_store` are evaluated once a second for each open websocket. `"connection"`: no websocket is closed.
        cache_size: maximum bytes of cached decisions in memory. Default: 64 MiB, for some 10,000 clients. 0: no cache.

    Raises `ConfigurationError` at construction. Responses to rejected requests: 400, 403 and 503 as JSON. A websocket
    is rejected before it is accepted.

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
        cache_size: int | None = None,
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
            cache_size=cache_size,
        )
        super().__init__(app, layer)


class CertificateBoundTokenMiddleware(Gateway):
    """Requires a certificate-bound access token (RFC 8705 3). Put it inside a `ClientCertificateMiddleware`.

    Arguments:
        app: the ASGI application.
        tokens: validates access tokens, for example `JWTAccessTokens(...)`.
        scopes: the scopes that every token must have.
        binding: `"required"`: an unbound token is rejected. `"when_present"`: an unbound token is accepted as a bearer
            token, with `bound=False`.
        exempt: exact decoded paths on which no request is rejected. `"/static/*"`: all paths below `/static`.
        exempt_preflight: if true, a CORS preflight is never rejected. Use it if the application answers preflights.
        root_path: where the application is mounted, as in `ClientCertificateMiddleware`.
        realm: the realm of the challenge in `WWW-Authenticate` (RFC 6750 3).
        schemes: the accepted authentication schemes: `"Bearer"`, and `"mtls_pop"` of Microsoft Entra ID. A token with
            the scheme `mtls_pop` must be bound, whatever `binding` is.
        resource_metadata: the https address of the resource's metadata, for the challenge (RFC 9728 5.1); or the
            metadata document, from `protected_resource_metadata`. The layer then serves this document at its
            well-known path to every client (RFC 9728 3). Add that path to `exempt=` of the certificate layer.
        websocket_lifetime: `"credentials"`: a websocket is closed with code 1008 at most two seconds after the token
            expires, or after this process knows that the token, or the certificate that it is bound to, is revoked
            (`RevocableTokens`). The token is not introspected again. `"certificate"`: a websocket is closed only if
            that certificate is revoked. `"connection"`: this layer closes no websocket.
        cache_size: maximum bytes of cached decisions in memory. Default: 64 MiB, for some 10,000 clients. 0: no cache.

    Raises `ConfigurationError` at construction. Rejected requests get the responses of RFC 6750 section 3.

    Example: `CertificateBoundTokenMiddleware(app, tokens, scopes=["invoices:read"])`
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: "AccessTokens",
        *,
        scopes: Collection[str] = (),
        binding: "Binding" = "required",
        exempt: Collection[str] = (),
        exempt_preflight: bool = False,
        root_path: str | None = None,
        realm: str | None = None,
        resource_metadata: str | Mapping[str, Any] | None = None,
        websocket_lifetime: WebsocketLifetime = "certificate",
        cache_size: int | None = None,
        schemes: Sequence[Scheme] = ("Bearer",),
    ) -> None:
        from mtls_middleware.layers.token import TokenLayer  # many applications have no access tokens

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
            cache_size=cache_size,
            schemes=schemes,
        )
        super().__init__(app, layer)


class ClientAuthenticationMiddleware(Gateway):
    """Authenticates OAuth clients by certificate (RFC 8705 2). Put it inside a `ClientCertificateMiddleware`.

    Arguments:
        app: the ASGI application.
        authenticator: a `ClientAuthenticator` with the registered clients.
        paths: exact decoded paths where clients authenticate, for example of the token, introspection and revocation
            endpoints.
        root_path: where the application is mounted, as in `ClientCertificateMiddleware`.

    A client that is registered with a certificate must authenticate with it; `oauth_client(request)` is then that
    client. For a client that is registered with another method, `oauth_client(request)` is `None`: the request must
    have credentials of exactly that method, and the application must verify them. Any other request to these paths is
    rejected. The application can read the body as usual.

    Raises `ConfigurationError` at construction. Rejected requests get the responses of RFC 6749 section 5.2, or 405 if
    the method is not POST.

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
    required: bool | None = None,
    tokens: "AccessTokens | None" = None,
    scopes: Collection[str] = (),
    binding: "Binding" = "required",
    exempt: Collection[str] = (),
    exempt_preflight: bool = False,
    root_path: str | None = None,
    realm: str | None = None,
    resource_metadata: str | Mapping[str, Any] | None = None,
    schemes: Sequence[Scheme] = ("Bearer",),
    clock_skew: float = CLOCK_SKEW,
    validity: Validity = "each_request",
    websocket_lifetime: WebsocketLifetime = "certificate",
    cache_size: int | None = None,
) -> "ClientCertificateMiddleware":
    """Wraps `app` in the certificate layer, and in the token layer if `tokens` is given.

    Arguments:
        app: the ASGI 3 application.
        source: finds the client certificate, an object of `mtls_middleware.sources` (or any other `Source`).
        trust_store: validates certification paths in this process, for example `TrustStore(["clients-ca.pem"])`. A
            certificate without a valid path is rejected.
        allow: a rule of `mtls_middleware.policy`, or a mapping of path to rule, `{"/": rule, "/admin": ops}`. A
            certificate that the rule does not allow is rejected.
        required: whether a request without a certificate is rejected. Default: `True` if `allow` is given, or if
            `tokens` is not given. If it is `True` without `allow`, the certificate must also be verified.
        tokens: validates access tokens, for example `JWTAccessTokens(...)`. Each token must be bound to the certificate
            of its request (RFC 8705 section 3).
        scopes: the scopes that every token needs, for example `["invoices:read"]`. Only with `tokens`.
        binding: `"when_present"`: an unbound token is accepted as a bearer token. Only with `tokens`.
        exempt: exact decoded paths on which no request is rejected. `"/static/*"`: all paths below `/static`.
        exempt_preflight: if true, a CORS preflight is never rejected. Use it if the application answers preflights.
        root_path: where the application is mounted, for example `"/api"`, or `""`. It replaces the server's value.
            Paths in `allow` and `exempt` are below it.
        realm: the realm of the challenge in `WWW-Authenticate`. Only with `tokens`.
        resource_metadata: the https address of the resource's metadata (RFC 9728), or the document itself, which the
            layer then serves to every client, even without a certificate. Only with `tokens`.
        schemes: the accepted authentication schemes: `"Bearer"`, and `"mtls_pop"` of Microsoft Entra ID.
        clock_skew: tolerance at both ends of the certificate's validity period, in seconds, 0 to 300.
        validity: `"each_request"`: a verified certificate must be within its validity period on every request, even on
            an old connection. `"handshake"`: only the server or proxy checks it, when the connection begins.
        websocket_lifetime: when a websocket is closed, with code 1008. `"certificate"`: when its certificate expires or
            is revoked. `"credentials"`: also when its token expires or is revoked. `"connection"`: never.
        cache_size: maximum bytes of cached decisions in memory. Default: 64 MiB, for some 10,000 clients. 0: no cache.

    Returns the outermost layer, which is itself an ASGI application. Give it to the server or framework.
    Raises `ConfigurationError` if the arguments are wrong. Responses to rejected requests: 400, 401, 403 and 503 as
    JSON, and 500 for an error in the configuration.

    Example: `app = protect(app, source=ServerTLS(), allow=SpiffeTrustDomain("acme.internal"))`
    """
    if tokens is None:
        check_without_tokens(
            scopes=scopes, resource_metadata=resource_metadata, binding=binding, realm=realm, schemes=schemes
        )
    else:
        app = CertificateBoundTokenMiddleware(
            app,
            tokens,
            scopes=scopes,
            binding=binding,
            exempt=exempt,
            exempt_preflight=exempt_preflight,
            root_path=root_path,
            realm=realm,
            resource_metadata=resource_metadata,
            schemes=schemes,
            websocket_lifetime=websocket_lifetime,
        )
    return ClientCertificateMiddleware(
        app,
        source,
        trust_store=trust_store,
        allow=allow,
        required=requires_certificate(required, tokens),
        exempt=with_published(exempt, resource_metadata),
        exempt_preflight=exempt_preflight,
        root_path=root_path,
        clock_skew=clock_skew,
        validity=validity,
        websocket_lifetime=websocket_lifetime,
        cache_size=cache_size,
    )
