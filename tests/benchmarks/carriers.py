"""Requests as servers lay them out: environs as gunicorn makes them, scopes as uvicorn does.

Each carrier is made of new texts and octets, as a server reads them off a socket: a text that was hashed once keeps its
hash, and a benchmark that sends one text again and again would measure look-ups that no server ever sees.
"""

import io
import socket
from collections.abc import Callable, Sequence
from typing import Any

Pairs = Sequence[tuple[str, str]]

PROXY = "10.0.0.7"
_SOCKET = socket.socket()
# What a browserless client sends, and what a proxy adds.
_USUAL = (
    ("Host", "api.example"),
    ("User-Agent", "python-httpx/0.28.1"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("X-Request-ID", "6f1c5d9a5b7e4d52a5b0a6c1b8f04b11"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("Connection", "close"),
)


class Application:
    """The bare application, of both gateways; `reached` tells that nothing was refused on the way."""

    def __init__(self) -> None:
        self.reached = 0

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        self.reached += 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"reached"]

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"reached"})


class WSGI:
    """How environs are made, and an application is run over one."""

    name = "wsgi"

    def carrier(self, headers: Pairs, *, peer: str = PROXY, path: str = "/", form: bytes | None = None) -> Any:
        environ = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(form or b""),
            "wsgi.errors": None,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": _new("gunicorn/27.0.1"),
            "gunicorn.socket": _SOCKET,
            "REQUEST_METHOD": _new("GET" if form is None else "POST"),
            "QUERY_STRING": "",
            "RAW_URI": _new(path),
            "SERVER_PROTOCOL": _new("HTTP/1.1"),
            "REMOTE_ADDR": _new(peer),
            "REMOTE_PORT": _new("50000"),
            "SERVER_NAME": _new("127.0.0.1"),
            "SERVER_PORT": _new("8000"),
            "SCRIPT_NAME": "",
            "PATH_INFO": _new(path),
        }
        for name, value in (*_USUAL, *headers):
            environ["HTTP_" + name.upper().replace("-", "_")] = _new(value)
        if form is not None:
            environ["CONTENT_TYPE"] = _new("application/x-www-form-urlencoded")
            environ["CONTENT_LENGTH"] = _new(str(len(form)))
        return environ

    def runner(self, app: Any) -> Callable[[Any], None]:
        def start_response(*answer: Any) -> None: ...

        def run(environ: Any) -> None:
            for _ in app(environ, start_response):
                pass

        return run


class ASGI:
    """How scopes are made, and an application is run over one: without an event loop, for nothing here waits."""

    name = "asgi"

    def carrier(self, headers: Pairs, *, peer: str = PROXY, path: str = "/", form: bytes | None = None) -> Any:
        more: Pairs = () if form is None else (("Content-Type", "application/x-www-form-urlencoded"),)
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": (_new(peer), 50_000),
            "scheme": "http",
            "method": _new("GET" if form is None else "POST"),
            "root_path": "",
            "path": _new(path),
            "raw_path": path.encode("ascii"),
            "query_string": b"",
            "headers": [
                (name.lower().encode("ascii"), value.encode("ascii")) for name, value in (*_USUAL, *headers, *more)
            ],
            "state": {},
            "extensions": {},
            "form": form,
        }

    def runner(self, app: Any) -> Callable[[Any], None]:
        async def send(message: Any) -> None: ...

        def run(scope: Any) -> None:
            async def receive() -> Any:
                return {"type": "http.request", "body": scope["form"], "more_body": False}

            try:
                app(scope, receive, send).send(None)
            except StopIteration:
                return
            raise RuntimeError("the application waits for something")

        return run


GATEWAYS: tuple[WSGI | ASGI, ...] = (WSGI(), ASGI())


def _new(text: str) -> str:
    """The same text as a new object, not hashed yet."""
    return text.encode("ascii").decode("ascii")
