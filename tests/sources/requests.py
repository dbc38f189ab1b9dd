"""Requests for the tests of sources: one set of header pairs through both gateways, or straight to a source.

Must never know: proxies. What a proxy writes stands in the tests.
"""

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtls_middleware import ClientCertificate, asgi, client_certificate, wsgi
from mtls_middleware.layers.attached import Attached
from mtls_middleware.request import Peer, TLSFacts
from tests.environs import KNOWN_SERVER
from tests.views import View

# The proxy of all tests, and somebody who is none.
PROXY, STRANGER = "10.0.0.1", "203.0.113.9"
TRUST = {"trusted_proxies": ["10.0.0.0/8"]}

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Outcome:
    """What came of one request: the answer, and what the application saw where it was reached."""

    status: int
    error: str | None
    reached: bool
    certificate: ClientCertificate | None
    names: frozenset[str]  # header names that the application saw, lower case with dashes
    vary: str | None = None

    @property
    def thumbprint(self) -> str | None:
        return None if self.certificate is None else self.certificate.thumbprint


def through_wsgi(
    source: Any,
    headers: Headers = (),
    *,
    peer: str | None = PROXY,
    environ: Mapping[str, Any] | None = None,
    joint: str = ",",
    **layer: Any,
) -> Outcome:
    """One request through the WSGI layer. Lines of one name are joined by `joint`, as servers do."""
    request: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "REMOTE_ADDR": peer}
    request.update(KNOWN_SERVER)
    for name, value in headers:
        key = "HTTP_" + name.upper().replace("-", "_")
        request[key] = request[key] + joint + value if key in request else value
    request.update(environ or {})
    seen: list[Mapping[str, Any]] = []
    answer: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    def start_response(status: str, fields: list[tuple[str, str]], *rest: Any) -> Any:
        answer["status"] = int(status[:3])
        answer["vary"] = dict(fields).get("Vary")

    body = b"".join(wsgi.ClientCertificateMiddleware(app, source, **layer)(request, start_response))
    names = {key[5:].lower().replace("_", "-") for environ in seen for key in environ if key.startswith("HTTP_")}
    return _outcome(answer["status"], answer["vary"], body, seen, names)


def through_asgi(
    source: Any,
    headers: Headers = (),
    *,
    peer: str | None = PROXY,
    scope: Mapping[str, Any] | None = None,
    **layer: Any,
) -> Outcome:
    """One request through the ASGI layer, every line an entry of its own."""
    request: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": None if peer is None else (peer, 4711),
        **(scope or {}),
    }
    seen: list[Mapping[str, Any]] = []
    sent: list[Mapping[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    finish(asgi.ClientCertificateMiddleware(app, source, **layer)(request, receive, send))
    names = {bytes(name).decode("latin-1").replace("_", "-") for scope in seen for name, _ in scope["headers"]}
    vary = dict(sent[0]["headers"]).get(b"vary", b"").decode("ascii") or None
    return _outcome(sent[0]["status"], vary, sent[1]["body"], seen, names)


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a source made the layer wait")


def _outcome(status: int, vary: str | None, body: bytes, seen: Sequence[Mapping[str, Any]], names: set[str]) -> Outcome:
    return Outcome(
        status=status,
        error=json.loads(body)["error"] if body else None,
        reached=bool(seen),
        certificate=client_certificate(seen[0]) if seen else None,
        names=frozenset(names),
        vary=vary,
    )


GATEWAYS: dict[str, Callable[..., Outcome]] = {"wsgi": through_wsgi, "asgi": through_asgi}


def view(
    headers: Headers = (),
    *,
    peer: Peer | str | None = PROXY,
    extension: Any = None,
    environ: Mapping[str, Any] | None = None,
) -> View:
    """A request as sources see it."""

    def values(name: str) -> tuple[str, ...]:
        return tuple(value for given, value in headers if given.lower() == name)

    return View(
        method="GET",
        path="/",
        query="",
        headers=values,
        peer=peer if isinstance(peer, Peer) else Peer(address=peer),
        tls=TLSFacts(extension=extension, environ=environ),
        attached=Attached(),
        now=0.0,
    )
