"""Django's test clients, with the layers of mtls-middleware in front of the project.

Django's own clients call the project's handler directly, so their requests never reach layers that are wrapped around
`get_wsgi_application()` or `get_asgi_application()`.
"""

import copy
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.test import client as django_client

from mtls_middleware import asgi, wsgi
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.request import TESTING_KEY
from mtls_middleware.testing.issued_certificate import IssuedCertificate
from mtls_middleware.testing.request_fields import RequestFields

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Client(django_client.Client):
    """Django's test client. Every request goes through the layers of `application`, and then to the project.

    Arguments:
        application: the application of `wsgi.py`: the layers around `get_wsgi_application()`.
        fields: the result of `IssuedCertificate.for_source`; `None` for a client without a certificate.
        options: the keyword arguments of `django.test.Client`.

    Raises `ConfigurationError`. Example:

        billing = Client(application, certificate.for_source(source))
        assert billing.get("/invoices").status_code == 200
    """

    def __init__(
        self, application: "wsgi.ClientCertificateMiddleware", fields: RequestFields | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if not isinstance(application, wsgi.ClientCertificateMiddleware):
            raise _not_layers(application, "wsgi")
        handler = self.handler
        environ_of_fields = {TESTING_KEY: True} if fields is None else fields.environ

        def through_layers(environ: dict[str, Any]) -> HttpResponseBase:
            environ.update(environ_of_fields)
            responses: list[HttpResponseBase] = []
            started: list[tuple[str, list[tuple[str, str]]]] = []

            def project(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
                responses.append(handler(environ))
                start_response("200 OK", [*responses[0].items()])
                return []

            def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
                started.append((status, headers))

            body = b"".join(_around(project, application)(environ, start_response))
            status, headers = started[-1]
            if not responses:
                responses.append(HttpResponse(body, status=int(status.split()[0])))
                responses[0].wsgi_request = WSGIRequest(environ)  # type: ignore[attr-defined]  # as Django does
            return _with_headers(responses[0], headers)

        self.handler = through_layers  # type: ignore[assignment]  # Django calls it, and needs no more


class AsyncClient(django_client.AsyncClient):
    """Django's asynchronous test client, through the layers of `application`, which is that of `asgi.py`.

    The arguments are those of `Client`. Example:

        billing = AsyncClient(application, certificate.for_source(source))
        assert (await billing.get("/invoices")).status_code == 200
    """

    def __init__(
        self, application: "asgi.ClientCertificateMiddleware", fields: RequestFields | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if not isinstance(application, asgi.ClientCertificateMiddleware):
            raise _not_layers(application, "asgi")
        handler = self.handler

        async def through_layers(scope: dict[str, Any]) -> HttpResponseBase:
            responses: list[HttpResponseBase] = []
            sent: list[dict[str, Any]] = []
            body = scope["_body_file"].read() if "_body_file" in scope else b""
            scope["_body_file"] = django_client.FakePayload(body)

            async def project(scope: dict[str, Any], _receive: Any, send: Any) -> None:
                responses.append(await handler(scope))
                headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in responses[0].items()]
                await send({"type": "http.response.start", "status": 200, "headers": headers})

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": body, "more_body": False}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            layers = _around(project, application)
            await (layers if fields is None else fields.asgi(layers))(scope, receive, send)
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in sent[0]["headers"]]
            if not responses:
                content = b"".join(message.get("body", b"") for message in sent[1:])
                responses.append(HttpResponse(content, status=sent[0]["status"]))
                request = ASGIRequest(scope, io.BytesIO())
                responses[0].asgi_request = request  # type: ignore[attr-defined]  # as Django does
            return _with_headers(responses[0], headers)

        self.handler = through_layers  # type: ignore[assignment]  # Django calls it, and needs no more


class CertificateClient(django_client.Client):
    """Django's test client for a project whose `MIDDLEWARE` has `ClientCertificateMiddleware`.

    Arguments:
        certificate: the client certificate of every request, as the source of the setting `MTLS_MIDDLEWARE` reads it;
            `None` for a client without a certificate.
        options: the keyword arguments of `django.test.Client`.

    Example:

        alice = CertificateClient(ca.issue("CN=alice", user_principal_names=["alice@corp.example"]))
        assert alice.get("/admin/").status_code == 200
    """

    def __init__(self, certificate: IssuedCertificate | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.use(certificate)

    def use(self, certificate: IssuedCertificate | None) -> None:
        """Use another certificate for the next requests, with the same cookies. Example: `client.use(renewed)`"""
        fields = _fields_of_setting(certificate)
        handler = self._handler = getattr(self, "_handler", self.handler)

        def with_certificate(environ: dict[str, Any]) -> HttpResponseBase:
            return handler({**environ, **({} if fields is None else fields.environ)})

        self.handler = with_certificate  # type: ignore[assignment]  # Django calls it, and needs no more


class AsyncCertificateClient(django_client.AsyncClient):
    """Django's asynchronous test client for a project whose `MIDDLEWARE` has `ClientCertificateMiddleware`.

    The arguments are those of `CertificateClient`. Example: `await AsyncCertificateClient(card).get("/admin/")`
    """

    def __init__(self, certificate: IssuedCertificate | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.use(certificate)

    def use(self, certificate: IssuedCertificate | None) -> None:
        """Use another certificate for the next requests, with the same cookies. Example: `client.use(renewed)`"""
        fields = _fields_of_setting(certificate)
        handler = self._handler = getattr(self, "_handler", self.handler)

        async def with_certificate(scope: dict[str, Any]) -> HttpResponseBase:
            return await handler(scope if fields is None else fields.scope(scope))

        self.handler = with_certificate  # type: ignore[assignment]  # Django calls it, and needs no more


def _fields_of_setting(certificate: IssuedCertificate | None) -> RequestFields | None:
    source = getattr(settings, "MTLS_MIDDLEWARE", {}).get("source")
    if source is None:
        raise ConfigurationError(
            'the setting MTLS_MIDDLEWARE has no source; expected a dictionary, for example {"source": Nginx(...), ...}'
        )
    return None if certificate is None else certificate.for_source(source)


def _around(project: Any, layers: Any) -> Any:
    """Return copies of the layers around another application."""
    copied = copy.copy(layers)
    copied._app = project
    return copied


def _with_headers(response: HttpResponseBase, headers: list[tuple[str, str]]) -> HttpResponseBase:
    """Return `response` with the header fields that the layers sent, because the layers extend `Vary`."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    for name, each in values.items():
        response.headers[name] = ", ".join(each)
    return response


def _not_layers(application: object, gateway: str) -> ConfigurationError:
    return ConfigurationError(
        f"application={application!r} is not a layer of mtls_middleware.{gateway}; expected the application of "
        f"{gateway}.py, for example protect(get_{gateway}_application(), source=...)"
    )
