"""One POST to a token endpoint, as a request of tests/gateways.py."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import PROXY, Outcome, Request, Wrap, call_asgi, call_wsgi, environ_of, message_of, scope_of

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, kw_only=True)
class Post:
    """What the client sends; `body` as pairs is written as a form."""

    body: bytes | Sequence[tuple[str, str]] = (("client_id", "billing"), ("grant_type", "client_credentials"))
    content_type: str | None = FORM
    headers: Sequence[tuple[str, str]] = ()
    path: str = "/token"
    query: str = ""
    method: str = "POST"
    root: str = ""
    certificate: IssuedCertificate | None = None
    verified: bool = True
    peer: str = PROXY

    @property
    def octets(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else urlencode(list(self.body)).encode()

    @property
    def request(self) -> Request:
        typed = [] if self.content_type is None else [("Content-Type", self.content_type)]
        return Request(
            method=self.method,
            path=self.path,
            query=self.query,
            root=self.root,
            peer=self.peer,
            headers=[*typed, *self.headers],
            body=self.octets,
            tls=self.certificate,
            verified=self.verified,
        )


def layers(authenticator: Any, **options: Any) -> Wrap:
    """Both layers in the right order, over what the server negotiated."""
    return lambda gateway, app: gateway.ClientCertificateMiddleware(
        gateway.ClientAuthenticationMiddleware(app, authenticator, **options), ServerTLS()
    )


def environ_for(post: Post) -> dict[str, Any]:
    return environ_of(post.request)


def send_wsgi(wrap: Wrap, post: Post, *, without: Sequence[str] = (), **environ: Any) -> Outcome:
    """`environ`: overrides; `without`: keys that the server does not set."""
    return call_wsgi(wrap, {key: value for key, value in environ_for(post).items() if key not in without} | environ)


def send_asgi(wrap: Wrap, post: Post, messages: Sequence[dict[str, Any]] | None = None, **scope: Any) -> Outcome:
    """`messages`: what `receive` gives, if not the whole body at once; then `http.disconnect` without end."""
    given = [message_of(post.request)] if messages is None else messages
    return asyncio.run(call_asgi(wrap, {**scope_of(post.request), **scope}, given))


def send(gateway: str, wrap: Wrap, post: Post) -> Outcome:
    return {"wsgi": send_wsgi, "asgi": send_asgi}[gateway](wrap, post)
