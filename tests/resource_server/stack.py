"""Both layers of a resource server around an application, built once for many requests of tests/gateways.py."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

from mtls_middleware.resource_server import AccessTokens
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.validation import ChainValidator
from tests.gateways import Outcome, Request, Wrap, call_asgi, message_of, scope_of, send_wsgi, standing

# Certificates of the tests, or PEM that no authority of the tests has issued.
Certificate = IssuedCertificate | str | None


def layers(tokens: AccessTokens, *, trust_store: ChainValidator | None = None, **options: Any) -> Wrap:
    """`ClientCertificateMiddleware` around `CertificateBoundTokenMiddleware` around an application."""
    return lambda module, app: module.ClientCertificateMiddleware(
        module.CertificateBoundTokenMiddleware(app, tokens, **options), ServerTLS(), trust_store=trust_store
    )


def request_with(
    *authorization: str,
    certificate: Certificate = None,
    query: str = "",
    method: str = "GET",
    body: str = "",
    headers: Mapping[str, str] | None = None,
) -> Request:
    """A request with these `Authorization` fields; `body` is a form."""
    fields = [*(("Authorization", value) for value in authorization), *(headers or {}).items()]
    if body:
        fields.append(("Content-Type", "application/x-www-form-urlencoded"))
    tls = certificate if isinstance(certificate, IssuedCertificate) else None
    return Request(method=method, query=query, headers=fields, body=body.encode(), tls=tls)


class WSGIStack:
    """The layers in WSGI."""

    def __init__(self, tokens: AccessTokens, **options: Any) -> None:
        self._wrap = standing("wsgi", layers(tokens, **options))

    def request(self, *authorization: str, certificate: Certificate = None, **rest: Any) -> Outcome:
        extra = {"SSL_CLIENT_CERT": certificate} if isinstance(certificate, str) else {}
        request = request_with(*authorization, certificate=certificate, **rest)
        return send_wsgi(self._wrap, replace(request, extra=extra))


class ASGIStack:
    """The layers in ASGI."""

    def __init__(self, tokens: AccessTokens, **options: Any) -> None:
        self._wrap = standing("asgi", layers(tokens, **options))

    def request(self, *authorization: str, **rest: Any) -> Outcome:
        return asyncio.run(self.asked(*authorization, **rest))

    def asked(self, *authorization: str, certificate: Certificate = None, **rest: Any) -> Coroutine[Any, Any, Outcome]:
        """Make the request now, and send it when the coroutine is awaited."""
        request = request_with(*authorization, certificate=certificate, **rest)
        scope = scope_of(request)
        if request.tls is None:
            chain = () if certificate is None else (certificate,)
            error = "self signed" if chain else None
            scope["extensions"] = {"tls": {"client_cert_chain": chain, "client_cert_error": error}}
        return call_asgi(self._wrap, scope, [message_of(request)])


Stack = WSGIStack | ASGIStack
