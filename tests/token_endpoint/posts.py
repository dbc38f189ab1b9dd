"""One POST to a token endpoint, through the same layers as WSGI and as ASGI: the answer, and what the application read.

Must never know: what is right.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from mtls_middleware import RegisteredClient, oauth_client
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import MODULES, PROXY, Request, environ_of, exchange, scope_of

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
            tls=self.certificate,
            verified=self.verified,
        )


@dataclass
class Outcome:
    """The answer, and what the application saw; `bodies` is empty where it was not reached."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    bodies: list[bytes] = field(default_factory=list)
    client: RegisteredClient | None = None

    @property
    def reached(self) -> bool:
        return bool(self.bodies)

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) <= 1
        return found[0] if found else None


Wrap = Callable[[Any, Any], Any]


def layers(authenticator: Any, **options: Any) -> Wrap:
    """Both layers in the right order, over what the server negotiated."""
    return lambda gateway, app: gateway.ClientCertificateMiddleware(
        gateway.ClientAuthenticationMiddleware(app, authenticator, **options), ServerTLS()
    )


def environ_for(post: Post) -> dict[str, Any]:
    environ = environ_of(post.request)
    environ.pop("HTTP_CONTENT_TYPE", None)
    if post.content_type is not None:
        environ["CONTENT_TYPE"] = post.content_type
    return environ | {"wsgi.input": io.BytesIO(post.octets), "CONTENT_LENGTH": str(len(post.octets))}


def send_wsgi(wrap: Wrap, post: Post, *, without: Sequence[str] = (), **environ: Any) -> Outcome:
    """`environ`: overrides; `without`: keys that the server does not set."""
    outcome = Outcome()

    def application(given: dict[str, Any], start_response: Any) -> list[bytes]:
        length = given.get("CONTENT_LENGTH")
        outcome.bodies.append(given["wsgi.input"].read(-1 if length is None else int(length)))
        outcome.bodies.append(given["wsgi.input"].read())
        outcome.client = oauth_client(given)
        start_response("200 OK", [])
        return [b"reached"]

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        outcome.status, outcome.headers = int(status.split(maxsplit=1)[0]), headers

    given = {key: value for key, value in environ_for(post).items() if key not in without} | environ
    outcome.body = b"".join(wrap(MODULES["wsgi"], application)(given, start_response))
    return outcome


def send_asgi(wrap: Wrap, post: Post, messages: Sequence[dict[str, Any]] | None = None, **scope: Any) -> Outcome:
    """`messages`: what `receive` gives, where it is not the body in one; then `http.disconnect` for ever."""
    outcome = Outcome()

    async def application(given: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request", "the body has no end"
            body += message.get("body", b"")
            more = message.get("more_body", False)
        outcome.bodies.append(body)
        after = await receive()
        outcome.bodies.append(after.get("body", b"") if after["type"] == "http.request" else b"")
        outcome.client = oauth_client(given)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})

    whole = [{"type": "http.request", "body": post.octets, "more_body": False}]
    given = {**scope_of(post.request), **scope}
    sent = exchange(wrap(MODULES["asgi"], application), given, whole if messages is None else messages)
    for message in sent:
        if message["type"] == "http.response.start":
            outcome.status = message["status"]
            outcome.headers = [(name.decode("ascii"), value.decode("ascii")) for name, value in message["headers"]]
        else:
            outcome.body += message["body"]
    return outcome


def send(gateway: str, wrap: Wrap, post: Post) -> Outcome:
    return {"wsgi": send_wsgi, "asgi": send_asgi}[gateway](wrap, post)
