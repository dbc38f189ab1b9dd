"""Middleware for `MIDDLEWARE`: `ClientCertificateMiddleware` and `CertificateUserMiddleware`."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib import auth
from django.http import HttpResponse
from django.utils.cache import patch_vary_headers

from mtls_middleware import asgi_request, wsgi_request
from mtls_middleware.asgi_request import enter, leave
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Flow
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.certificate_user import CertificateIdentity, certificate_of
from mtls_middleware.integrations.django.backends import CertificateUserBackend
from mtls_middleware.integrations.django.configuration import configured_layers, configured_user
from mtls_middleware.integrations.django.requests import DjangoRequest, WSGIGatewayRequest, gateway_request
from mtls_middleware.integrations.django_routes import http_response
from mtls_middleware.layers.decisions import record_allowed, reject
from mtls_middleware.layers.interface import Layer
from mtls_middleware.layers.stack import Stack
from mtls_middleware.responses import LayerResponse

# The key in the session for the thumbprint of the certificate to which the session belongs.
THUMBPRINT_KEY = "_mtls_middleware_thumbprint"


class _Middleware:
    """The base class of both middlewares. It is async if the rest of the project is async."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> HttpResponse | Awaitable[HttpResponse]:
        return self._asynchronous(request) if self._is_async else self._synchronous(request)

    def _synchronous(self, request: Any) -> Any:
        raise NotImplementedError

    async def _asynchronous(self, request: Any) -> Any:
        raise NotImplementedError


class ClientCertificateMiddleware(_Middleware):
    """The layers of the setting `MTLS_MIDDLEWARE`, as middleware of Django: the first entry of `MIDDLEWARE`.

    It makes the same decisions as `wsgi.protect` and `asgi.protect` around the project. Requests of Django's test
    clients and of `runserver` pass through it as well, and so do all requests under WSGI and ASGI. Websockets do not
    pass through Django's middleware.

    The setting has the keywords of `protect`, except for `root_path`. The paths in `allow` and `exempt` are those that
    Django routes on (`request.path_info`).

    Raises `ConfigurationError` if the setting is wrong.

    Example: `MIDDLEWARE = ["mtls_middleware.integrations.django.middleware.ClientCertificateMiddleware", ...]`
    """

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        super().__init__(get_response)
        self._layers = configured_layers()
        self._wsgi = Stack(self._layers, wsgi_request.facts_reader)
        self._asgi = Stack(self._layers, asgi_request.facts_reader)
        self._blocking, self._awaiting = BlockingDriver(), AwaitingDriver()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, the outermost first, as `mtls-middleware doctor` describes them."""
        return self._layers

    def _synchronous(self, request: Any) -> HttpResponse:
        decided = self._blocking.run(self._decide(request))
        if isinstance(decided, HttpResponse):
            return decided
        with _running(decided):
            return self._varying(decided, self.get_response(request))

    async def _asynchronous(self, request: Any) -> HttpResponse:
        decided = await self._awaiting.run(self._decide(request))
        if isinstance(decided, HttpResponse):
            return decided
        with _running(decided):
            return self._varying(decided, await self.get_response(request))

    def _decide(self, request: Any) -> Flow[DjangoRequest | HttpResponse]:
        """Return the response to a rejected request, or the request as the layers see it if they accept it."""
        try:
            entered = gateway_request(request)
        except Exception as error:  # noqa: BLE001 (fail closed: the project is not reached)
            return self._rejected(request, reject(self._layers[0], error, None))
        stack, response = self._stack(entered), None
        try:
            decided = stack.recall(entered)
            if decided < len(self._layers):
                response = yield from stack.decide(entered, decided)
        except Exception as error:  # noqa: BLE001 (fail closed: the project is not reached)
            response = reject(entered.layer, error, entered)
        finally:
            entered.hide(stack.drop_headers)
        return entered if response is None else self._rejected(request, response)

    def _stack(self, entered: DjangoRequest) -> Stack:
        return self._wsgi if isinstance(entered, WSGIGatewayRequest) else self._asgi

    def _rejected(self, request: Any, response: LayerResponse) -> HttpResponse:
        written = http_response(request.method, response)
        scope = getattr(request, "scope", {})
        # PEP 3333 forbids a Connection header from an application, and HTTP/2 forbids the field (RFC 9113 8.2.2).
        if response.new_connection and scope.get("http_version") in ("1.0", "1.1"):
            written.headers["Connection"] = "close"
        return written

    def _varying(self, entered: DjangoRequest, response: HttpResponse) -> HttpResponse:
        if vary := self._stack(entered).vary:
            patch_vary_headers(response, vary)
        return response


@contextmanager
def _running(entered: DjangoRequest) -> Iterator[None]:
    """Mark the project as the application of these layers while it runs."""
    record_allowed(entered.layer, entered)
    passage = entered.attached.passage
    outside = enter(passage)
    try:
        yield
    finally:
        leave(passage, outside)


class CertificateUserMiddleware(_Middleware):
    """Sets `request.user` to the user of the request's certificate. Put this after Django's `AuthenticationMiddleware`.

    `request.user` is the user of the certificate of this request, never the user of an older session:

    - A certificate that identifies a user logs this user in. If the session belongs to another user, the session ends.
    - A session that a certificate began ends with the first request without a certificate of this user.
    - A session that a password began continues while the certificates of its requests identify no user.

    The user comes from the `CertificateUserBackend` in `AUTHENTICATION_BACKENDS`, on every request.

    Raises `ConfigurationError` if the setting `MTLS_MIDDLEWARE` has no `"user"`, and for each request if a middleware
    that it needs does not run before it.

    Example: `"mtls_middleware.integrations.django.middleware.CertificateUserMiddleware"` in `MIDDLEWARE`
    """

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        super().__init__(get_response)
        configured_user()

    def _synchronous(self, request: Any) -> Any:
        self._set_user(request)
        return self.get_response(request)

    async def _asynchronous(self, request: Any) -> Any:
        # Django implements the asynchronous methods of its own sessions and models in the same way.
        await sync_to_async(self._set_user)(request)
        return await self.get_response(request)

    def _set_user(self, request: Any) -> None:
        if not hasattr(request, "session") or not hasattr(request, "user"):
            raise ConfigurationError(
                "CertificateUserMiddleware needs a session: put it after SessionMiddleware and "
                "AuthenticationMiddleware in MIDDLEWARE"
            )
        identity = configured_user().identify(certificate_of(request))
        backend = _backend_of_session(request.session)
        if backend is not None and identity is not None and _still_valid(request, backend, identity):
            return
        user = None if identity is None else auth.authenticate(request, certificate_identity=identity)
        if user is not None and identity is not None:
            auth.login(request, user)
            request.session[THUMBPRINT_KEY] = identity.certificate.thumbprint
            _become(request, user)
        elif backend is not None:
            auth.logout(request)
            _become(request, request.user)


def _backend_of_session(session: Any) -> CertificateUserBackend | None:
    """Return the backend of the session if a certificate began the session; otherwise `None`."""
    path = session.get(auth.BACKEND_SESSION_KEY)
    if path not in settings.AUTHENTICATION_BACKENDS:
        return None
    backend = auth.load_backend(path)
    return backend if isinstance(backend, CertificateUserBackend) else None


def _still_valid(request: Any, backend: CertificateUserBackend, identity: CertificateIdentity) -> bool:
    """Return whether the session belongs to this certificate, and the certificate still identifies its user."""
    if request.session.get(THUMBPRINT_KEY) != identity.certificate.thumbprint:
        return False
    user = backend.find_user(identity)
    return user is not None and user.pk == request.user.pk


def _become(request: Any, user: Any) -> None:
    """Set the user for asynchronous views. Django would return the user that the request had before."""

    async def auser() -> Any:
        return user

    request.auser = auser
