"""The in-process harness of all tests: one request through the same layers as WSGI and as ASGI, and its outcome.

No server and no framework: environ and scope as good servers make them. The tests decide what is right.
"""

import asyncio
import io
import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import pytest

import mtls_middleware.asgi
import mtls_middleware.wsgi
from mtls_middleware import (
    AccessToken,
    ClientCertificate,
    RegisteredClient,
    access_token,
    client_certificate,
    oauth_client,
)
from mtls_middleware.testing import IssuedCertificate
from tests.environs import KNOWN_SERVER

PROXY, STRANGER = "10.0.0.7", "203.0.113.9"
MODULES: Mapping[str, ModuleType] = {"wsgi": mtls_middleware.wsgi, "asgi": mtls_middleware.asgi}

both_gateways = pytest.mark.parametrize("gateway", MODULES)

# (the gateway's module, an application) -> the application with layers around it
Wrap = Callable[[ModuleType, Any], Any]
# The application of the request that this thread or task sends through standing layers.
_APPLICATION: ContextVar[Any] = ContextVar("application")
# What RFC 6750 section 3 allows in the parameters of a challenge.
_PARAMETER = re.compile(r'([a-z_]+)="([\x20\x21\x23-\x5B\x5D-\x7E]*)"')


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as the client and the server put it: `path` decoded, `tls` what this very server negotiated."""

    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: Collection[tuple[str, str]] = ()
    body: bytes = b"hello"
    peer: str | None = PROXY
    root: str = ""
    tls: IssuedCertificate | None = None
    verified: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    joint: str = ","  # what a WSGI server puts between the lines of one field

    def with_headers(self, *headers: tuple[str, str]) -> "Request":
        return replace(self, headers=[*self.headers, *headers])


@dataclass(frozen=True)
class Seen:
    """What the application got: names of header fields lower case with dashes, the body, and the raw carrier."""

    headers: Mapping[str, str]
    certificate: ClientCertificate | None
    token: AccessToken | None
    client: RegisteredClient | None
    carrier: Mapping[str, Any]
    body: bytes
    after: bytes  # what the application can still read after the body


@dataclass(frozen=True)
class Outcome:
    """The response, and what the application saw; `seen` is `None` if the application was not reached."""

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
        """What the application saw. Fails the test if the application was not reached."""
        assert self.seen is not None, f"the application was not reached: {self.status} {self.body!r}"
        return self.seen

    @property
    def reached(self) -> bool:
        return self.seen is not None

    @property
    def certificate(self) -> ClientCertificate | None:
        return self.seen.certificate if self.seen else None

    @property
    def thumbprint(self) -> str | None:
        return self.certificate.thumbprint if self.certificate else None

    @property
    def token(self) -> AccessToken | None:
        return self.seen.token if self.seen else None

    @property
    def client(self) -> RegisteredClient | None:
        return self.seen.client if self.seen else None

    @property
    def names(self) -> frozenset[str]:
        """The names of the header fields that the application saw, lower case with dashes."""
        return frozenset(name.replace("_", "-") for name in self.seen.headers) if self.seen else frozenset()

    @property
    def bodies(self) -> list[bytes]:
        """The body that the application read, and what it could read after it."""
        return [self.seen.body, self.seen.after] if self.seen else []

    @property
    def challenge(self) -> dict[str, str] | None:
        """The parameters of `WWW-Authenticate: Bearer`. A malformed or repeated parameter fails the test."""
        value = self.header("WWW-Authenticate")
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
        """The error code of a rejection. A challenge and a body that disagree fail the test."""
        if self.reached:
            return None
        challenge = self.challenge
        if not self.body:
            return None if challenge is None else challenge.get("error")
        code: str | None = json.loads(self.body).get("error")
        assert challenge is None or challenge.get("error") == code, (challenge, self.body)
        return code


def send(gateway: str, wrap: Wrap, request: Request) -> Outcome:
    """One request, one response. An exception of the layers propagates."""
    return {"wsgi": send_wsgi, "asgi": send_asgi}[gateway](wrap, request)


def send_wsgi(wrap: Wrap, request: Request) -> Outcome:
    return call_wsgi(wrap, environ_of(request))


def send_asgi(wrap: Wrap, request: Request) -> Outcome:
    return asyncio.run(call_asgi(wrap, scope_of(request), [message_of(request)]))


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
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": str(len(request.body)),
    }
    if request.peer is not None:
        environ["REMOTE_ADDR"] = request.peer
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        environ[key] = f"{environ[key]}{request.joint}{value}" if key in environ else value
    if request.tls is not None:
        environ |= request.tls.as_environ(verify="SUCCESS" if request.verified else "FAILED:self signed certificate")
    return environ | dict(request.extra)


def call_wsgi(wrap: Wrap, environ: dict[str, Any]) -> Outcome:
    """Call the layers with this environ."""
    seen: list[Seen] = []
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        headers = {key[5:].lower().replace("_", "-"): environ[key] for key in environ if key.startswith("HTTP_")}
        length = environ.get("CONTENT_LENGTH")
        body = environ["wsgi.input"].read(-1 if length is None else int(length))
        attached = client_certificate(environ), access_token(environ), oauth_client(environ)
        seen.append(Seen(headers, *attached, environ, body, environ["wsgi.input"].read()))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"reached"]

    chunks = wrap(MODULES["wsgi"], application)(environ, lambda *answer: started.append(answer[:2]))
    body = b"".join(chunks)
    (status, headers), *more = started
    assert not more
    return Outcome(int(status.split()[0]), headers, body, seen[0] if seen else None)


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


def message_of(request: Request) -> dict[str, Any]:
    """The whole body in one message."""
    return {"type": "http.request", "body": request.body, "more_body": False}


async def call_asgi(wrap: Wrap, scope: Mapping[str, Any], messages: Collection[Mapping[str, Any]]) -> Outcome:
    """Call the layers with this scope and these messages."""
    seen: list[Seen] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = {bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in scope["headers"]}
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request", "the body has no end"
            body, more = body + message.get("body", b""), message.get("more_body", False)
        after = (await receive()).get("body", b"")
        attached = client_certificate(scope), access_token(scope), oauth_client(scope)
        seen.append(Seen(headers, *attached, scope, body, after))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"reached"})

    start, *bodies = await exchanged(wrap(MODULES["asgi"], application), scope, messages)
    assert start["type"] == "http.response.start"
    assert {each["type"] for each in bodies} == {"http.response.body"}
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    body = b"".join(each.get("body", b"") for each in bodies)
    return Outcome(start["status"], headers, body, seen[0] if seen else None)


def standing(gateway: str, wrap: Wrap) -> Wrap:
    """Build the layers once: each request brings its own application, in any thread or task."""

    def call_wsgi_application(environ: Any, start_response: Any) -> Any:
        return _APPLICATION.get()(environ, start_response)

    async def call_asgi_application(scope: Any, receive: Any, send: Any) -> None:
        await _APPLICATION.get()(scope, receive, send)

    layers = wrap(MODULES[gateway], call_wsgi_application if gateway == "wsgi" else call_asgi_application)

    def wrapped(_module: Any, app: Any) -> Any:
        _APPLICATION.set(app)
        return layers

    return wrapped


def exchange(app: Any, scope: Mapping[str, Any], messages: Collection[Mapping[str, Any]]) -> list[Any]:
    """What an ASGI application sends when it is given this scope and these messages."""
    return asyncio.run(exchanged(app, scope, messages))


async def exchanged(app: Any, scope: Mapping[str, Any], messages: Collection[Mapping[str, Any]]) -> list[Any]:
    """The same in an event loop that runs. `http.disconnect` follows the messages, without end."""
    sent: list[Any] = []
    waiting = iter(itertools.chain(messages, itertools.repeat({"type": "http.disconnect"})))

    async def receive() -> Any:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
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
