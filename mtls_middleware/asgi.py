"""The ASGI gateway (ASGI 3): translate, drive, answer, attach.

Must never decide: every rule is in the core, and the WSGI gateway drives the same one.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from functools import lru_cache
from typing import Any

from mtls_middleware.effects import AwaitingDriver
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.paths import Allow
from mtls_middleware.records import allowed, refused
from mtls_middleware.refusal import Answer
from mtls_middleware.request import (
    ATTACHED_KEY,
    CERTIFICATE_KEY,
    CLIENT_KEY,
    MAX_BODY,
    TOKEN_KEY,
    Attached,
    Peer,
    TLSFacts,
)
from mtls_middleware.resource_flow import AccessTokens, CertificateLayer, Layer, Source, TokenLayer, TrustStore
from mtls_middleware.resource_server.binding import Binding
from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
from mtls_middleware.token_flow import ClientLayer

# Looser than asgiref's typed dictionaries, as Starlette's are, so that every framework's application fits.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


Pair = tuple[bytes, bytes]


class _View:
    """A `RequestView` of a scope. `kept`: the headers that the application may see."""

    __slots__ = ("_drop", "_dropped", "_scope", "attached", "body", "kept", "now")

    def __init__(self, scope: Scope, names: "_Names | None") -> None:
        self._scope = scope
        attached = scope.get(ATTACHED_KEY)
        self.attached = attached if isinstance(attached, Attached) else None
        self.now = time.time()
        self.body = b""
        self._drop: frozenset[str] = frozenset()
        self._dropped: list[Pair] = []
        if names is not None:
            self._drop = names.drop
            self.kept, self._dropped = names.parted(scope["headers"])
        else:  # an outer layer of ours has parted them, or there is none, and so no decision either
            self.kept = scope["headers"]

    @property
    def method(self) -> str:
        found: str = self._scope.get("method", "GET")  # a websocket's handshake is a GET
        return found

    @property
    def path(self) -> str:
        root, path = self._scope.get("root_path", ""), self._scope["path"]
        inner: str = path[len(root) :] if root and f"{path}/".startswith(f"{root}/") else path
        return inner

    @property
    def query(self) -> str:
        given = self._scope.get("query_string")
        return bytes(given).decode("latin-1") if given else ""

    @property
    def peer(self) -> Peer:
        client = self._scope.get("client")
        if not client or not client[0]:
            return _unnamed(self._scope.get("server"))
        address, port = client[0], client[1]
        forwarded = self.headers("x-forwarded-for")
        return Peer(address) if port and not forwarded else _maybe_rewritten(address, port, forwarded)

    @property
    def tls(self) -> TLSFacts:
        return TLSFacts(extension=(self._scope.get("extensions") or {}).get("tls"))

    @property
    def spoofable(self) -> None:
        return None  # names come as they were sent

    def headers(self, name: str) -> list[str]:
        wanted = name.encode("ascii")  # with dashes: x_ssl_client_cert is another field here (case 007)
        pairs = self._dropped if name in self._drop else self.kept
        return [value.decode("latin-1") for key, value in pairs if key.lower() == wanted]


class _Names:
    """Which fields are kept from the application, in every spelling that applications fold to one of them."""

    def __init__(self, drop: frozenset[str]) -> None:
        self.drop = drop
        folded = {_folded(name.encode("ascii")) for name in drop}
        # Clients may send any names; those of real requests are some hundred.
        self._is_dropped = lru_cache(maxsize=1024)(lambda name: _folded(name) in folded)

    def parted(self, headers: Iterable[Iterable[Any]]) -> tuple[list[Pair], list[Pair]]:
        """Those that are kept, and the others. ASGI: iterables of iterables, so each of them is read this once."""
        kept: list[Pair] = []
        dropped: list[Pair] = []
        is_dropped = self._is_dropped
        for name, value in headers:
            pair = (name, value) if type(name) is type(value) is bytes else (bytes(name), bytes(value))
            (dropped if is_dropped(pair[0]) else kept).append(pair)
        return kept, dropped


class _Gateway:
    """Drives one layer in front of one application."""

    def __init__(self, app: ASGIApp, layer: Layer) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r} is no ASGI application")
        self._app = app
        self._layer = layer
        self._is_last = not isinstance(app, _Gateway)  # of ours: the one that tells that a request was let through
        self._driver = AwaitingDriver()
        self._names = _Names(layer.drop_headers) if layer.drop_headers else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError(f"ASGI scope type {scope['type']!r} is unknown here, and so refused (case 146)")
        layer, view = self._layer, None
        try:
            view = _View(scope, self._names)
            if layer.body_paths and scope["type"] == "http" and view.method == "POST" and view.path in layer.body_paths:
                view.body = await _body(receive)
                receive = _replaying(view.body, receive)
            decided = layer.decide(view)
            attached = decided if isinstance(decided, Attached) else await self._driver.run(decided)
        except Exception as error:  # noqa: BLE001 (fail closed: whatever went wrong, the application is not reached)
            await _write(refused(layer, error, view), scope, receive, send)
            return
        inner = dict(scope)
        inner["headers"] = view.kept
        inner[ATTACHED_KEY] = attached
        inner[CERTIFICATE_KEY] = attached.certificate
        inner[TOKEN_KEY] = attached.token
        inner[CLIENT_KEY] = attached.client
        if self._is_last:
            allowed(layer, view, attached)
        await self._app(inner, receive, send if layer.vary is None else _varying(send, layer.vary))


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


def _unnamed(server: Any) -> Peer:
    """A peer without address: on a unix socket, where the server says so."""
    match server:
        case (str(path), None) if path:  # ASGI: the server's own socket path, and no client (case 017)
            return Peer(unix=True)
    return Peer()


def _maybe_rewritten(address: Any, port: Any, forwarded: list[str]) -> Peer:
    """Whoever rewrites `client` leaves the header, and gives port 0 (uvicorn, hypercorn, granian) or the header's port
    (uvicorn from 0.54). A bare address that is the peer's own proves nothing: a client on the proxy's host has it.
    """
    each = (part.strip() for line in forwarded for part in line.split(","))
    if port and not any(part.startswith((f"{address}:", f"[{address}]:")) for part in each):
        return Peer(address)
    return Peer(
        address,
        doubt="the peer's address seems to come from X-Forwarded-For, which no trust can rest on: run uvicorn with "
        "--no-proxy-headers (FORWARDED_ALLOW_IPS=''), and the like for other servers, or use a shared_secret= alone",
    )


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


def _varying(send: Send, name: str) -> Send:
    """Mark the application's responses as selected by the certificate's field (RFC 9440 2.4)."""
    vary = (b"vary", name.encode("ascii"))

    async def varying(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Iterable[tuple[bytes, bytes]] = message.get("headers") or ()
            message = {**message, "headers": [*headers, vary]}
        await send(message)

    return varying
