"""What applications of each framework read behind the layer of a token endpoint: the client, and the whole form."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.frameworks.reports import described
from tests.gateways import MODULES, staying
from tests.token_endpoint.layer import GOOD, LAYERS, UNKNOWN_ANSWER, messages
from tests.token_endpoint.posts import environ_for, send_asgi


def flask_app(wrap: Any) -> Any:
    import flask

    app = flask.Flask(__name__)
    app.post("/token")(lambda: described(flask.request, flask.request.form))
    return wrap(MODULES["wsgi"], app.wsgi_app)


def werkzeug_app(wrap: Any) -> Any:
    from werkzeug import Request as WerkzeugRequest
    from werkzeug import Response

    @WerkzeugRequest.application
    def app(request: WerkzeugRequest) -> Response:
        return Response(json.dumps(described(request, request.form)))

    return wrap(MODULES["wsgi"], app)


def django_wsgi(wrap: Any) -> Any:
    from tests.frameworks import django_site

    return wrap(MODULES["wsgi"], django_site.wsgi())


def django_asgi(wrap: Any) -> Any:
    from tests.frameworks import django_site

    return wrap(MODULES["asgi"], django_site.asgi())


def starlette_app(wrap: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def view(request: Any) -> Any:
        return JSONResponse(described(request, dict(parse_qsl((await request.body()).decode()))))

    return wrap(MODULES["asgi"], Starlette(routes=[Route("/token", view, methods=["POST"])]))


def fastapi_app(wrap: Any) -> Any:
    import fastapi

    app = fastapi.FastAPI()

    @app.post("/token")
    async def view(request: fastapi.Request) -> dict[str, Any]:
        return described(request, dict(parse_qsl((await request.body()).decode())))

    return wrap(MODULES["asgi"], app)


def quart_app(wrap: Any) -> Any:
    import quart

    app = quart.Quart(__name__)

    @app.post("/token")
    async def view() -> dict[str, Any]:
        return described(quart.request, await quart.request.form)

    return wrap(MODULES["asgi"], app.asgi_app)


WSGI_APPS = [flask_app, werkzeug_app, django_wsgi]
ASGI_APPS = [django_asgi, starlette_app, fastapi_app, quart_app]


def answered_wsgi(app: Any, environ: dict[str, Any]) -> tuple[int, bytes]:
    statuses: list[int] = []
    chunks = app(environ, lambda status, *_: statuses.append(int(status.split()[0])))
    body = b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    return statuses[0], body


@pytest.mark.parametrize("make", WSGI_APPS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.case("143", "136")
def test_a_wsgi_framework_reads_the_client_and_the_form(make: Any, chunked: bool) -> None:
    app = make(LAYERS)
    environ = environ_for(GOOD)
    if chunked:  # as gunicorn gives it
        del environ["CONTENT_LENGTH"]
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    status, body = answered_wsgi(app, environ)
    assert (status, json.loads(body)) == (200, {"client": "billing", "grant": "client_credentials"})
    assert answered_wsgi(app, environ_for(replace(GOOD, certificate=None))) == (401, UNKNOWN_ANSWER)


@pytest.mark.parametrize("make", ASGI_APPS, ids=lambda make: make.__name__)
@pytest.mark.case("143", "136")
def test_an_asgi_framework_reads_the_client_and_the_form(make: Any) -> None:
    app = staying(make(LAYERS))
    outcome = send_asgi(lambda _module, _app: app, GOOD, messages(GOOD.octets[:7], GOOD.octets[7:]))
    assert (outcome.status, json.loads(outcome.body)) == (200, {"client": "billing", "grant": "client_credentials"})
    refused = send_asgi(lambda _module, _app: app, replace(GOOD, certificate=None))
    assert (refused.status, refused.body) == (401, UNKNOWN_ANSWER)
