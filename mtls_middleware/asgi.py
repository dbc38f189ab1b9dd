"""The ASGI gateway (ASGI 3): translate, drive, answer, attach.

Must never decide: every rule is in the core, and the WSGI gateway drives the same one.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from dataclasses import replace
from typing import Any

from mtls_middleware.effects import AwaitingDriver
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.paths import Allow
from mtls_middleware.refusal import Answer
from mtls_middleware.request import (
    ATTACHED_KEY,
    CERTIFICATE_KEY,
    CLIENT_KEY,
    MAX_BODY,
    TOKEN_KEY,
    Attached,
    Peer,
    RequestView,
    TLSFacts,
)
from mtls_middleware.resource_flow import AccessTokens, CertificateLayer, Layer, Source, TokenLayer, TrustStore, refuse
from mtls_middleware.resource_server.binding import Binding
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
from mtls_middleware.token_flow import ClientLayer

# Looser than asgiref's typed dictionaries, as Starlette's are, so that every framework's application fits.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Gateway:
    """Drives one layer in front of one application."""

    def __init__(self, app: ASGIApp, layer: Layer) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r} is no ASGI application")
        self._app = app
        self._layer = layer
        self._driver = AwaitingDriver()
        self._drop = frozenset(name.upper() for name in KNOWN_HEADERS | layer.drop_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError(f"ASGI scope type {scope['type']!r} is unknown here, and so refused (case 146)")
        view = None
        try:
            # ASGI: iterables of iterables, so each of them is read this once.
            pairs = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
            view = _view(scope, pairs)
            if scope["type"] == "http" and view.method == "POST" and view.path in self._layer.body_paths:
                body = await _body(receive)
                view, receive = replace(view, body=body), _replaying(body, receive)
            attached = await self._driver.run(self._layer.decide(view))
        except Exception as error:  # noqa: BLE001 (fail closed: whatever went wrong, the application is not reached)
            await _write(refuse(self._layer, error, view), scope, receive, send)
            return
        inner = dict(scope)
        inner["headers"] = [pair for pair in pairs if _folded(pair[0]) not in self._drop]
        inner[ATTACHED_KEY] = attached
        inner[CERTIFICATE_KEY] = attached.certificate
        inner[TOKEN_KEY] = attached.token
        inner[CLIENT_KEY] = attached.client
        await self._app(inner, receive, _varying(send, self._layer.vary))


class ClientCertificateMiddleware(_Gateway):
    """Attach the client certificate to each request, and refuse those that must have one and have not.

    Arguments:
        app: the ASGI application.
        source: where certificates come from, one object of `mtls_middleware.sources`.
        trust_store: validates chains in this process; a certificate that does not validate is refused.
        allow: a rule of `mtls_middleware.policy`, or one for each path, `{"/admin": ..., "/": ...}`; a certificate that
            it does not allow is refused.
        required: `True`: no acceptable certificate, no application. Default: `True` where `allow` is given.
        exempt: exact decoded paths that are never refused.

    Raises `ConfigurationError` at construction. Answers: 400 and 403 as JSON; a websocket is refused before accept.

    Example: `app.add_middleware(ClientCertificateMiddleware, source=Envoy(trusted_proxies=["10.0.0.0/8"]))`
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
    ) -> None:
        layer = CertificateLayer(source, trust_store=trust_store, allow=allow, required=required, exempt=exempt)
        super().__init__(app, layer)


class CertificateBoundTokenMiddleware(_Gateway):
    """Demand a certificate-bound access token (RFC 8705 3), inside of a `ClientCertificateMiddleware`.

    Arguments:
        app: the ASGI application.
        tokens: validates token texts, for example `JWTAccessTokens(...)`.
        scopes: scopes that every request needs.
        binding: `"required"`: an unbound token is refused. `"when_present"`: it passes as plain Bearer, `bound=False`.
        exempt: exact decoded paths that are never refused.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1).

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
        realm: str | None = None,
        resource_metadata: str | None = None,
    ) -> None:
        layer = TokenLayer(
            tokens, scopes=scopes, binding=binding, exempt=exempt, realm=realm, resource_metadata=resource_metadata
        )
        super().__init__(app, layer)


class ClientAuthenticationMiddleware(_Gateway):
    """Authenticate OAuth clients by certificate (RFC 8705 2), inside of a `ClientCertificateMiddleware`.

    Arguments:
        app: the ASGI application.
        authenticator: who the clients are, a `ClientAuthenticator`.
        paths: exact decoded paths where clients authenticate: token, introspection, revocation, pushed requests.

    A POST there from a client that registered a certificate reaches the application with `oauth_client(request)`, or
    not at all. Clients of other methods pass, with `None`: the application authenticates them. It reads the body as
    ever. Raises `ConfigurationError` at construction. Answers: RFC 6749 5.2; 405 for other methods than POST.

    Example: `ClientAuthenticationMiddleware(app, ClientAuthenticator(clients), paths=["/token", "/introspect"])`
    """

    def __init__(
        self, app: ASGIApp, authenticator: ClientAuthenticator, *, paths: Collection[str] = ("/token",)
    ) -> None:
        super().__init__(app, ClientLayer(authenticator, paths=paths))


def protect(
    app: ASGIApp,
    *,
    source: Source,
    trust_store: TrustStore | None = None,
    allow: Allow | None = None,
    tokens: AccessTokens | None = None,
    scopes: Collection[str] = (),
    exempt: Collection[str] = (),
) -> ASGIApp:
    """Both layers around `app`, in the right order; without `tokens` a certificate is required.

    Raises `ConfigurationError`.

    Example: `app = protect(app, source=ServerTLS(), allow=SpiffeTrustDomain("acme.internal"))`
    """
    if tokens is None:
        if scopes:
            raise ConfigurationError(f"scopes={scopes!r} without tokens=: scopes are read from access tokens")
        inner, required = app, True
    else:
        inner, required = CertificateBoundTokenMiddleware(app, tokens, scopes=scopes, exempt=exempt), None
    return ClientCertificateMiddleware(
        inner, source, trust_store=trust_store, allow=allow, required=required, exempt=exempt
    )


def _folded(name: bytes) -> str:
    """A field's name as applications fold it, Django and WSGI adapters among them (A02): the octet DF becomes SS."""
    return name.decode("latin-1").upper().replace("_", "-")


def _view(scope: Scope, pairs: list[tuple[bytes, bytes]]) -> RequestView:
    def headers(name: str) -> list[str]:
        wanted = name.encode("ascii")  # with dashes: x_ssl_client_cert is another field here (case 007)
        return [value.decode("latin-1") for key, value in pairs if key.lower() == wanted]

    attached = scope.get(ATTACHED_KEY)
    extensions = scope.get("extensions") or {}
    root_path, path = scope.get("root_path", ""), scope["path"]
    return RequestView(
        method=scope.get("method", "GET"),  # a websocket's handshake is a GET
        path=path[len(root_path) :] if root_path and f"{path}/".startswith(f"{root_path}/") else path,
        query=bytes(scope.get("query_string", b"")).decode("latin-1"),
        headers=headers,
        peer=_peer(scope, headers),
        tls=TLSFacts(extension=extensions.get("tls")),
        attached=attached if isinstance(attached, Attached) else None,
        now=time.time(),
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


def _peer(scope: Scope, headers: Callable[[str], list[str]]) -> Peer:
    client, server = scope.get("client"), scope.get("server")
    address, port = (client[0], client[1]) if client else (None, None)
    if not address:
        match server:
            case (str(path), None) if path:  # ASGI: the server's own socket path, and no client (case 017)
                return Peer(unix=True)
        return Peer()
    rewritten = (
        "the peer's address seems to come from X-Forwarded-For, which no trust can rest on: run uvicorn with "
        "--no-proxy-headers (FORWARDED_ALLOW_IPS=''), and the like for other servers, or use a shared_secret= alone"
    )
    # Whoever rewrites `client` leaves the header, and gives port 0 (uvicorn, hypercorn, granian) or the header's port
    # (uvicorn from 0.54). A bare address that is the peer's own proves nothing: a client on the proxy's host has it.
    forwarded = [each.strip() for line in headers("x-forwarded-for") for each in line.split(",")]
    if not port or any(each.startswith((f"{address}:", f"[{address}]:")) for each in forwarded):
        return Peer(address=address, doubt=rewritten)
    return Peer(address=address)


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


def _varying(send: Send, name: str | None) -> Send:
    """Mark the application's responses as selected by the certificate's field (RFC 9440 2.4)."""
    if name is None:
        return send
    vary = (b"vary", name.encode("ascii"))

    async def varying(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Iterable[tuple[bytes, bytes]] = message.get("headers") or ()
            message = {**message, "headers": [*headers, vary]}
        await send(message)

    return varying
