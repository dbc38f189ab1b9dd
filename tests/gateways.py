"""One request, sent through the same layers as WSGI and as ASGI: what came back, and what the application saw.

Must never know: what is right. No server, no framework: environ and scope as good servers make them.
"""

import asyncio
import io
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import pytest

import mtls_middleware.asgi
import mtls_middleware.wsgi
from mtls_middleware import AccessToken, ClientCertificate, access_token, client_certificate
from mtls_middleware.testing import IssuedCertificate
from tests.environs import KNOWN_SERVER

PROXY, STRANGER = "10.0.0.7", "203.0.113.9"
MODULES: Mapping[str, ModuleType] = {"wsgi": mtls_middleware.wsgi, "asgi": mtls_middleware.asgi}

both_gateways = pytest.mark.parametrize("gateway", MODULES)

# (the gateway's module, an application) -> the application with layers around it
Wrap = Callable[[ModuleType, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as the client and the server put it: `path` decoded, `tls` what this very server negotiated."""

    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: Collection[tuple[str, str]] = ()
    peer: str | None = PROXY
    root: str = ""
    tls: IssuedCertificate | None = None
    verified: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)

    def with_headers(self, *headers: tuple[str, str]) -> "Request":
        return replace(self, headers=[*self.headers, *headers])


@dataclass(frozen=True)
class Seen:
    """What the application got: names of header fields lower case with dashes, and the raw carrier."""

    headers: Mapping[str, str]
    certificate: ClientCertificate | None
    token: AccessToken | None
    carrier: Mapping[str, Any]
    body: bytes


@dataclass(frozen=True)
class Result:
    """The response; `seen` is `None` where the application was not reached."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seen: Seen | None

    def header(self, name: str) -> str | None:
        """The value, `None` where there is none. More than one field line fails the test."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} {len(values)} times"
        return values[0] if values else None

    @property
    def application(self) -> Seen:
        assert self.seen is not None, f"the application was not reached: {self.status} {self.body!r}"
        return self.seen


def send(gateway: str, wrap: Wrap, request: Request) -> Result:
    """One request, one answer. Whatever the layers raise comes out."""
    return {"wsgi": send_wsgi, "asgi": send_asgi}[gateway](wrap, request)


def environ_of(request: Request) -> dict[str, Any]:
    """As gunicorn makes it: fields whose names fold to one are joined by a comma."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": request.root,
        "PATH_INFO": request.path.encode("utf-8").decode("latin-1"),
        "QUERY_STRING": request.query,
        "SERVER_NAME": "server.test",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        **KNOWN_SERVER,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(b"hello"),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": "5",
    }
    if request.peer is not None:
        environ["REMOTE_ADDR"] = request.peer
    for name, value in request.headers:
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    if request.tls is not None:
        environ |= request.tls.as_environ(verify="SUCCESS" if request.verified else "FAILED:self signed certificate")
    return environ | dict(request.extra)


def send_wsgi(wrap: Wrap, request: Request) -> Result:
    seen: list[Seen] = []
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        headers = {key[5:].lower().replace("_", "-"): environ[key] for key in environ if key.startswith("HTTP_")}
        body = environ["wsgi.input"].read()
        seen.append(Seen(headers, client_certificate(environ), access_token(environ), environ, body))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"reached"]

    chunks = wrap(MODULES["wsgi"], application)(environ_of(request), lambda *answer: started.append(answer[:2]))
    body = b"".join(chunks)
    (status, headers), *more = started
    assert not more
    return Result(int(status.split()[0]), headers, body, seen[0] if seen else None)


def scope_of(request: Request, kind: str = "http") -> dict[str, Any]:
    """As uvicorn makes it, from version 3.0 of ASGI on: `path` includes `root_path`."""
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": request.root + request.path,
        "root_path": request.root,
        "query_string": request.query.encode("latin-1"),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
        "client": None if request.peer is None else (request.peer, 50_000),
        "server": ("server.test", 8000),
        "extensions": {},
    }
    if kind == "http":
        scope["method"] = request.method
    if request.tls is not None:
        error = None if request.verified else "self signed certificate"
        scope["extensions"]["tls"] = request.tls.as_tls_extension(error=error)
    return scope | dict(request.extra)


def send_asgi(wrap: Wrap, request: Request) -> Result:
    seen: list[Seen] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = {bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in scope["headers"]}
        body = (await receive())["body"]
        seen.append(Seen(headers, client_certificate(scope), access_token(scope), scope, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"reached"})

    messages = [{"type": "http.request", "body": b"hello", "more_body": False}]
    start, *bodies = exchange(wrap(MODULES["asgi"], application), scope_of(request), messages)
    assert start["type"] == "http.response.start"
    assert {each["type"] for each in bodies} == {"http.response.body"}
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return Result(start["status"], headers, b"".join(each["body"] for each in bodies), seen[0] if seen else None)


def exchange(app: Any, scope: Mapping[str, Any], messages: Collection[Mapping[str, Any]]) -> list[Any]:
    """What an ASGI application sends when it is given this scope and these messages."""
    sent: list[Any] = []
    waiting = iter(itertools.chain(messages, itertools.repeat({"type": "http.disconnect"})))

    async def receive() -> Any:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def staying(app: Any) -> Any:
    """A client that disconnects when the response is complete. Django gives up earlier ones, and Quart waits for it."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        complete = asyncio.Event()

        async def received() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                await complete.wait()
            return message

        async def sent(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                complete.set()

        await app(scope, received, sent)

    return called
