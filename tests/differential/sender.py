"""Sends one drawn request through a stack of one gateway, and describes what came of it as JSON data."""

import asyncio
import base64
import io
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware import access_token, client_certificate, oauth_client
from mtls_middleware.layers import decisions
from mtls_middleware.line_limit import LineLimit
from tests.differential.requests import Drawn

Outcome = dict[str, Any]
Build = Callable[[str, Any], Any]

# One event loop for all requests: to make one for each takes longer than the request.
_RUNNER = asyncio.Runner()
GATEWAYS = ("wsgi", "asgi")
_OF_LIBRARY = logging.getLogger("mtls_middleware")
_LATER = 60 * 86_400.0
_UNIX = SimpleNamespace(family=socket.AF_UNIX)
# Keys whose values the description contains.
_PATH_KEYS = ("SCRIPT_NAME", "PATH_INFO", "REQUEST_METHOD", "path", "root_path", "method")
# What differs between two requests that are alike, or between two commits.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_OF_RECORD_LEFT_OUT = ("seconds", "cached", "remembered", "open_for")


class Records(logging.Handler):
    """The records of decisions since the last call of `take`."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = getattr(record, "mtls", None)
        if found is not None:
            self._records.append(dict(found))

    def take(self) -> list[dict[str, Any]]:
        taken, self._records = self._records, []
        return taken


@contextmanager
def logged() -> Iterator[Records]:
    """Collect the records of decisions, and write none of the library's log lines."""
    records, log = Records(), decisions.logger
    level, propagate = log.level, _OF_LIBRARY.propagate
    log.addHandler(records)
    log.setLevel(logging.INFO)
    _OF_LIBRARY.propagate = False
    quiet = logging.NullHandler()
    _OF_LIBRARY.addHandler(quiet)
    try:
        yield records
    finally:
        log.removeHandler(records)
        log.setLevel(level)
        _OF_LIBRARY.removeHandler(quiet)
        _OF_LIBRARY.propagate = propagate


class Sender:
    """One stack of one gateway, and the application in it.

    Arguments:
        build: makes the layers around an application.
        make: makes another application than the usual one, which describes what it sees.
        without_loop: run websockets that stay without an event loop: the layers then check them at each message.
    """

    def __init__(
        self,
        gateway: str,
        build: Build,
        records: Records,
        make: Callable[[], Any] | None = None,
        *,
        without_loop: bool = False,
    ) -> None:
        self.gateway, self.name = gateway, f"{gateway} {getattr(make, '__name__', '')}"
        self._build, self._records, self._make, self._without_loop = build, records, make, without_loop
        self._seen: list[Outcome] = []
        self._stack: Any = None
        self._stays = False
        self.renew()

    def renew(self) -> None:
        """Make the layers anew."""
        application = self._wsgi_application if self.gateway == "wsgi" else self._asgi_application
        self._stack = self._build(self.gateway, application if self._make is None else self._make())

    def send(self, request: Drawn) -> Outcome:
        self._seen.clear()
        self._records.take()
        # Otherwise the level and the number of records depend on earlier requests.
        decisions._rejections = LineLimit()
        self._stays = request["stays"]
        carrier = environ_of(request) if self.gateway == "wsgi" else scope_of(request)
        respond = self._respond_wsgi if self.gateway == "wsgi" else self._respond_asgi
        outcome = respond(carrier, request["body"].encode("latin-1"))
        records = self._records.take()
        outcome["seen"] = list(self._seen)
        outcome["after"] = described(carrier)
        outcome["records"] = [
            {name: _ADDRESS.sub("", str(value)) for name, value in each.items() if name not in _OF_RECORD_LEFT_OUT}
            for each in records
        ]
        outcome["cached"] = [each.get("cached", each.get("remembered")) for each in records]
        return outcome

    def _respond_wsgi(self, environ: dict[str, Any], body: bytes) -> Outcome:
        started: list[Any] = []
        chunks = self._stack(environ, lambda *given: started.append(given[:2]))
        found = b"".join(chunks)
        ((status, headers),) = started
        return {"status": status, "headers": [list(each) for each in headers], "body": found.decode("latin-1")}

    def _respond_asgi(self, scope: dict[str, Any], body: bytes) -> Outcome:
        sent: list[Any] = []
        opening = {"type": "websocket.connect"}
        given = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
        if scope["type"] == "websocket":
            given = [opening, {"type": "websocket.disconnect", "code": 1000}]

        async def receive() -> Any:
            return given.pop(0) if len(given) > 1 else given[0]

        async def send(message: Any) -> None:
            sent.append(message)

        called = self._stack(scope, receive, send)
        if self._without_loop and self._stays and scope["type"] == "websocket":
            _run_without_loop(called)
        else:
            _RUNNER.run(called)
        first = sent[0] if sent else {}
        return {
            "status": [first.get("status"), *(each["type"] for each in sent), *(each.get("code") for each in sent)],
            "headers": [[_text(name), _text(value)] for name, value in first.get("headers", ())],
            "body": _text(b"".join(each.get("body", each.get("text", "").encode()) for each in sent)),
        }

    def _wsgi_application(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self._seen.append(described(environ) | {"body": _text(environ["wsgi.input"].read())})
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"reached"]

    async def _asgi_application(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        message = await receive()
        self._seen.append(described(scope) | {"body": _text(message.get("body", b""))})
        if scope["type"] == "websocket":
            await self._websocket(send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"reached"})

    async def _websocket(self, send: Any) -> None:
        """Accept, and send a text if the websocket stays: after every certificate has expired."""
        await send({"type": "websocket.accept"})
        if self._stays:
            with mock.patch.object(time, "time", return_value=time.time() + _LATER):
                await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close", "code": 1000})


def _run_without_loop(coroutine: Any) -> None:
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        return


def described(carrier: Mapping[str, Any]) -> Outcome:
    """What an application can read in its environ or scope."""
    found: Outcome = {"keys": sorted(carrier), **{key: carrier[key] for key in _PATH_KEYS if key in carrier}}
    found["fields"] = sorted([key, str(carrier[key])] for key in carrier if key.startswith("HTTP_"))
    for key in ("headers", "mtls_middleware.original_headers"):
        if key in carrier:
            found[key] = [[_text(name), _text(value)] for name, value in carrier[key]]
    found["certificate"] = _certificate(client_certificate(carrier))
    found["token"] = _token(access_token(carrier))
    client = oauth_client(carrier)
    found["client"] = None if client is None else client.client_id
    return found


def _certificate(found: Any) -> Any:
    if found is None:
        return None
    chain = [base64.b64encode(each).decode("ascii") for each in found.chain]
    return [base64.b64encode(found.der).decode("ascii"), chain, found.verification.name, found.thumbprint]


def _token(found: Any) -> Any:
    if found is None:
        return None
    claims = {name: _plain(value) for name, value in found.claims.items()}
    named = [found.subject, found.client_id, sorted(found.scopes), str(found.expires_at), found.key_id]
    return [claims, found.bound, found.confirmation, *named]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")


def environ_of(request: Drawn) -> dict[str, Any]:
    """As gunicorn makes it. Fields whose names fold to one are joined by a comma."""
    body = request["body"].encode("latin-1")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request["method"],
        "SCRIPT_NAME": request["root"],
        "PATH_INFO": request["path"],
        "QUERY_STRING": request["query"],
        "SERVER_NAME": "server.test",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "CONTENT_LENGTH": str(len(body)),
        **request["extra"],
    }
    if request["server"] is not None:
        environ["SERVER_SOFTWARE"] = request["server"]
    if request["peer"] == "unix":
        environ["gunicorn.socket"] = _UNIX
    elif request["peer"] is not None:
        environ["REMOTE_ADDR"] = request["peer"]
    for name, value in request["headers"]:
        key = "HTTP_" + name.upper().replace("-", "_")
        key = key.removeprefix("HTTP_") if key == "HTTP_CONTENT_TYPE" else key
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    if request["tls"] is not None:
        _add_tls(environ, request["tls"])
    return environ


def _add_tls(environ: dict[str, Any], tls: Drawn) -> None:
    if tls["by"] == "uwsgi":
        environ["HTTPS_CC"] = tls["pem"]
    elif tls["by"] == "socket":
        environ["gunicorn.socket"] = _Socket(tls)
    else:
        environ |= {"SSL_CLIENT_CERT": tls["pem"], "SSL_CLIENT_VERIFY": tls["word"]}
        environ |= {f"SSL_CLIENT_CERT_CHAIN_{number}": pem for number, pem in enumerate(tls["chain"])}


class _Socket:
    """A TLS socket of a server."""

    family = socket.AF_INET

    def __init__(self, tls: Drawn) -> None:
        self._ders = [_der(each) for each in (tls["pem"], *tls["chain"])]

    def getpeercert(self, binary: bool = False) -> bytes:
        return self._ders[0]

    def get_unverified_chain(self) -> list[bytes]:
        return self._ders


def _der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode("ascii")).public_bytes(Encoding.DER)


def scope_of(request: Drawn) -> dict[str, Any]:
    """As uvicorn makes it. `raw`: names of fields are not in lower case."""
    kind, peer = request["kind"], request["peer"]
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": request["root"] + request["path"],
        "root_path": request["root"],
        "query_string": request["query"].encode("latin-1"),
        "headers": [
            ((name if request["raw"] else name.lower()).encode("latin-1"), value.encode("latin-1"))
            for name, value in request["headers"]
        ],
        "client": None if peer in (None, "unix") else (peer, request["port"]),
        "server": ("/run/server.sock", None) if peer == "unix" else ("server.test", 8000),
        "extensions": {},
        **request["extra"],
    }
    if kind == "http":
        scope["method"] = request["method"]
    elif request["raw"]:
        scope["extensions"]["websocket.http.response"] = {}
    if request["adapter"]:
        scope["wsgi_environ"] = environ_of(request)
    tls = request["tls"]
    if tls is not None:
        chain = [tls["pem"], *tls["chain"]]
        error = None if tls["word"] == "SUCCESS" else tls["word"]
        scope["extensions"]["tls"] = {"client_cert_chain": chain, "client_cert_error": error}
        if tls["by"] == "uwsgi":
            scope["extensions"]["tls"] |= {"client_cert": _der(tls["pem"]), "client_cert_chain": tls["chain"][:0]}
    return scope
