"""One request through both real layers of one gateway, and what came of it."""

import asyncio
import re
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from werkzeug.test import create_environ

from mtls_middleware import AccessToken, ClientCertificate, access_token, asgi, client_certificate, wsgi
from mtls_middleware.resource_server import AccessTokens
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.validation import ChainValidator

# What RFC 6750 3 lets stand in the values of a challenge.
_PARAMETER = re.compile(r'([a-z_]+)="([\x20\x21\x23-\x5B\x5D-\x7E]*)"')


@dataclass
class Outcome:
    """What the client got, and what the application saw where it was reached."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reached: bool = False
    token: AccessToken | None = None
    certificate: ClientCertificate | None = None

    @property
    def challenge(self) -> dict[str, str] | None:
        """Parameters of `WWW-Authenticate: Bearer`; fails where one is there twice or badly written."""
        value = self.headers.get("www-authenticate")
        if value is None:
            return None
        assert value.startswith("Bearer ")
        found = [_PARAMETER.fullmatch(each) for each in value.removeprefix("Bearer ").split(", ")]
        assert all(found), value
        parameters = [(each[1], each[2]) for each in found if each]
        assert len(dict(parameters)) == len(parameters), value
        return dict(parameters)

    @property
    def error(self) -> str | None:
        return (self.challenge or {}).get("error")


Certificate = IssuedCertificate | str | None


class WSGIStack:
    """`ClientCertificateMiddleware` around `CertificateBoundTokenMiddleware` around an application, in WSGI."""

    def __init__(self, tokens: AccessTokens, *, trust_store: ChainValidator | None = None, **options: Any) -> None:
        self._app = wsgi.ClientCertificateMiddleware(
            wsgi.CertificateBoundTokenMiddleware(self._application, tokens, **options),
            ServerTLS(),
            trust_store=trust_store,
        )

    def _application(self, environ: Any, start_response: Any) -> list[bytes]:
        outcome = environ["outcome"]
        outcome.reached, outcome.token, outcome.certificate = True, access_token(environ), client_certificate(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"reached"]

    def request(
        self,
        *authorization: str,
        certificate: Certificate = None,
        query: str = "",
        method: str = "GET",
        body: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Outcome:
        form = {"content_type": "application/x-www-form-urlencoded", "data": body} if body else {}
        environ = create_environ("/", "https://api.test", query_string=query, method=method, headers=headers, **form)
        if authorization:
            environ["HTTP_AUTHORIZATION"] = ",".join(authorization)  # as gunicorn joins two field lines
        if certificate is not None:
            issued = isinstance(certificate, IssuedCertificate)
            environ |= certificate.as_environ() if issued else {"SSL_CLIENT_CERT": certificate}
        outcome = environ["outcome"] = Outcome()

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            outcome.status = int(status.split(maxsplit=1)[0])
            outcome.headers = {name.lower(): value for name, value in headers}

        outcome.body = b"".join(self._app(environ, start_response))
        return outcome


class ASGIStack:
    """The same in ASGI."""

    def __init__(self, tokens: AccessTokens, *, trust_store: ChainValidator | None = None, **options: Any) -> None:
        self._app = asgi.ClientCertificateMiddleware(
            asgi.CertificateBoundTokenMiddleware(self._application, tokens, **options),
            ServerTLS(),
            trust_store=trust_store,
        )

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        outcome = scope["outcome"]
        outcome.reached, outcome.token, outcome.certificate = True, access_token(scope), client_certificate(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})

    def request(self, *authorization: str, **rest: Any) -> Outcome:
        return asyncio.run(self.asked(*authorization, **rest))

    def asked(
        self,
        *authorization: str,
        certificate: Certificate = None,
        query: str = "",
        method: str = "GET",
        body: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Coroutine[Any, Any, Outcome]:
        """The request is made now, and sent where it is awaited."""
        outcome = Outcome()
        fields = [("authorization", value) for value in authorization] + list((headers or {}).items())
        if body:
            fields.append(("content-type", "application/x-www-form-urlencoded"))
        scope = {
            "type": "http",
            "method": method,
            "path": "/",
            "query_string": query.encode("latin-1"),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields],
            "client": ("192.0.2.7", 4711),
            "extensions": {"tls": _extension(certificate)},
            "outcome": outcome,
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body.encode(), "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                outcome.status = message["status"]
                outcome.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            else:
                outcome.body += message.get("body", b"")

        async def sent() -> Outcome:
            await self._app(scope, receive, send)
            return outcome

        return sent()


def _extension(certificate: Certificate) -> dict[str, Any]:
    if isinstance(certificate, IssuedCertificate):
        return certificate.as_tls_extension()
    chain: Sequence[str] = () if certificate is None else (certificate,)
    return {"client_cert_chain": chain, "client_cert_error": "self signed" if chain else None}


Stack = WSGIStack | ASGIStack
