"""Applications for ASGI and WSGI that record each request, and return the record of one tag at `/seen/<tag>`.

A path is `/<kind>/<tag>`. The kind `early` is answered before the body is read, and `slow` after a pause. A path of
another kind, and the target of a CONNECT in authority form, is answered 404.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections import defaultdict
from typing import Any

from mtls_middleware.servers import cheroot_tls

SEEN: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
PAUSE = 0.2
KINDS = ("/first/", "/slow/", "/early/", "/smuggled/", "/seen/")


def note(path: str, **facts: Any) -> dict[str, Any]:
    _, _, tag = path.rpartition("/")
    SEEN[tag].append({"path": path, "body": None, **facts})
    return SEEN[tag][-1]


def digest(body: bytes) -> str:
    return f"{len(body)}:{hashlib.sha256(body).hexdigest()}"


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        note(scope["path"], method="websocket")
        await receive()
        if scope["path"].startswith("/refuse/"):
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        while (message := await receive())["type"] != "websocket.disconnect":
            note(scope["path"], method="frame", body=repr(message.get("text") or message.get("bytes")))
        return
    answer = b"ok"
    if scope["path"].startswith("/seen/"):
        answer = json.dumps(SEEN[scope["path"].removeprefix("/seen/")]).encode()
    else:
        noted = note(scope["path"], method=scope["method"])
        if not scope["path"].startswith("/early/"):
            if scope["path"].startswith("/slow/"):
                await asyncio.sleep(PAUSE)
            noted["body"] = digest(await read(receive))
        if scope["path"].startswith("/boom/"):
            raise RuntimeError("boom")
        if scope["path"].startswith("/stream/"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"o", "more_body": True})
            await send({"type": "http.response.body", "body": b"k"})
            return
    headers = [(b"content-length", str(len(answer)).encode())]
    headers += [(b"connection", b"keep-alive")] if scope["path"].startswith("/keep/") else []
    status = 200 if scope["path"].startswith(KINDS) else 404
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer})


async def read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def wsgi(environ: Any, start_response: Any) -> Any:
    path, answer = environ["PATH_INFO"], b"ok"
    if path.startswith("/seen/"):
        answer = json.dumps(SEEN[path.removeprefix("/seen/")]).encode()
    else:
        noted = note(path, method=environ["REQUEST_METHOD"])
        if not path.startswith("/early/"):
            if path.startswith("/slow/"):
                time.sleep(PAUSE)
            noted["body"] = digest(read_wsgi(environ))
    start_response("200 OK" if path.startswith(KINDS) else "404 Not Found", [("Content-Length", str(len(answer)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer]


def read_wsgi(environ: Any) -> bytes:
    """PEP 3333 knows no chunked body: each server that reads one has a way of its own to say that it ends."""
    if length := environ.get("CONTENT_LENGTH"):
        return environ["wsgi.input"].read(int(length))
    if environ.get("HTTP_TRANSFER_ENCODING") is None:
        return b""
    if "uwsgi.version" in environ:
        import uwsgi

        return b"".join(iter(uwsgi.chunked_read, b""))
    if environ["SERVER_SOFTWARE"].startswith("WSGIServer"):  # wsgiref reads on for ever
        return b""
    return environ["wsgi.input"].read()


def serve_cheroot_tls(port: int, directory: str) -> None:
    import ssl

    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), wsgi)
    server.ssl_adapter = cheroot_tls.Adapter(f"{directory}/server.pem", f"{directory}/server-key.pem")
    server.ssl_adapter.context.load_verify_locations(f"{directory}/ca.pem")
    server.ssl_adapter.context.verify_mode = ssl.CERT_OPTIONAL
    server.start()


def serve_cheroot(port: int) -> None:
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), wsgi).start()


def serve_waitress(port: int) -> None:
    from waitress import serve

    serve(wsgi, host="127.0.0.1", port=port)


def serve_wsgiref(port: int) -> None:
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, wsgi).serve_forever()


def serve_werkzeug(port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, wsgi, threaded=True)


if __name__ == "__main__":
    globals()[f"serve_{sys.argv[1]}"](int(sys.argv[2]), *sys.argv[3:])
