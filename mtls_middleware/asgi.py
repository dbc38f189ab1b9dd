"""The ASGI gateway (ASGI 3): translate, drive, answer, attach.

Must never decide: every rule is in the core, and the WSGI gateway drives the same one.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from types import GeneratorType
from typing import Any

from mtls_middleware.effects import AwaitingDriver
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.own_prefixes import OwnPrefixes
from mtls_middleware.paths import Allow, one_root
from mtls_middleware.records import allowed, refused
from mtls_middleware.refusal import Answer
from mtls_middleware.request import (
    ATTACHED_KEY,
    CERTIFICATE_KEY,
    CLIENT_KEY,
    MAX_BODY,
    TOKEN_KEY,
)
from mtls_middleware.resource_flow import (
    AccessTokens,
    CertificateLayer,
    Layer,
    Source,
    TokenLayer,
    TrustStore,
    check_without_tokens,
    document,
    does_more,
    reads_body,
    with_published,
)
from mtls_middleware.resource_server.binding import Binding
from mtls_middleware.scope import ScopeView, Shapes
from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
from mtls_middleware.token_flow import ClientLayer

# Looser than asgiref's typed dictionaries, as Starlette's are, so that every framework's application fits.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Gateway:
    """Drives its layers in front of one application: those that stand directly around each other are one gateway."""

    def __init__(self, app: ASGIApp, layer: Layer) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r} is no ASGI application")
        self._app: ASGIApp = app
        self._layers: tuple[Layer, ...] = (layer,)
        if isinstance(app, _Gateway) and type(app).__call__ is _Gateway.__call__:
            self._app, self._layers = app._app, (layer, *app._layers)
        self._shapes = Shapes(self._layers[0].drop_headers)
        further = [Shapes(each.drop_headers) if each.drop_headers else None for each in self._layers[1:]]
        self._steps = tuple(zip(self._layers, map(does_more, self._layers), (None, *further), strict=True))
        self._vary = [(b"vary", each.vary.encode("ascii")) for each in self._layers if each.vary is not None]
        one_root(each.root_path for each in self._layers)
        self._prefixes = OwnPrefixes(self._app)
        self._driver = AwaitingDriver()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        if kind not in ("http", "websocket"):
            raise RuntimeError(f"ASGI scope type {kind!r} is unknown here, and so refused (case 146)")
        layer, view = self._layers[0], None
        try:
            view = ScopeView(scope, self._shapes, self._prefixes)
            attached = view.attached
            for layer, more, shapes in self._steps:
                if shapes is not None:
                    view.part(shapes)
                if layer.root_path is not None:
                    view.mount(layer.root_path)
                if more and kind == "http":
                    if (answer := document(layer, view)) is not None:
                        await _write(answer, scope, receive, send)
                        return
                    if reads_body(layer, view):
                        view.body = await _body(receive)
                        receive = _replaying(view.body, receive)
                found = layer.decide(view)
                if type(found) is GeneratorType:
                    found = await self._driver.run(found)
                view.leave()
                setattr(attached, layer.name, found)
        except Exception as error:  # noqa: BLE001 (fail closed: whatever went wrong, the application is not reached)
            await _write(refused(layer, error, view), scope, receive, send)
            return
        inner = {
            **scope,
            "headers": view.kept,
            ATTACHED_KEY: attached,
            CERTIFICATE_KEY: attached.certificate,
            TOKEN_KEY: attached.token,
            CLIENT_KEY: attached.client,
        }
        allowed(layer, view)
        await self._app(inner, receive, _varying(send, self._vary) if self._vary else send)


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

    Raises `ConfigurationError` at construction. Answers: 400 and 403 as JSON; a websocket is refused before accept.

    Example: `app.add_middleware(ClientCertificateMiddleware, source=Envoy(trusted_proxies=[...], shared_secret=(...)))`
    """

    def __init__(
        self,
        app: ASGIApp,
        source: Source,
        *,
        trust_store: TrustStore | None = None,
        allow: Allow | None = None,
        required: bool | None = None,
        exempt: Collection[str] = (),
        exempt_preflight: bool = False,
        root_path: str | None = None,
    ) -> None:
        layer = CertificateLayer(
            source,
            trust_store=trust_store,
            allow=allow,
            required=required,
            exempt=exempt,
            exempt_preflight=exempt_preflight,
            root_path=root_path,
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
        app: the ASGI application.
        authenticator: who the clients are, a `ClientAuthenticator`.
        paths: exact decoded paths where clients authenticate: token, introspection, revocation, pushed requests.
        root_path: where the application is mounted, as in `ClientCertificateMiddleware`.

    A POST there from a client that registered a certificate reaches the application with `oauth_client(request)`, or
    not at all. Clients of other methods pass, with `None`: the application authenticates them. It reads the body as
    ever. Raises `ConfigurationError` at construction. Answers: RFC 6749 5.2; 405 for other methods than POST.

    Example: `ClientAuthenticationMiddleware(app, ClientAuthenticator(clients), paths=["/token", "/introspect"])`
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: ClientAuthenticator,
        *,
        paths: Collection[str] = ("/token",),
        root_path: str | None = None,
    ) -> None:
        super().__init__(app, ClientLayer(authenticator, paths=paths, root_path=root_path))


def protect(
    app: ASGIApp,
    *,
    source: Source,
    trust_store: TrustStore | None = None,
    allow: Allow | None = None,
    tokens: AccessTokens | None = None,
    scopes: Collection[str] = (),
    exempt: Collection[str] = (),
    exempt_preflight: bool = False,
    root_path: str | None = None,
    resource_metadata: str | Mapping[str, Any] | None = None,
) -> ASGIApp:
    """Both layers around `app`, in the right order; without `tokens` a certificate is required.

    Arguments: those of the two layers, by their names; `exempt` goes to both, `allow` to the certificate layer. The
    document of `resource_metadata` is served to clients without certificate too.

    Raises `ConfigurationError`.

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
    )


async def _body(receive: Receive) -> bytes:
    """The whole body. Raises `Refused`."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("invalid_request", "the client went away before the end of the body")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise Refused("payload_too_large", f"a body of more than {MAX_BODY} octets")
    return bytes(body)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """`receive` for the application, from the beginning of the body that we have read."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return first.pop() if first else await receive()

    return replaying


async def _write(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await receive()  # websocket.connect, to which a close is an answer; a response answers the handshake itself
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        kind = "websocket.http.response"
    headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in answer.headers]
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": b"" if scope.get("method") == "HEAD" else answer.body})


def _varying(send: Send, vary: list[tuple[bytes, bytes]]) -> Send:
    """Mark the application's responses as selected by the certificate's field (RFC 9440 2.4)."""

    async def varying(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Iterable[tuple[bytes, bytes]] = message.get("headers") or ()
            message = {**message, "headers": [*headers, *vary]}
        await send(message)

    return varying
