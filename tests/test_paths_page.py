"""docs/paths.md is true: its code runs, and does what the page says."""

import re
from pathlib import Path
from typing import Any

import flask
import httpx2
import pytest
import werkzeug.test
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from starlette.testclient import TestClient

from mtls_middleware import wsgi
from mtls_middleware.testing import TESTING_ENVIRON, CertificateAuthority
from tests.frameworks import django_site
from tests.frameworks.reports import ALLOW, SOURCE

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "paths.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PREFLIGHT = {"Origin": "https://front.example", "Access-Control-Request-Method": "DELETE"}
urlpatterns = [path("invoices", lambda request: HttpResponse("seen"))]


def block(text: str) -> str:
    (found,) = [each for each in BLOCKS if text in each]
    return found


def answer(app: Any, path: str, **options: Any) -> Any:
    environ = {**TESTING_ENVIRON, **options.pop("environ", {})}
    return werkzeug.test.Client(app).open(path, environ_overrides=environ, **options)


def flask_app() -> flask.Flask:
    app = flask.Flask("paths")
    for rule in ("/", "/admin", "/public", "/health", "/invoices"):
        app.add_url_rule(rule, rule, lambda: "seen", methods=["GET", "DELETE"])
    return app


def test_no_block_is_untried() -> None:
    assert len(BLOCKS) == 4


@pytest.mark.parametrize(("path", "statuses"), [
    ("/", [403, 200, 403]),
    ("/admin", [403, 403, 200]),
    ("/public", [200, 200, 200]),
    ("/health", [200, 200, 200]),
])  # fmt: skip
def test_the_rules_of_the_first_example_apply(path: str, statuses: list[int]) -> None:
    app = flask_app()
    exec(block("allow = {"), {"app": app})
    authority = CertificateAuthority()
    guest = authority.issue("CN=guest", uris=["spiffe://acme.internal/guest"])
    ops = authority.issue("CN=ops,O=Acme")
    environs = [{}, guest.as_environ(), ops.as_environ()]
    for asked in (path, f"/api{path}"):
        assert [answer(app.wsgi_app, asked, environ=each).status_code for each in environs] == statuses


def test_the_starlette_example_answers_a_preflight() -> None:
    names: dict[str, Any] = {"source": SOURCE, "rule": ALLOW}
    exec(block("add_middleware(CORSMiddleware"), names)
    client = TestClient(names["app"])
    response: httpx2.Response = client.options("/invoices", headers=PREFLIGHT)
    assert (response.status_code, response.headers["Access-Control-Allow-Methods"]) == (200, "DELETE")
    assert client.delete("/invoices", headers={"Origin": PREFLIGHT["Origin"]}).status_code == 403


def test_the_flask_example_lets_a_preflight_through() -> None:
    from flask_cors import CORS

    app = flask_app()
    exec(block("# flask-cors"), {"app": app, "CORS": CORS, "protect": wsgi.protect, "source": SOURCE})
    response = answer(app.wsgi_app, "/invoices", method="OPTIONS", headers=PREFLIGHT)
    assert (response.status_code, response.headers["Access-Control-Allow-Methods"]) == (200, "DELETE")
    assert answer(app.wsgi_app, "/invoices", method="DELETE").status_code == 403


def test_the_django_example_lets_a_preflight_through() -> None:
    names: dict[str, Any] = {"source": SOURCE, "protect": wsgi.protect, "get_wsgi_application": django_site.wsgi}
    django_site.set_up()
    exec(block("corsheaders"), names)
    layers = [each for each in names["MIDDLEWARE"] if each is not ...]
    with override_settings(
        ROOT_URLCONF=__name__,
        MIDDLEWARE=layers,
        CORS_ALLOWED_ORIGINS=[PREFLIGHT["Origin"]],
        CORS_ALLOW_METHODS=["DELETE"],
    ):
        exec(block("corsheaders"), names)  # again: Django reads its settings when it makes the application
        response = answer(names["application"], "/invoices", method="OPTIONS", headers=PREFLIGHT)
        assert (response.status_code, response.headers["Access-Control-Allow-Methods"]) == (200, "DELETE")
        assert answer(names["application"], "/invoices").status_code == 403
