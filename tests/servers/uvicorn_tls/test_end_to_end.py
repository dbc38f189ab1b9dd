"""The layer behind uvicorn, in a thread and by the command line of the docstring."""

import json
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from mtls_middleware import Verification, client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware
from mtls_middleware.sources import ServerTLS
from tests.servers.clients import greeting
from tests.servers.uvicorn_tls.server import (
    CA,
    CLIENT,
    ENVIRON,
    HTTP,
    LOOPS,
    MODULE,
    Application,
    answers,
    connected,
    get,
    serving,
)


@pytest.mark.live
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("http", "ws"), [("H11", "WebSockets"), ("HTTPTools", "WSProto"), ("Zttp", "WebSockets")])
def test_end_to_end_the_layer_attaches_what_the_server_verified(files: Any, http: str, ws: str, loop: str) -> None:
    app = Application()
    wrapped = ClientCertificateMiddleware(app, ServerTLS(), required=True)
    with serving(wrapped, http=http, ws=ws, loop=loop, ssl_cert_reqs=ssl.CERT_OPTIONAL, **files) as port:
        assert get(port, client=None) == 403
        with pytest.raises(InvalidStatus) as refused:
            greeting(port, None, ca=CA)
        assert refused.value.response.status_code == 403
        assert app.scopes == []
        assert get(port) == 200
        assert greeting(port, CLIENT, ca=CA) == "hello"
    assert [each["type"] for each in app.scopes] == ["http", "websocket"]
    for scope in app.scopes:
        attached = client_certificate(scope)
        assert attached == CLIENT.client_certificate()
        assert attached.verification is Verification.BY_SERVER
        assert attached.thumbprint == CLIENT.thumbprint
        assert attached.chain == CLIENT.client_certificate().chain
        assert len(attached.chain) == 1


COMMAND = """
import json
from mtls_middleware import client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware
from mtls_middleware.sources import ServerTLS

async def answer(scope, receive, send):
    certificate = client_certificate(scope)
    body = json.dumps([certificate.verification.name, certificate.thumbprint, scope["client"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

app = ClientCertificateMiddleware(answer, ServerTLS(), required=True)
"""


@pytest.mark.live
@pytest.mark.parametrize("http", HTTP)
def test_the_command_line_of_the_docstring(files: Any, http: str, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(COMMAND)
    command = [sys.executable, "-m", "uvicorn", "served:app", "--app-dir", str(tmp_path), "--port", "0"]
    command += [part for name, path in files.items() for part in ("--" + name.replace("_", "-"), str(path))]
    command += ["--ssl-cert-reqs", "1", "--http", f"{MODULE}:{http}", "--ws", f"{MODULE}:WebSockets"]
    with subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            lines = []
            for line in process.stdout or ():
                lines.append(line)
                if running := re.search(r"running on https://127\.0\.0\.1:(\d+)", line):
                    break
            else:
                pytest.fail("".join(lines))
            context = CA.client_context(CLIENT)
            request = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
            with connected(int(running[1]), context) as connection:
                connection.sendall(request)
                assert json.loads(answers(connection)[0]) == ["BY_SERVER", CLIENT.thumbprint, ["192.0.2.7", 0]]
        finally:
            process.terminate()
        log = process.stdout.read() if process.stdout else ""
    assert '192.0.2.7:0 - "GET / HTTP/1.1" 200' in log  # uvicorn's access log still sees what its proxy headers say
