"""Django's admin login, Flask's url_for and a Starlette websocket behind each proxy, as in docs/frameworks.md."""

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
import websockets.sync.client

from mtls_middleware.cli.forwarded_fields import DELETED_FIELDS, SET_FIELDS
from mtls_middleware.cli.proxies import PROXIES
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.client import Field, over_http1, over_http2
from tests.proxies.conftest import context, options_for, server_command, until_it_answers
from tests.proxies.matrix import Setup

pytestmark = [pytest.mark.live, pytest.mark.parametrize("behind", PROXIES, indirect=True)]
MODULE = "tests.proxies.framework_applications"
USER = {"USERNAME": "admin", "PASSWORD": "correct horse battery staple", "EMAIL": "admin@localhost"}


@dataclass(frozen=True)
class Behind:
    """The ports of one proxy in front of gunicorn, and in front of uvicorn."""

    proxy: str
    wsgi: int
    asgi: int


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "db.sqlite3"
    user = {f"DJANGO_SUPERUSER_{name}": value for name, value in USER.items()}
    environment = {"SOURCE": "ServerTLS()", "DATABASE": str(path), "PYTHONPATH": str(ROOT), **user}
    subprocess.run([sys.executable, "-m", MODULE], cwd=ROOT, env=environment, check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def behind(
    request: pytest.FixtureRequest, database: Path, server_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    ports = Behind(request.param, free_port(), free_port())
    gunicorn, uvicorn = free_port(), free_port()
    made = [
        options_for(Setup(request.param, "idiomatic", "optional", server), port, upstream, server_files)
        for server, port, upstream in (("gunicorn", ports.wsgi, gunicorn), ("H11", ports.asgi, uvicorn))
    ]
    environment = {"SOURCE": made[0].source(), "DATABASE": str(database), **programs.environment(made[0])}
    ws = ["--ws", "websockets-sansio"]
    with (
        programs.started(server_command("gunicorn", gunicorn, MODULE), gunicorn, ROOT, **environment),
        programs.started([*server_command("H11", uvicorn, MODULE), *ws], uvicorn, ROOT, **environment),
        programs.proxy(made[0], tmp_path_factory.mktemp(f"{request.param}-wsgi")),
        programs.proxy(made[1], tmp_path_factory.mktemp(f"{request.param}-asgi")),
    ):
        until_it_answers(ports.wsgi, "/about/start")
        yield ports


class Browser:
    """Keeps cookies, and sends the fields that a browser sends."""

    def __init__(self, port: int) -> None:
        self.origin, self.cookies = f"https://localhost:{port}", SimpleCookie()
        self._port = port

    def send(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        connection = http.client.HTTPSConnection("localhost", self._port, context=context("RSA"), timeout=20)
        fields = {"Cookie": "; ".join(f"{each.key}={each.value}" for each in self.cookies.values())}
        if form is not None:
            fields |= {"Origin": self.origin, "Referer": f"{self.origin}{path}"}
            fields["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, None if form is None else urlencode(form), fields)
        response = connection.getresponse()
        for line in response.headers.get_all("Set-Cookie", []):
            self.cookies.load(line)
        body = response.read().decode()
        connection.close()
        return response.status, response.headers.get("Location") or body


def test_an_administrator_logs_in_through_djangos_csrf_check(behind: Behind):
    browser = Browser(behind.wsgi)
    status, page = browser.send("GET", "/admin/login/")
    assert status == 200
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token is not None
    form = {
        "username": USER["USERNAME"],
        "password": USER["PASSWORD"],
        "next": "/admin/",
        "csrfmiddlewaretoken": token[1],
    }
    assert browser.send("POST", "/admin/login/", form) == (302, "/admin/")
    status, page = browser.send("GET", "/admin/")
    assert status == 200
    assert "Site administration" in page


def test_flasks_urls_have_the_scheme_host_and_port_of_the_client(behind: Behind):
    _, body = Browser(behind.wsgi).send("GET", "/about/me")
    about = json.loads(body)
    arrived = about.pop("arrived")
    assert about == {
        "url": f"https://localhost:{behind.wsgi}/about/me",
        "address": "127.0.0.1",
        "thumbprint": matrix.certificate("RSA").thumbprint,
    }
    assert arrived["host"] == f"localhost:{behind.wsgi}"
    assert {name: arrived[name] for name in SET_FIELDS} == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": f"localhost:{behind.wsgi}",
        "x-forwarded-port": str(behind.wsgi),
        "x-forwarded-proto": "https",
    }


def test_a_starlette_websocket_knows_its_url_and_its_client(behind: Behind):
    url = f"wss://localhost:{behind.asgi}/about"
    tls = matrix.servers().client_context(matrix.certificate("RSA"))
    with websockets.sync.client.connect(url, ssl=tls, proxy=None, open_timeout=20) as websocket:
        websocket.send("hello")
        assert json.loads(websocket.recv(timeout=20)) == {
            "url": url,
            "address": "127.0.0.1",
            "thumbprint": matrix.certificate("RSA").thumbprint,
            "scheme": "https",
            "echo": "hello",
        }


def test_quarts_urls_have_the_scheme_host_and_port_of_the_client(behind: Behind):
    _, body = Browser(behind.asgi).send("GET", "/quart")
    assert json.loads(body) == {
        "url": f"https://localhost:{behind.asgi}/quart",
        "address": "127.0.0.1",
        "thumbprint": matrix.certificate("RSA").thumbprint,
    }


def test_traefik_stores_no_large_response_to_a_handshake(behind: Behind):
    key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    handshake = [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", key]
    answers = [over_http1(behind.wsgi, context("RSA"), "/large", fields) for fields in ([], handshake)]
    statuses = [each.status for each in answers]
    assert statuses == ([200, 500] if behind.proxy == "traefik" else [200, 200])
    assert len(answers[0].body) == 2_000_000


def test_no_proxy_offers_http3(behind: Behind):
    connection = http.client.HTTPSConnection("localhost", behind.wsgi, context=context("RSA"), timeout=20)
    connection.request("GET", "/about/me")
    assert connection.getresponse().headers["Alt-Svc"] is None
    connection.close()
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", behind.wsgi))


FORGED: list[Field] = [(name.encode(), b"203.0.113.9") for name in (*SET_FIELDS, *sorted(DELETED_FIELDS))]
_NAMES = b", ".join(name for name, _ in FORGED[: len(SET_FIELDS)])
FORMS: dict[str, list[Field]] = {
    "exact names": FORGED,
    "underscores": [(name.replace(b"-", b"_"), value) for name, value in FORGED],
    "dots": [(name.replace(b"-", b"."), value) for name, value in FORGED],
    "twice": [*FORGED[:8], *FORGED[:8]],
    "Connection list": [(b"connection", _NAMES)],
    "Connection list, exact names": [(b"connection", _NAMES), *FORGED[:8]],
}
# The forms to which a proxy may answer with an error. It must remove all others.
MAY_BE_REJECTED = {"underscores", "Connection list", "Connection list, exact names"}


@pytest.mark.parametrize("protocol", [over_http1, over_http2], ids=["http1", "http2"])
@pytest.mark.parametrize("form", FORMS)
def test_a_client_cannot_choose_what_the_proxy_forwards(behind: Behind, form, protocol):
    fields = FORMS[form]
    sent = [name + b": " + value for name, value in fields] if protocol is over_http1 else fields
    answer = protocol(behind.wsgi, context("RSA"), "/about/me", sent)
    if answer.status != 200:
        assert form in MAY_BE_REJECTED
        assert answer.status in (0, 400, 403)
        return
    arrived = answer.report["arrived"]
    found = {name: arrived[name] for name in arrived if name in SET_FIELDS or name in DELETED_FIELDS}
    assert found == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "localhost",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    assert answer.report["url"] == "https://localhost/about/me"
    assert answer.report["address"] == "127.0.0.1"
    assert answer.report["thumbprint"] == matrix.certificate("RSA").thumbprint
