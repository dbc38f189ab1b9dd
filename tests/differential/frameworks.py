"""Applications of frameworks whose routes require scopes, for each gateway. They use the public interface alone."""

import functools
import json
from collections.abc import Callable
from typing import Annotated, Any

from mtls_middleware import access_token, client_certificate

PATHS = ("/", "/admin", "/admin/users", "/public", "/health", "/static/a", "/static", "/token")


def _told(request: Any) -> str:
    certificate, token = client_certificate(request), access_token(request)
    report = [
        None if certificate is None else [certificate.thumbprint, certificate.verification.name],
        None if token is None else [token.subject, token.bound, token.confirmation, sorted(token.scopes)],
    ]
    return json.dumps(report)


def flask() -> Any:
    import flask

    from mtls_middleware.integrations.flask_routes import require_scopes

    app = flask.Flask("differential")
    for number, path in enumerate(PATHS):
        scopes = ["read"] if number % 2 else []
        view = require_scopes(*scopes)(lambda: _told(flask.request))
        app.add_url_rule(path, str(number), view, methods=["GET", "POST", "PUT"])
    return app


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route, WebSocketRoute

    from mtls_middleware.integrations.starlette_routes import require_scopes

    async def view(request: Any) -> Any:
        return PlainTextResponse(_told(request))

    async def live(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(_told(websocket))
        await websocket.close()

    demanding, any_token = require_scopes("read"), require_scopes()
    routes: list[Any] = []
    for number, path in enumerate(PATHS):
        decorate = demanding if number % 2 else any_token
        routes += [Route(path, decorate(view), methods=["GET", "POST", "PUT"]), WebSocketRoute(path, decorate(live))]
    return Starlette(routes=routes)


def fastapi() -> Any:
    from fastapi import FastAPI, Request, Security

    from mtls_middleware import AccessToken
    from mtls_middleware.integrations.fastapi_routes import CertificateBoundToken

    bound = CertificateBoundToken(token_url="https://as.test/token", scopes={"read": "Read"})
    app = FastAPI()
    bound.install(app)

    def reading(request: Request, token: Annotated[AccessToken, Security(bound, scopes=["read"])]) -> str:
        return _told(request)

    def any_token(request: Request, token: Annotated[AccessToken, Security(bound)]) -> str:
        return _told(request)

    for number, path in enumerate(PATHS):
        app.add_api_route(path, reading if number % 2 else any_token, methods=["GET", "POST", "PUT"])
    return app


@functools.cache
def _django() -> None:
    import django
    from django.conf import settings

    settings.configure(SECRET_KEY="for tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__ + "_urls", APPEND_SLASH=False)
    django.setup()


def django_wsgi() -> Any:
    _django()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def django_asgi() -> Any:
    _django()
    from django.core.asgi import get_asgi_application

    from tests.gateways import staying

    return staying(get_asgi_application())


def django_view(demanded: tuple[str, ...]) -> Any:
    """A view of the URLs in `frameworks_urls.py`."""
    from django.http import HttpResponse

    from mtls_middleware.integrations.django_routes import require_scopes

    return require_scopes(*demanded)(lambda request: HttpResponse(_told(request)))


APPLICATIONS: dict[str, list[Callable[[], Any]]] = {
    "wsgi": [flask, django_wsgi],
    "asgi": [starlette, fastapi, django_asgi],
}
