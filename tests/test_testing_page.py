"""docs/testing.md: each line of its table sends the certificate, and its code runs."""

import asyncio
import re
from pathlib import Path
from typing import Any

import flask
import httpx2
import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import mtls_middleware.testing.django
from mtls_middleware import asgi, client_certificate, wsgi
from mtls_middleware.policy import DNSName
from mtls_middleware.sources import Envoy
from tests.integrations.route_frameworks import URLconf

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "testing.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| ([A-Z][^|]*|httpx2[^|]*) \| `(.*)` \|$", PAGE, re.MULTILINE))
FILES = dict(re.findall(r"```python\n# (test_\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
SOURCE = Envoy(trusted_proxies=["192.0.2.0/24"], shared_secret=("X-Secret", "s" * 16), verified_by_proxy=True)
OPTIONS: dict[str, Any] = {"source": SOURCE, "allow": DNSName("billing.internal")}


def view(request: Any) -> HttpResponse:
    carrier = request.META if "wsgi.input" in request.META else request.scope
    return HttpResponse(client_certificate(carrier).subject)


async def starlette_view(request: Any) -> PlainTextResponse:
    return PlainTextResponse(client_certificate(request.scope).subject)


def applications(name: str) -> dict[str, Any]:
    app = flask.Flask("x")
    app.add_url_rule("/", view_func=lambda: client_certificate(flask.request.environ).subject)
    app.wsgi_app = wsgi.protect(app.wsgi_app, **OPTIONS)
    if "Starlette" in name or name == "httpx2, asynchronous":
        return {"app": asgi.protect(Starlette(routes=[Route("/", starlette_view)]), **OPTIONS)}
    if "asynchronous" in name:
        return {"application": asgi.protect(get_asgi_application(), **OPTIONS)}
    return {"app": app, "application": wsgi.protect(get_wsgi_application(), **OPTIONS)}


@pytest.mark.parametrize("name", ROWS)
def test_each_line_of_the_table_sends_the_certificate(name: str) -> None:
    names: dict[str, Any] = {"source": SOURCE, "TestClient": TestClient, "httpx2": httpx2}
    names["mtls_middleware"] = mtls_middleware
    exec(FILES["test_clients.py"], names)
    with override_settings(ROOT_URLCONF=URLconf([path("", view)]), MIDDLEWARE=[]):
        names |= applications(name)
        line = ROWS[name]
        if line.startswith("await "):
            line = line.removeprefix("await ")
        found = eval(line, names)
        found = found if hasattr(found, "status_code") or asyncio.iscoroutine(found) else found.get("http://localhost/")
        answer = asyncio.run(awaited(found)) if asyncio.iscoroutine(found) else found
    assert answer.status_code == 200
    assert "CN=billing,O=Acme" in (answer.content.decode() if hasattr(answer, "content") else answer.text)


async def awaited(coroutine: Any) -> Any:
    return await coroutine


def test_the_table_has_a_row_for_each_client() -> None:
    assert len(ROWS) == 6


def test_the_code_about_tokens_runs() -> None:
    names: dict[str, Any] = {}
    exec(FILES["test_tokens.py"], names)
    app: Any = flask.Flask("x")
    app.add_url_rule("/", view_func=lambda: "reached")
    app.wsgi_app = wsgi.protect(app.wsgi_app, source=SOURCE, tokens=names["tokens"])
    transport = httpx2.WSGITransport(app=names["billing"].for_source(SOURCE).wsgi(app))
    with httpx2.Client(transport=transport, headers=names["authorization"]) as client:
        assert client.get("http://localhost/").text == "reached"
