"""docs/users.md is true: its code runs, its table lists every kind of name, and its commands lead to the admin."""

import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
from starlette.testclient import TestClient
from werkzeug.test import Client

from mtls_middleware import ConfigurationError, policy
from mtls_middleware.identifier import Identifier
from mtls_middleware.integrations import CertificateUser
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate
from tests.integrations.page_code import PROXY, SOURCE
from tests.integrations.test_certificate_user import ALICE, NAMESAKE, STAFF, upn, validated
from tests.live.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "users.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
ROWS = re.findall(r"^\| `((\w+)\(.*?\))` \|.*\| (yes|no) \|$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def _authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "staff-ca.pem").write_text(STAFF.pem)
    (tmp_path / "clients-ca.pem").write_text(STAFF.pem + NAMESAKE.pem)
    monkeypatch.chdir(tmp_path)


def run(file: str) -> dict[str, Any]:
    """The names of a documented file."""
    names: dict[str, Any] = {"__name__": file.removesuffix(".py")}
    exec(FILES[file], names)
    return names


@pytest.mark.parametrize(("file", "expected"), [("users.py", ALICE), ("people.py", "Alice")])
def test_the_examples_find_the_user(file: str, expected: str) -> None:
    users: CertificateUser[Any] = run(file)["users"]
    identity = users.identify(validated(upn("alice@CORP.example")))
    assert identity is not None
    assert getattr(users.user_of(identity), "name", users.user_of(identity)) == expected


def test_the_table_lists_every_kind_of_name() -> None:
    exported = {name: getattr(policy, name) for name in policy.__all__}
    kinds = {name for name, kind in exported.items() if isinstance(kind, type) and issubclass(kind, Identifier)}
    assert {name for _, name, _ in ROWS} == kinds


@pytest.mark.parametrize(("source", "name", "needs"), ROWS)
def test_the_table_says_which_names_need_their_authority(source: str, name: str, needs: str) -> None:
    kind = eval(source, {name: getattr(policy, name)})
    CertificateUser(by=kind, issued_by=STAFF.certificate)
    if needs == "yes":
        with pytest.raises(ConfigurationError, match="without issued_by="):
            CertificateUser(by=kind)
    else:
        CertificateUser(by=kind)


def behind_proxy(app: Any, card: IssuedCertificate | None) -> TestClient:
    return TestClient(app if card is None else card.for_source(SOURCE).asgi(app), client=(PROXY, 4711))


def test_the_starlette_example_has_the_user_and_the_scopes() -> None:
    app = run("starlette_users.py")["app"]
    assert behind_proxy(app, upn(ALICE)).get("/").json() == {"user": ALICE, "scopes": ["authenticated"]}
    for card in (None, upn(ALICE, ca=NAMESAKE), upn(ALICE, "bob@corp.example")):
        assert behind_proxy(app, card).get("/").status_code == 403


def test_the_fastapi_example_has_the_user() -> None:
    app = run("fastapi_users.py")["app"]
    assert behind_proxy(app, upn(ALICE)).get("/").json() == {"user": ALICE}
    for card in (None, upn(ALICE, ca=NAMESAKE), upn()):
        assert behind_proxy(app, card).get("/").status_code == 403


def flask_response(app: Any, card: IssuedCertificate | None, **options: Any) -> Any:
    overrides = {**TESTING_ENVIRON, "REMOTE_ADDR": PROXY} if card is None else card.for_source(SOURCE).environ
    return Client(app).get("/", environ_overrides=overrides, **options)


def test_the_flask_example_has_the_user_of_each_request() -> None:
    names = run("flask_users.py")
    app, card = names["app"], upn(ALICE)
    assert flask_response(app, card).json == {"user": ALICE, "certificate": card.thumbprint}
    for other in (None, upn(ALICE, ca=NAMESAKE), upn()):
        assert flask_response(app, other).status_code == 401


def test_no_session_of_flask_login_replaces_the_user_of_the_certificate() -> None:
    names = run("flask_users.py")
    app = names["app"]
    app.secret_key = "for tests"
    session = app.session_interface.get_signing_serializer(app).dumps({"_user_id": "bob@corp.example", "_fresh": True})
    cookie = {"Cookie": f"session={session}"}
    assert flask_response(app, upn(ALICE), headers=cookie).json["user"] == ALICE
    assert flask_response(app, None, headers=cookie).status_code == 401


@pytest.mark.parametrize("card", [None, upn(ALICE)], ids=["none", "card"])
def test_current_certificate_is_false_without_a_certificate(card: IssuedCertificate | None) -> None:
    names = run("flask_users.py")
    app, current = names["app"], names["current_certificate"]
    seen: list[Any] = []

    @app.get("/seen")
    def view() -> str:
        seen.append(bool(current))
        if current:
            return str(current.thumbprint)
        with pytest.raises(RuntimeError, match="no client certificate"):
            _ = current.subject
        return ""

    overrides = {**TESTING_ENVIRON} if card is None else card.for_source(SOURCE).environ
    response = Client(app).get("/seen", environ_overrides=overrides)
    assert seen == [card is not None]
    assert response.text == ("" if card is None else card.thumbprint)


@contextmanager
def running(command: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A server that runs until the block ends."""
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(shlex.split(command), cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            server.terminate()
            server.wait(30)


def get(address: str, folder: Path, fields: Mapping[str, str]) -> tuple[int, str]:
    """The response of the server, as soon as it listens."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.addheaders = list(fields.items())
    for _ in range(300):
        try:
            with opener.open(address, timeout=30) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except URLError:
            time.sleep(0.1)
    raise AssertionError((folder / "server.log").read_text())


# Settings of a project behind a proxy, whose names have hyphens.
BEHIND_PROXY = """
from mtls_middleware.sources import Nginx
MTLS_MIDDLEWARE["source"] = Nginx(trusted_proxies=["127.0.0.1"], shared_secret=("MtlsProxySecret", "s" * 16))
"""
SERVERS = {
    "runserver": "python manage.py runserver --noreload 127.0.0.1:PORT",
    "gunicorn": "gunicorn --bind 127.0.0.1:PORT mysite.wsgi",
    "uvicorn": "uvicorn --port PORT --no-proxy-headers mysite.asgi:application",
}


@pytest.mark.live
@pytest.mark.parametrize("server", SERVERS)
def test_requests_of_every_server_pass_through_the_middleware(server: str, tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    project = tmp_path / "mysite"
    follow("django-admin startproject mysite", tmp_path, environment)
    (project / ".mtls-dev").mkdir()
    (project / ".mtls-dev" / "ca.pem").write_text(STAFF.pem)
    with (project / "mysite" / "settings.py").open("a") as settings:
        settings.write(FILES["mysite/settings.py"] + BEHIND_PROXY)
    follow("python manage.py migrate", project, environment)
    follow(f"python manage.py createsuperuser --username {ALICE} --email {ALICE} --noinput", project, environment)
    source = Nginx(trusted_proxies=["127.0.0.1"], shared_secret=("MtlsProxySecret", "s" * 16))
    port = free_port()
    with running(SERVERS[server].replace("PORT", str(port)), project, environment):
        address = f"http://127.0.0.1:{port}/admin/"
        status, page = get(address, project, upn(ALICE).for_source(source))
        assert (status, "Site administration" in page) == (200, True), (project / "server.log").read_text()
        forged = {name: value for name, value in upn(ALICE).for_source(source).items() if name != "mtlsproxysecret"}
        for fields in ({}, forged, {name.replace("-", "_"): value for name, value in forged.items()}):
            status, page = get(address, project, fields)
            assert (status, "your browser presented none" in page) == (403, True), fields


def follow(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a command of the page. Return what it prints."""
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.live
def test_the_documented_test_of_a_project_passes(tmp_path: Path) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    follow("django-admin startproject mysite .", tmp_path, environment)
    (tmp_path / ".mtls-dev").mkdir()
    (tmp_path / ".mtls-dev" / "ca.pem").write_text(STAFF.pem)
    with (tmp_path / "mysite" / "settings.py").open("a") as settings:
        settings.write(FILES["mysite/settings.py"])
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts" / "__init__.py").touch()
    (tmp_path / "accounts" / "tests.py").write_text(FILES["accounts/tests.py"])
    assert "Ran 1 test" in follow("python manage.py test accounts", tmp_path, environment)


def test_the_tutorial_has_the_settings_of_the_page() -> None:
    tutorial = (ROOT / "docs" / "tutorial-django-gunicorn.md").read_text("utf-8")
    assert FILES["mysite/settings.py"] in tutorial
