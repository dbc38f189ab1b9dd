"""The WSGI gateway (PEP 3333): translate, drive, answer, attach.

Must never decide: every rule is in the core, and the ASGI gateway drives the same one.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mtls_middleware.effects import BlockingDriver
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
from mtls_middleware.sources.server import is_unix
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
from mtls_middleware.token_flow import ClientLayer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Where a header with underscores silently takes the place of the real one, or stands in for it where the proxy wrote
# none (wsgiref, uWSGI), as measured: a forgery cannot be told from the proxy's word (case 005). By the beginning of
# SERVER_SOFTWARE, lower case; uWSGI has none, but says its version.
_SPOOFABLE = ("cheroot", "granian", "uwsgi", "wsgiserver")


def _environ_keys(names: Iterable[str]) -> frozenset[str]:
    """CGI folds dashes and underscores into one name, so one key removes every twin; uWSGI keeps a trailing blank."""
    folded = {"HTTP_" + name.upper().replace("-", "_") for name in names}
    return frozenset(folded | {key + " " for key in folded})


class _Gateway:
    """Drives one layer in front of one application."""

    def __init__(self, app: "WSGIApplication", layer: Layer) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r} is no WSGI application")
        self._app = app
        self._layer = layer
        self._driver = BlockingDriver()
        self._drop = _environ_keys(KNOWN_HEADERS | layer.drop_headers)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        view = None
        try:
            view = _view(environ)
            if view.method == "POST" and view.path in self._layer.body_paths:
                view = replace(view, body=_body(environ))
            attached = self._driver.run(self._layer.decide(view))
        except Exception as error:  # noqa: BLE001 (fail closed: whatever went wrong, the application is not reached)
            return _write(refuse(self._layer, error, view), environ, start_response)
        for key in environ.keys() & self._drop:
            del environ[key]
        environ[ATTACHED_KEY] = attached
        environ[CERTIFICATE_KEY] = attached.certificate
        environ[TOKEN_KEY] = attached.token
        environ[CLIENT_KEY] = attached.client
        return self._app(environ, _varying(start_response, self._layer.vary))


class ClientCertificateMiddleware(_Gateway):
    """Attach the client certificate to each request, and refuse those that must have one and have not.

    Arguments:
        app: the WSGI application.
        source: where certificates come from, one object of `mtls_middleware.sources`.
        trust_store: validates chains in this process; a certificate that does not validate is refused.
        allow: a rule of `mtls_middleware.policy`, or one for each path, `{"/admin": ..., "/": ...}`; a certificate that
            it does not allow is refused.
        required: `True`: no acceptable certificate, no application. Default: `True` where `allow` is given.
        exempt: exact decoded paths that are never refused.

    Raises `ConfigurationError` at construction. Answers: 400 and 403 as JSON.

    Example: `app.wsgi_app = ClientCertificateMiddleware(app.wsgi_app, Nginx(trusted_proxies=["10.0.0.0/8"]))`
    """

    def __init__(
        self,
        app: "WSGIApplication",
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
        app: the WSGI application.
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
        app: "WSGIApplication",
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
        app: the WSGI application.
        authenticator: who the clients are, a `ClientAuthenticator`.
        paths: exact decoded paths where clients authenticate: token, introspection, revocation, pushed requests.

    A POST there from a client that registered a certificate reaches the application with `oauth_client(request)`, or
    not at all. Clients of other methods pass, with `None`: the application authenticates them. It reads the body as
    ever. Raises `ConfigurationError` at construction. Answers: RFC 6749 5.2; 405 for other methods than POST.

    Example: `ClientAuthenticationMiddleware(app, ClientAuthenticator(clients), paths=["/token", "/introspect"])`
    """

    def __init__(
        self, app: "WSGIApplication", authenticator: ClientAuthenticator, *, paths: Collection[str] = ("/token",)
    ) -> None:
        super().__init__(app, ClientLayer(authenticator, paths=paths))


def protect(
    app: "WSGIApplication",
    *,
    source: Source,
    trust_store: TrustStore | None = None,
    allow: Allow | None = None,
    tokens: AccessTokens | None = None,
    scopes: Collection[str] = (),
    exempt: Collection[str] = (),
) -> "WSGIApplication":
    """Both layers around `app`, in the right order; without `tokens` a certificate is required.

    Raises `ConfigurationError`.

    Example: `app.wsgi_app = protect(app.wsgi_app, source=ServerTLS(), allow=SpiffeTrustDomain("acme.internal"))`
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


def _view(environ: "WSGIEnvironment") -> RequestView:
    def headers(name: str) -> tuple[str, ...]:
        key = name.upper().replace("-", "_")
        value = environ.get(key if key == "CONTENT_TYPE" else "HTTP_" + key)  # RFC 3875 4.1.3
        return () if value is None else (value,)

    attached = environ.get(ATTACHED_KEY)
    software = "uWSGI" if "uwsgi.version" in environ else str(environ.get("SERVER_SOFTWARE", ""))
    return RequestView(
        method=environ.get("REQUEST_METHOD", ""),
        path=_path(environ),
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        peer=_peer(environ),
        tls=TLSFacts(environ=environ),
        attached=attached if isinstance(attached, Attached) else None,
        now=time.time(),
        spoofable=(
            f"{software} lets a client's X_SSL_Client_Cert pass for the proxy's X-SSL-Client-Cert unseen: use another "
            "server; or have the proxy delete all names with underscores, and give the source a shared_secret= for that"
            if software.lower().startswith(_SPOOFABLE)
            else None
        ),
    )


def _body(environ: "WSGIEnvironment") -> bytes:
    """The whole body, left readable for the application. Raises `Refused`."""
    given = environ.get("CONTENT_LENGTH") or ""
    if given:
        if not (given.isascii() and given.isdigit()):
            raise Refused("invalid_request", "CONTENT_LENGTH is no number")
        length = int(given[:20])
    else:  # chunked, where the server says that the body has an end; otherwise there is none (PEP 3333)
        length = MAX_BODY + 1 if environ.get("wsgi.input_terminated") else 0
    if given and length > MAX_BODY:
        raise Refused("payload_too_large", f"a body of {length} octets, {MAX_BODY} are read")
    body = bytearray()
    try:
        while len(body) < length and (more := environ["wsgi.input"].read(length - len(body))):
            body += more
    except OSError as error:  # so say uWSGI, mod_wsgi and gunicorn that the client went away, or broke its chunks
        raise Refused("invalid_request", f"a body that breaks off ({type(error).__name__})") from None
    if len(body) > MAX_BODY:
        raise Refused("payload_too_large", f"a body of more than {MAX_BODY} octets")
    if given and len(body) < length:
        raise Refused("invalid_request", "a body that ends early")
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))  # Django reads no body without it
    return bytes(body)


def _path(environ: "WSGIEnvironment") -> str:
    """The decoded path: PEP 3333 lays its octets out as latin-1, applications and ASGI read them as UTF-8.

    Octets that are no UTF-8 become U+FFFD, as they do there: left as latin-1, "/caf%E9" would be the path "/café" here
    and another one to the application.
    """
    path: str = environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


def _peer(environ: "WSGIEnvironment") -> Peer:
    if is_unix(environ):
        return Peer(unix=True)
    if "PROXY_PROTOCOL" in environ:  # gunicorn's word; whoever may speak that protocol to it names any address
        return Peer(doubt="the peer's address comes from the PROXY protocol: use a shared_secret= alone")
    original = environ.get("werkzeug.proxy_fix.orig")
    if original is not None:  # ProxyFix overwrote REMOTE_ADDR from a header, and kept the transport's
        return Peer(address=original.get("REMOTE_ADDR"))
    return Peer(address=environ.get("REMOTE_ADDR"))


def _write(answer: Answer, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(answer.headers))
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [answer.body]


def _varying(start_response: "StartResponse", name: str | None) -> "StartResponse":
    """Mark the application's responses as selected by the certificate's field (RFC 9440 2.4)."""
    if name is None:
        return start_response

    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, ("Vary", name)], *exc_info)

    return start
