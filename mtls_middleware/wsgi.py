"""The WSGI gateway (PEP 3333): translate, drive, answer, attach.

Must never decide: every rule is in the core, and the ASGI gateway drives the same one.
"""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from mtls_middleware.binding import Binding
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.layers.attached import Passage
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.decisions import allowed, refused
from mtls_middleware.layers.interface import Layer
from mtls_middleware.layers.paths import Allow
from mtls_middleware.layers.stack import Stack
from mtls_middleware.layers.token import TokenLayer, check_without_tokens, with_published
from mtls_middleware.resource_server.access_tokens import AccessTokens
from mtls_middleware.sources.source import Source
from mtls_middleware.validation.chain_validator import ChainValidator
from mtls_middleware.validity import CLOCK_SKEW, Validity
from mtls_middleware.wsgi_messages import varying, write
from mtls_middleware.wsgi_request import WSGIRequest, facts_reader, keys

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from mtls_middleware.token_endpoint.authentication import ClientAuthenticator


class _Gateway:
    """Runs a stack of layers in front of one application. Adjacent middlewares are merged into one stack."""

    def __init__(self, app: "WSGIApplication", layer: Layer) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r} is not a WSGI application")
        self._app: WSGIApplication = app
        self._layers: tuple[Layer, ...] = (layer,)
        if isinstance(app, _Gateway) and type(app).__call__ is _Gateway.__call__:
            self._app, self._layers = app._app, (layer, *app._layers)
        self._stack = Stack(self._layers, facts_reader)
        self._drop = keys(self._stack.drop_headers)
        self._vary = [("Vary", each) for each in self._stack.vary]
        self._prefixes = ApplicationPrefixes(self._app)
        self._driver = BlockingDriver()

    @property
    def application(self) -> "WSGIApplication":
        """The application inside of all layers of this gateway."""
        return self._app

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of this gateway, the outermost first, as `mtls-middleware doctor` describes them."""
        return self._layers

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        try:
            request = WSGIRequest(environ, start_response, self._prefixes)
        except Exception as error:  # noqa: BLE001 (fail closed: the application is not reached)
            return write(refused(self._layers[0], error, None), environ, start_response)
        response = None
        try:
            decided = self._stack.recall(request)
            if decided < len(self._layers):
                response = self._driver.run(self._stack.decide(request, decided))
        except Exception as error:  # noqa: BLE001 (fail closed: the application is not reached)
            response = refused(request.layer, error, request)
        finally:
            request.place(self._drop)  # also for a rejected request, for middleware outside
        if response is not None:
            return write(response, environ, start_response)
        allowed(request.layer, request)
        passage = request.attached.passage
        passage.running = True
        try:
            body = self._app(environ, varying(start_response, self._vary) if self._vary else start_response)
        finally:
            passage.running = False
        # A generator may call further layers while it is read.
        return _Running(body, passage) if type(body) is GeneratorType else body


class _Running:
    """A response that a generator produces. The application of the passage is running while it produces each part."""

    def __init__(self, response: Generator[bytes, Any, Any], passage: Passage) -> None:
        self._response, self._passage = response, passage

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._passage.running = True
        try:
            return next(self._response)
        finally:
            self._passage.running = False

    def close(self) -> None:
        self._passage.running = True
        try:
            self._response.close()
        finally:
            self._passage.running = False


class ClientCertificateMiddleware(_Gateway):
    """Attach the client certificate to each request, and refuse those that must have one and have not.

    Arguments:
        app: the WSGI application.
        source: where certificates come from, one object of `mtls_middleware.sources`.
        trust_store: validates chains in this process; a certificate that does not validate is refused.
        allow: a rule of `mtls_middleware.policy`, or one for each path, `{"/admin": ..., "/": ...}`; a certificate that
            it does not allow is refused.
        required: `True`: no acceptable certificate, no application. Default: `True` where `allow` is given.
        exempt: exact decoded paths that are never rejected; `"/static/*"` covers the paths below `/static`.
        exempt_preflight: if true, a CORS preflight is never rejected. Use it if the application answers preflights.
        root_path: where the application is mounted, whatever the server says, for example `"/api"`, or `""`. Paths in
            `allow` and `exempt` are below it. The layer writes it into the environ, for the application to read.
        clock_skew: tolerance at both ends of the certificate's validity period, in seconds, 0 to 300.
        validity: `"each_request"`: a verified certificate must be within its validity period on every request, also
            over an old connection. `"handshake"`: the server or proxy checked the time when the connection began, and
            this is enough; a `trust_store` still validates at the time of the request.

    Raises `ConfigurationError` at construction. Answers: 400 and 403 as JSON.

    Example: `app = ClientCertificateMiddleware(app, Nginx(trusted_proxies=[...], shared_secret=(...)))`
    """

    def __init__(
        self,
        app: "WSGIApplication",
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
        )
        super().__init__(app, layer)


class CertificateBoundTokenMiddleware(_Gateway):
    """Demand a certificate-bound access token (RFC 8705 3), inside of a `ClientCertificateMiddleware`.

    Arguments:
        app: the WSGI application.
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

    Raises `ConfigurationError` at construction. Answers: RFC 6750 3.

    Example: `CertificateBoundTokenMiddleware(app, tokens, scopes=["invoices:read"])`
    """

    def __init__(
        self,
        app: "WSGIApplication",
        tokens: AccessTokens,
        *,
        scopes: Collection[str] = (),
        binding: Binding = "required",
        exempt: Collection[str] = (),
        exempt_preflight: bool = False,
        root_path: str | None = None,
        realm: str | None = None,
        resource_metadata: str | Mapping[str, Any] | None = None,
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
        )
        super().__init__(app, layer)


class ClientAuthenticationMiddleware(_Gateway):
    """Authenticate OAuth clients by certificate (RFC 8705 2), inside of a `ClientCertificateMiddleware`.

    Arguments:
        app: the WSGI application.
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
        app: "WSGIApplication",
        authenticator: "ClientAuthenticator",
        *,
        paths: Collection[str] = ("/token",),
        root_path: str | None = None,
    ) -> None:
        from mtls_middleware.layers.client import ClientLayer  # few applications are token endpoints

        super().__init__(app, ClientLayer(authenticator, paths=paths, root_path=root_path))


def protect(
    app: "WSGIApplication",
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
) -> "ClientCertificateMiddleware":
    """Put the layers around `app`: the certificate layer, and the token layer inside of it if there are `tokens`.

    Arguments:
        app: the WSGI (PEP 3333) application.
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

    Returns the outermost layer, which is itself a WSGI application. Put it where the server or framework takes one.
    Raises `ConfigurationError` if the arguments do not fit together. Responses to rejected requests: 400, 401, 403 and
    503 as JSON, 500 for an error in the configuration.

    Example: `app.wsgi_app = protect(app.wsgi_app, source=ServerTLS(), allow=SpiffeTrustDomain("acme.internal"))`
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
        )
    inner = CertificateBoundTokenMiddleware(
        app,
        tokens,
        scopes=scopes,
        exempt=exempt,
        exempt_preflight=exempt_preflight,
        root_path=root_path,
        resource_metadata=resource_metadata,
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
    )
