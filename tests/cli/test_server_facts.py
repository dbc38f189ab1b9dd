"""What `doctor` says of a server is what the real server does: h2c, bodies of upgrades, CONNECT, folded names."""

import json
import re
import socket
import sys
import time
from pathlib import Path

import pytest

from mtls_middleware import asgi, wsgi
from tests.cli.conftest import NGINX, bare, bare_asgi
from tests.live.servers import free_port, running

pytestmark = pytest.mark.live

BIN = Path(sys.executable).parent
MODULE = "tests.cli.applications"
ASGI = {
    "uvicorn --http h11": "uvicorn --http h11 --port {port} {module}:refuses",
    "uvicorn --http httptools": "uvicorn --http httptools --port {port} {module}:refuses",
    "uvicorn": "uvicorn --port {port} {module}:refuses",
    "uvicorn --http zttp": "uvicorn --http zttp --port {port} {module}:refuses",
    "uvicorn --http2": "uvicorn --http zttp --http2 --port {port} {module}:refuses",
    "hypercorn": "hypercorn -b 127.0.0.1:{port} {module}:refuses",
    "granian": "granian --interface asgi --port {port} {module}:refuses",
    "granian --http 1": "granian --interface asgi --http 1 --port {port} {module}:refuses",
    "granian --http 2": "granian --interface asgi --http 2 --port {port} {module}:refuses",
    "daphne": "daphne -p {port} {module}:refuses",
    "gunicorn -k asgi": "gunicorn -k asgi --no-control-socket -b 127.0.0.1:{port} {module}:refuses",
    "gunicorn --http2-cleartext":
        "gunicorn -k asgi --no-control-socket --http2-cleartext both --http-protocols h2,h1 -b 127.0.0.1:{port} "
        "{module}:refuses",
    "our h11": "uvicorn --http {ours}uvicorn_tls:H11 --port {port} {module}:refuses",
    "our httptools": "uvicorn --http {ours}uvicorn_tls:HTTPTools --port {port} {module}:refuses",
    "our zttp": "uvicorn --http {ours}uvicorn_tls:Zttp --port {port} {module}:refuses",
    "our HTTP/2": "uvicorn --http {ours}uvicorn_tls:HTTP2 --port {port} {module}:refuses",
    "our hypercorn": "python -m {ours}hypercorn_tls -b 127.0.0.1:{port} {module}:refuses",
    "our gunicorn":
        "gunicorn -k {ours}gunicorn_asgi.Worker --no-control-socket -b 127.0.0.1:{port} {module}:refuses",
}  # fmt: skip
WSGI = {
    "gunicorn": "gunicorn --no-control-socket -b 127.0.0.1:{port} {module}:refuses_wsgi",
    "gunicorn -k gthread": "gunicorn -k gthread --no-control-socket -b 127.0.0.1:{port} {module}:refuses_wsgi",
    "gunicorn -k gevent": "gunicorn -k gevent --no-control-socket -b 127.0.0.1:{port} {module}:refuses_wsgi",
    "gunicorn --header-map":
        "gunicorn --header-map dangerous --no-control-socket -b 127.0.0.1:{port} {module}:refuses_wsgi",
    "waitress": "waitress-serve --listen=127.0.0.1:{port} {module}:refuses_wsgi",
    "cheroot": "cheroot --bind 127.0.0.1:{port} {module}:refuses_wsgi",
    "granian": "granian --interface wsgi --http 1 --port {port} {module}:refuses_wsgi",
    "uvicorn": "uvicorn --interface wsgi --http h11 --port {port} {module}:refuses_wsgi",
    "hypercorn wsgi:": "hypercorn -b 127.0.0.1:{port} wsgi:{module}:refuses_wsgi",
    "hypercorn": "hypercorn -b 127.0.0.1:{port} {module}:refuses_wsgi",
    "twist": "twist web --wsgi {module}.refuses_wsgi --listen tcp:{port}:interface=127.0.0.1",
    "flask": "flask --app {module}:on_flask run --port {port}",
}  # fmt: skip
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"


def exchange(port: int, *parts: bytes) -> bytes:
    """What comes back within half a second of silence."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.1)
            while more := connection.recv(65_536):
                received += more
                connection.settimeout(0.5)
        except OSError:
            pass
    return received


def responses(port: int, *parts: bytes) -> int:
    return len(re.findall(rb"HTTP/1\.[01] [2-5]", exchange(port, *parts)))


def accepts_h2c(port: int) -> bool:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    head += b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    upgraded = exchange(port, head).startswith(b"HTTP/1.1 101")
    preface = exchange(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    return upgraded or preface[3:4] == b"\x04"


def reads_bodies(port: int) -> bool:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\nContent-Length: %d\r\n\r\n"
    return responses(port, head % len(HIDDEN), HIDDEN) > 1


def reads_behind_connect(port: int) -> bool:
    # httptools takes CONNECT for an upgrade: only with a path does uvicorn serve it.
    heads = (
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT /a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    return any(responses(port, head, HIDDEN) > 1 for head in heads)


def findings_of(doctor, app: object, command: str) -> str:
    _, findings = doctor(app, command)
    return "\n".join(each["what"] for each in findings)


@pytest.mark.parametrize("name", ASGI)
def test_what_a_server_reads_as_requests_is_known(name, doctor):
    port = free_port()
    command = ASGI[name].format(port=port, module=MODULE, ours="mtls_middleware.servers.")
    program, *rest = command.split()
    with running(rest, port, program=(f"{BIN}/{program}",)):
        measured = accepts_h2c(port), reads_bodies(port), reads_behind_connect(port)
    about = findings_of(doctor, asgi.ClientCertificateMiddleware(bare_asgi, NGINX), command)
    assert ("clear text" in about, "consume the body" in about, "follows CONNECT" in about) == measured


@pytest.mark.parametrize("name", WSGI)
def test_which_server_folds_names_is_known(name, doctor):
    port = free_port()
    command = WSGI[name].format(port=port, module=MODULE)
    program, *rest = command.split()
    with running(rest, port, program=(f"{BIN}/{program}",)):
        answer = exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX_SSL_Client_Cert: forged\r\n\r\n")
        connect = reads_behind_connect(port)
    folds = json.loads(answer.rpartition(b"\r\n")[2]) == "forged"
    about = findings_of(doctor, wsgi.ClientCertificateMiddleware(bare, NGINX), command)
    assert ("X_SSL_Client_Cert" in about, "follows CONNECT" in about) == (folds, connect)


@pytest.mark.parametrize("adapter", ["by_asgiref", "by_hypercorn"])
def test_adapters_fold_names(adapter):
    port = free_port()
    with running(["--http", "h11", "--port", str(port), f"{MODULE}:{adapter}"], port, program=(f"{BIN}/uvicorn",)):
        answer = exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX_SSL_Client_Cert: forged\r\n\r\n")
    assert json.loads(answer.rpartition(b"\r\n")[2]) == "forged"
