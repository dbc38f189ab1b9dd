"""`mtls-middleware dev-ca`: the printed lines work with the real servers, which do not restart because of the files."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.servers import free_port, listens

pytestmark = pytest.mark.live

SHOP = """
from flask import Flask, request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from mtls_middleware import asgi, client_certificate, wsgi
from mtls_middleware.policy import Subject
from mtls_middleware.sources import ServerTLS

app = Flask(__name__)
app.add_url_rule("/", view_func=lambda: client_certificate(request.environ).subject)
app.wsgi_app = wsgi.protect(app.wsgi_app, source=ServerTLS(), allow=Subject("CN=client"))

async def view(request):
    return PlainTextResponse(client_certificate(request.scope).subject)

asgi_app = asgi.protect(Starlette(routes=[Route("/", view)]), source=ServerTLS(), allow=Subject("CN=client"))
"""
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text("utf-8")
# A project with the two files of the page.
DJANGO = {
    "manage.py": """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "settings.py": """
SECRET_KEY = "for tests"
DEBUG = True
ROOT_URLCONF = "urls"
WSGI_APPLICATION = "development.application"
""",
    "urls.py": """
from django.http import HttpResponse
from django.urls import path
from mtls_middleware import client_certificate
urlpatterns = [path("", lambda request: HttpResponse(client_certificate(request.META).subject))]
""",
    **dict(re.findall(r"```python\n# ((?:development|wsgi)\.py)\n(.*?)```", PAGE, re.DOTALL)),
}
COMMAND = [sys.executable, "-m", "mtls_middleware", "dev-ca"]
# Server -> (words of the printed line, further options)
SERVERS = {
    "gunicorn": ("shop:app", ["--reload", "--no-control-socket"]),
    "uvicorn": ("shop:asgi_app", ["--reload"]),
    "flask": ("shop", ["--debug"]),
}


@contextlib.contextmanager
def running(line: str, folder: Path, port: int) -> Iterator[Path]:
    """Run a shell's line in `folder`, and all processes that it starts, until the end of the block. Gives its log."""
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(["sh", "-c", line], cwd=folder, stdout=output, stderr=output, start_new_session=True)
        try:
            if not listens(server, port):
                raise AssertionError(f"{line} did not start:\n{log.read_text()}")
            yield log
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def printed(folder: Path, *options: str) -> str:
    return subprocess.run([*COMMAND, *options], cwd=folder, capture_output=True, text=True, check=True).stdout


def line_of(text: str, server: str) -> str:
    """The printed command that starts this server, on one line."""
    lines = text.replace("\\\n", " ").splitlines()
    (line,) = [each.strip() for each in lines if f"{server} --" in each]
    return line


@pytest.mark.parametrize("server", SERVERS)
def test_the_printed_lines_work_and_new_files_restart_no_server(server: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    application, further = SERVERS[server]
    port = free_port()
    text = printed(tmp_path).replace("8443", str(port))
    line = line_of(text, server).replace("MODULE:APP", application).replace("MODULE", application)
    line = line.replace(f"{server} ", f"{sys.executable} -m {server} ", 1)
    with running(f"exec env {line} {' '.join(further)}", tmp_path, port) as log:
        accepted, rejected = [each.strip() for each in text.splitlines() if each.strip().startswith("curl ")]
        assert answer(accepted, tmp_path) == "CN=client"
        assert "client_certificate_required" in answer(rejected, tmp_path)
        printed(tmp_path, "--renew")
        time.sleep(3)  # every reloader looks at its files once a second
    assert b"reloading" not in log.read_bytes().lower().replace(b"reloader", b"")
    assert b"detected" not in log.read_bytes().lower()


def answer(line: str, folder: Path) -> str:
    return subprocess.run(["sh", "-c", f"{line} -sS"], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_recipe_for_runserver(tmp_path: Path) -> None:
    for name, text in DJANGO.items():
        (tmp_path / name).write_text(text)
    printed(tmp_path)
    port = free_port()
    with running(f"exec {sys.executable} manage.py runserver {port}", tmp_path, port):
        assert answer(f"curl http://127.0.0.1:{port}/", tmp_path) == "CN=client"
