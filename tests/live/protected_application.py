"""One protected application for each server of `test_default_output.py`. `SOURCE` and `OPTIONS` protect it."""

import os
from collections.abc import Iterable
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from mtls_middleware import asgi, policy, sources, validation, wsgi
from tests.exports import exported

_NAMES = {**exported(sources), **exported(policy), **exported(validation)}
_OPTIONS: dict[str, Any] = {
    "source": eval(os.environ["SOURCE"], dict(_NAMES)),
    **eval(os.environ.get("OPTIONS", "{}"), dict(_NAMES)),
}


def _wsgi(_environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


wsgi_application = wsgi.protect(_wsgi, **_OPTIONS)
asgi_application = asgi.protect(_asgi, **_OPTIONS)


def django_application() -> Any:
    """As django-admin starts a project: its default logging, or the page's in `LOGGING`."""
    urls = type("urls", (), {"urlpatterns": [path("", lambda _request: HttpResponse())]})
    logging = {"LOGGING": eval(os.environ["LOGGING"])} if "LOGGING" in os.environ else {}
    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="x", **logging)
    django.setup()
    return wsgi.protect(get_wsgi_application(), **_OPTIONS)
