"""Django's admin, a Flask, a Starlette and a Quart application, each wrapped by the lines of docs/frameworks.md.

`SOURCE` (environment) is the source, as Python code; `DATABASE` is the file of Django's database. Run as a program,
this module creates the database with the user of Django's `DJANGO_SUPERUSER_USERNAME`.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import flask
import quart
from django.conf import settings
from django.contrib import admin
from django.core.management import call_command
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from mtls_middleware import client_certificate, sources
from tests import django_settings
from tests.exports import exported

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "frameworks.md").read_text("utf-8")
SOURCE = eval(os.environ["SOURCE"], {**exported(sources), "os": os})
ARRIVED = "tests.arrived"


def lines_for(framework: str) -> list[str]:
    """The Python of the section of this framework."""
    section = PAGE.partition(f"\n## {framework}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def django_application() -> Any:
    settings_lines, wsgi_lines = lines_for("Django")
    own: dict[str, Any] = {}
    exec(settings_lines.replace("api.example.com", "localhost"), own)
    settings.configure(
        **{name: value for name, value in own.items() if name.isupper()},
        ROOT_URLCONF=__name__,
        SECRET_KEY="of the tests",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
        INSTALLED_APPS=["django.contrib.admin", *django_settings.APPLICATIONS],
        MIDDLEWARE=django_settings.MIDDLEWARE,
        TEMPLATES=django_settings.TEMPLATES,
    )
    django.setup()
    global urlpatterns  # noqa: PLW0603 (Django reads the name from the module of ROOT_URLCONF)
    urlpatterns = [path("admin/", admin.site.urls)]
    made: dict[str, Any] = {"source": SOURCE}
    exec(wsgi_lines, made)
    return made["application"]


def flask_application() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get("/about/<name>")
    def about(name: str) -> dict[str, Any]:
        certificate = client_certificate(flask.request)
        return {
            "url": flask.url_for("about", name=name, _external=True),
            "address": flask.request.remote_addr,
            "thumbprint": certificate and certificate.thumbprint,
            "arrived": flask.request.environ[ARRIVED],
        }

    (lines,) = lines_for("Flask")
    exec(lines, {"app": app, "source": SOURCE})
    return app


def starlette_application() -> Any:
    async def about(websocket: WebSocket) -> None:
        certificate = client_certificate(websocket)
        await websocket.accept()
        await websocket.send_json(
            {
                "url": str(websocket.url_for("about")),
                "address": websocket.client and websocket.client.host,
                "thumbprint": certificate and certificate.thumbprint,
                "scheme": websocket.headers["x-forwarded-proto"],
                "echo": await websocket.receive_text(),
            }
        )
        await websocket.close()

    return wrapped(Starlette(routes=[WebSocketRoute("/about", about, name="about")]))


def quart_application() -> quart.Quart:
    app = quart.Quart(__name__)

    @app.get("/quart")
    async def about() -> dict[str, Any]:
        certificate = client_certificate(quart.request)
        return {
            "url": quart.url_for("about", _external=True),
            "address": quart.request.remote_addr,
            "thumbprint": certificate and certificate.thumbprint,
        }

    app.asgi_app = wrapped(app.asgi_app)  # type: ignore[method-assign]  # as in the documentation of Quart
    return app


def wrapped(app: Any) -> Any:
    (lines,) = lines_for("Starlette, FastAPI, Quart")
    made: dict[str, Any] = {"app": app, "source": SOURCE}
    exec(lines, made)
    return made["app"]


urlpatterns: list[Any] = []
DJANGO, FLASK = django_application(), flask_application()
STARLETTE, QUART = starlette_application(), quart_application()


async def asgi_application(scope: Any, receive: Any, send: Any) -> None:
    await (QUART if scope["path"] == "/quart" else STARLETTE)(scope, receive, send)


def wsgi_application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    if environ["PATH_INFO"].startswith("/admin/"):
        return DJANGO(environ, start_response)
    if environ["PATH_INFO"] == "/large":  # werkzeug answers 400 to a handshake
        start_response("200 OK", [("Content-Length", "2000000")])
        return [bytes(2_000_000)]
    environ[ARRIVED] = {
        key[5:].lower().replace("_", "-"): value for key, value in environ.items() if key[:5] == "HTTP_"
    }
    return FLASK(environ, start_response)


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    call_command("createsuperuser", interactive=False, verbosity=0)  # DJANGO_SUPERUSER_USERNAME, ..._PASSWORD
