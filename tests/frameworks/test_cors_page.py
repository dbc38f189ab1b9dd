"""docs/cors.md is true: in each framework, a preflight gets its response, and an actual request needs a certificate."""

import re
from pathlib import Path
from typing import Any

import falcon.asgi
import flask
import litestar
import pytest
import quart
import werkzeug.test
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from fastapi import FastAPI
from starlette.testclient import TestClient

from mtls_middleware import wsgi
from mtls_middleware.testing import TESTING_ENVIRON
from tests.frameworks import django_site
from tests.frameworks.reports import ALLOW, SOURCE, Headers

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cors.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PREFLIGHT = {"Origin": "https://front.example", "Access-Control-Request-Method": "DELETE"}
ACTUAL = {"Origin": PREFLIGHT["Origin"]}
urlpatterns = [path("invoices", lambda request: HttpResponse("seen"))]


def block(text: str) -> str:
    (found,) = [each for each in BLOCKS if text in each]
    return found


def test_no_block_is_untried() -> None:
    assert len(BLOCKS) == 5


def check(client: Any, proxied: Headers, *, readable: bool, **options: Any) -> None:
    """`readable`: a rejection has the CORS fields."""
    preflight = client.options("/invoices", headers=PREFLIGHT, **options)
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Methods"]) == (200, "DELETE")
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
    rejected = client.delete("/invoices", headers=ACTUAL, **options)
    assert (rejected.status_code, "Access-Control-Allow-Origin" in rejected.headers) == (403, readable)
    assert client.delete("/invoices", headers={**ACTUAL, **proxied}, **options).status_code == 200


async def _seen_in_falcon(resource: object, request: object, response: falcon.asgi.Response) -> None:
    response.text = "seen"


def _quart() -> Any:
    app = quart.Quart("cors")

    @app.delete("/invoices")
    async def invoices() -> str:
        return "seen"

    return app


def _litestar() -> Any:
    @litestar.delete("/invoices", status_code=200)
    async def invoices() -> str:
        return "seen"

    return litestar.Litestar([invoices])


def _falcon() -> Any:
    app = falcon.asgi.App()
    app.add_route("/invoices", type("Invoices", (), {"on_delete": _seen_in_falcon})())
    return app


def _fastapi() -> Any:
    app = FastAPI()
    app.delete("/invoices")(lambda: "seen")
    return app


def test_the_middleware_of_starlette_is_outside(proxied: Headers) -> None:
    names: dict[str, Any] = {"source": SOURCE, "rule": ALLOW}
    exec(block("add_middleware(").replace("app = Starlette()", ""), names | {"app": (app := _fastapi())})
    check(TestClient(app), proxied, readable=True)


@pytest.mark.parametrize("framework", [_quart, _litestar, _falcon, _fastapi])
def test_the_middleware_of_starlette_is_around_every_asgi_application(framework: Any, proxied: Headers) -> None:
    names: dict[str, Any] = {"app": framework(), "source": SOURCE, "rule": ALLOW}
    if framework is _quart:
        names["app"] = names["app"].asgi_app
    exec(block("app = CORSMiddleware("), names)
    check(TestClient(names["app"]), proxied, readable=True)


def test_flask_cors_is_inside(proxied: Headers) -> None:
    from flask_cors import CORS

    app = flask.Flask("cors")
    app.add_url_rule("/invoices", "/invoices", lambda: "seen", methods=["DELETE"])
    exec(block("# flask-cors"), {"app": app, "CORS": CORS, "protect": wsgi.protect, "source": SOURCE})
    client = werkzeug.test.Client(app.wsgi_app)
    check(client, proxied, readable=False, environ_overrides=TESTING_ENVIRON)


def django_settings(text: str, **names: Any) -> dict[str, Any]:
    exec(block(text), names)
    return {
        "ROOT_URLCONF": __name__,
        "MIDDLEWARE": [each for each in names["MIDDLEWARE"] if each is not ...],
        "CORS_ALLOWED_ORIGINS": names["CORS_ALLOWED_ORIGINS"],
        "CORS_ALLOW_METHODS": names["CORS_ALLOW_METHODS"],
        "CORS_ALLOW_CREDENTIALS": names["CORS_ALLOW_CREDENTIALS"],
        "MTLS_MIDDLEWARE": {"source": SOURCE, "allow": ALLOW},
    }


def test_django_cors_headers_is_before_the_middleware(proxied: Headers) -> None:
    django_site.set_up()
    with override_settings(**django_settings("integrations.django.middleware")):
        client = werkzeug.test.Client(django_site.wsgi())
        check(client, proxied, readable=True, environ_overrides=TESTING_ENVIRON)


def test_django_cors_headers_is_inside_protect(proxied: Headers) -> None:
    django_site.set_up()
    names: dict[str, Any] = {
        "source": SOURCE,
        "protect": wsgi.protect,
        "get_wsgi_application": django_site.wsgi,
    }
    with override_settings(**django_settings("exempt_preflight=True)  # wsgi.py", **names)):
        exec(
            block("exempt_preflight=True)  # wsgi.py"), names
        )  # Django reads its settings when the application is made
        client = werkzeug.test.Client(names["application"])
        check(client, proxied, readable=False, environ_overrides=TESTING_ENVIRON)
