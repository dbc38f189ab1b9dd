"""Real frameworks and their test clients: what their requests give to the accessors, and refusals on the way out."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from mtls_middleware import access_token, asgi, client_certificate, wsgi
from mtls_middleware.policy import SpiffeTrustDomain
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import IssuedCertificate, TokenIssuer

# Test clients have no peer with an address, so the proxy is known by its secret.
SECRET = ("X-Proxy-Secret", "correct horse battery staple")
SOURCE = Nginx(shared_secret=SECRET)
ALLOW = SpiffeTrustDomain("example.test")

Headers = dict[str, str]
Ask = Callable[[str, Headers], tuple[int, Mapping[str, str], Any]]
Build = Callable[[JWTAccessTokens], Ask]


def seen(request: Any, header: str | None) -> dict[str, str | None]:
    """What a view says of its request."""
    certificate, token = client_certificate(request), access_token(request)
    return {
        "thumbprint": certificate and certificate.thumbprint,
        "subject": token and token.subject,
        "header": header,
    }


def flask_app(tokens: JWTAccessTokens) -> Ask:
    import flask

    app = flask.Flask(__name__)

    @app.get("/<path:_path>")
    def view(_path: str) -> Any:
        return seen(flask.request, flask.request.headers.get("X-SSL-Client-Cert"))

    app.wsgi_app = wsgi.CertificateBoundTokenMiddleware(app.wsgi_app, tokens, exempt=["/health"])  # type: ignore[method-assign]
    app.wsgi_app = wsgi.ClientCertificateMiddleware(app.wsgi_app, SOURCE, allow=ALLOW, exempt=["/health"])  # type: ignore[method-assign]

    def ask(path: str, headers: Headers) -> Any:
        response = app.test_client().get(path, headers=headers)
        return response.status_code, response.headers, response.get_json()

    return ask


def werkzeug_app(tokens: JWTAccessTokens) -> Ask:
    from werkzeug import Request, Response

    @Request.application
    def app(request: Request) -> Response:
        body = json.dumps(seen(request, request.headers.get("X-SSL-Client-Cert")))
        return Response(body, content_type="application/json")

    return _wsgi(app, tokens)


def _wsgi(app: Any, tokens: JWTAccessTokens) -> Ask:
    from werkzeug.test import Client

    client = Client(wsgi.protect(app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"]))

    def ask(path: str, headers: Headers) -> Any:
        response = client.get(path, headers=headers)
        return response.status_code, response.headers, response.get_json()

    return ask


def _asgi(app: Any, tokens: JWTAccessTokens | None) -> Ask:
    from starlette.testclient import TestClient

    if tokens is not None:
        app = asgi.protect(app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"])
    client = TestClient(app)

    def ask(path: str, headers: Headers) -> Any:
        response = client.get(path, headers=headers)
        return response.status_code, response.headers, response.json()

    return ask


def _django() -> None:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(SECRET_KEY="for tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
        django.setup()


def django_view(request: Any) -> Any:
    from django.http import JsonResponse

    return JsonResponse(seen(request, request.META.get("HTTP_X_SSL_CLIENT_CERT")))


def __getattr__(name: str) -> Any:
    """Django's URLconf, made when Django asks this module for it."""
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import re_path

    return [re_path("", django_view)]


def django_wsgi(tokens: JWTAccessTokens) -> Ask:
    _django()
    from django.core.wsgi import get_wsgi_application

    return _wsgi(get_wsgi_application(), tokens)


def django_asgi(tokens: JWTAccessTokens) -> Ask:
    _django()
    from django.core.asgi import get_asgi_application

    return _asgi(get_asgi_application(), tokens)


async def _starlette_view(request: Any) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(seen(request, request.headers.get("X-SSL-Client-Cert")))


def starlette_add_middleware(tokens: JWTAccessTokens) -> Ask:
    from starlette.applications import Starlette
    from starlette.routing import Route

    app = Starlette(routes=[Route("/{path:path}", _starlette_view)])
    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=tokens, exempt=["/health"])
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, exempt=["/health"])
    return _asgi(app, None)


def starlette_middleware(tokens: JWTAccessTokens) -> Ask:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    layers = [
        Middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, exempt=["/health"]),
        Middleware(asgi.CertificateBoundTokenMiddleware, tokens=tokens, exempt=["/health"]),
    ]
    return _asgi(Starlette(routes=[Route("/{path:path}", _starlette_view)], middleware=layers), None)


def fastapi_app(tokens: JWTAccessTokens) -> Ask:
    import fastapi

    app = fastapi.FastAPI()

    @app.get("/{path:path}")
    def view(request: fastapi.Request) -> dict[str, str | None]:  # sync: in a thread of its own
        return seen(request, request.headers.get("X-SSL-Client-Cert"))

    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=tokens, exempt=["/health"])
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, exempt=["/health"])
    return _asgi(app, None)


def quart_app(tokens: JWTAccessTokens) -> Ask:
    import quart

    app = quart.Quart(__name__)

    @app.get("/<path:_path>")
    async def view(_path: str) -> Any:
        return seen(quart.request, quart.request.headers.get("X-SSL-Client-Cert"))

    app.asgi_app = asgi.protect(app.asgi_app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"])  # type: ignore[method-assign, assignment, arg-type]

    async def get(path: str, headers: Headers) -> Any:
        response = await app.test_client().get(path, headers=headers)
        return response.status_code, response.headers, await response.get_json()

    return lambda path, headers: asyncio.run(get(path, headers))


def litestar_app(tokens: JWTAccessTokens) -> Ask:
    import litestar
    from litestar.middleware import DefineMiddleware
    from litestar.testing import TestClient

    @litestar.get(["/invoices", "/health"], sync_to_thread=False)
    def view(request: litestar.Request[Any, Any, Any]) -> dict[str, str | None]:
        return seen(request, request.headers.get("X-SSL-Client-Cert"))

    app = litestar.Litestar(
        [view],
        logging_config=None,
        middleware=[
            DefineMiddleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW, exempt=["/health"]),
            DefineMiddleware(asgi.CertificateBoundTokenMiddleware, tokens=tokens, exempt=["/health"]),
        ],
    )

    def ask(path: str, headers: Headers) -> Any:
        with TestClient(app) as client:
            response = client.get(path, headers=headers)
            return response.status_code, response.headers, response.json()

    return ask


class _FalconView:
    def on_get(self, request: Any, response: Any, path: str = "") -> None:
        response.media = seen(request, request.get_header("X-SSL-Client-Cert"))


class _FalconAsyncView:
    async def on_get(self, request: Any, response: Any, path: str = "") -> None:
        response.media = seen(request, request.get_header("X-SSL-Client-Cert"))


def falcon_wsgi(tokens: JWTAccessTokens) -> Ask:
    import falcon
    from falcon import testing

    app = falcon.App()
    app.add_route("/{path}", _FalconView())
    return _falcon(testing, wsgi.protect(app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"]))


def falcon_asgi(tokens: JWTAccessTokens) -> Ask:
    import falcon.asgi
    from falcon import testing

    app = falcon.asgi.App()
    app.add_route("/{path}", _FalconAsyncView())
    return _falcon(testing, asgi.protect(app, source=SOURCE, allow=ALLOW, tokens=tokens, exempt=["/health"]))


def _falcon(testing: Any, app: Any) -> Ask:
    def ask(path: str, headers: Headers) -> Any:
        response = testing.simulate_get(app, path, headers=headers)
        return response.status_code, response.headers, response.json

    return ask


FRAMEWORKS: dict[str, Build] = {
    "Flask": flask_app,
    "Werkzeug": werkzeug_app,
    "Django WSGI": django_wsgi,
    "Django ASGI": django_asgi,
    "Starlette add_middleware": starlette_add_middleware,
    "Starlette Middleware": starlette_middleware,
    "FastAPI": fastapi_app,
    "Quart": quart_app,
    "Litestar": litestar_app,
    "Falcon WSGI": falcon_wsgi,
    "Falcon ASGI": falcon_asgi,
}


@pytest.fixture(scope="module")
def tokens(mtls_issuer: TokenIssuer) -> JWTAccessTokens:
    return mtls_issuer.access_tokens()


@pytest.fixture(scope="module", params=FRAMEWORKS)
def ask(request: pytest.FixtureRequest, tokens: JWTAccessTokens) -> Ask:
    return FRAMEWORKS[request.param](tokens)


@pytest.fixture
def proxied(mtls_client: IssuedCertificate) -> Headers:
    return dict([SECRET, *mtls_client.as_nginx().items()])


@pytest.fixture
def bearer(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> Headers:
    return {"Authorization": "Bearer " + mtls_issuer.token(certificate=mtls_client, claims={"sub": "alice"})}


def test_view_reads_certificate_and_token(
    ask: Ask, proxied: Headers, bearer: Headers, mtls_client: IssuedCertificate
) -> None:
    status, headers, body = ask("/invoices", proxied | bearer)
    assert (status, body) == (200, {"thumbprint": mtls_client.thumbprint, "subject": "alice", "header": None})
    assert "x-ssl-client-cert" in headers["Vary"]


def test_exempt_view_reads_none(ask: Ask, mtls_client: IssuedCertificate) -> None:
    forged = dict(mtls_client.as_nginx())
    for headers in ({}, forged, forged | {"Authorization": "Bearer x"}):
        status, _, body = ask("/health", headers)
        assert (status, body) == (200, {"thumbprint": None, "subject": None, "header": None})


def test_refusals_come_through_as_they_are(ask: Ask, proxied: Headers, bearer: Headers) -> None:
    for headers, status, error, challenge in (
        ({}, 403, "client_certificate_required", None),
        (proxied | {"X-SSL-Client-Cert": "rubbish"}, 400, "invalid_client_certificate", None),
        (proxied | {"X-SSL-Client-Verify": "FAILED:self signed certificate"}, 403, "client_certificate_refused", None),
        (proxied, 401, None, 'Bearer realm="protected"'),
        (proxied | {"Authorization": bearer["Authorization"] + "x"}, 401, "invalid_token", None),
    ):
        got, received, body = ask("/invoices", headers)
        assert (got, body.get("error")) == (status, error)
        assert received["Content-Type"] == "application/json"
        assert received["Cache-Control"] == "no-store"
        if challenge is not None:
            assert received["WWW-Authenticate"] == challenge


# Websockets

REFUSALS = {403, 1008, 3403}  # the denial, the close; Falcon's word for a close before accept
Connect = Callable[[Headers], Any]


def starlette_websocket() -> Connect:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(seen(websocket, websocket.headers.get("X-SSL-Client-Cert")))
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)])
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW)
    return _starlette_client(app)


def fastapi_websocket() -> Connect:
    import fastapi

    app = fastapi.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: fastapi.WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(seen(websocket, websocket.headers.get("X-SSL-Client-Cert")))
        await websocket.close()

    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW)
    return _starlette_client(app)


def _starlette_client(app: Any) -> Connect:
    from starlette.testclient import TestClient, WebSocketDenialResponse

    def connect(headers: Headers) -> Any:
        try:
            with TestClient(app).websocket_connect("/ws", headers=headers) as session:
                return session.receive_json()
        except WebSocketDenialResponse as denied:
            return denied.status_code

    return connect


def quart_websocket() -> Connect:
    import quart
    from quart.testing.connections import WebsocketResponseError

    app = quart.Quart(__name__)

    @app.websocket("/ws")
    async def endpoint() -> None:
        await quart.websocket.send_json(seen(quart.websocket, quart.websocket.headers.get("X-SSL-Client-Cert")))

    app.asgi_app = asgi.protect(app.asgi_app, source=SOURCE, allow=ALLOW)  # type: ignore[method-assign, assignment, arg-type]

    async def connect(headers: Headers) -> Any:
        try:
            async with app.test_client().websocket("/ws", headers=headers) as session:
                return await session.receive_json()
        except WebsocketResponseError as denied:
            return denied.response.status_code

    return lambda headers: asyncio.run(connect(headers))


def litestar_websocket() -> Connect:
    import litestar
    from litestar.exceptions import WebSocketDisconnect
    from litestar.middleware import DefineMiddleware
    from litestar.testing import TestClient

    @litestar.websocket("/ws")
    async def endpoint(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.send_json(seen(socket, socket.headers.get("X-SSL-Client-Cert")))
        await socket.close()

    layer = DefineMiddleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW)
    app = litestar.Litestar([endpoint], middleware=[layer], logging_config=None)

    def connect(headers: Headers) -> Any:
        with TestClient(app) as client:
            try:
                with client.websocket_connect("/ws", headers=headers) as session:
                    return session.receive_json()
            except WebSocketDisconnect as closed:
                return closed.code

    return connect


def falcon_websocket() -> Connect:
    import falcon
    import falcon.asgi
    from falcon import testing

    class Endpoint:
        async def on_websocket(self, request: Any, socket: Any) -> None:
            await socket.accept()
            await socket.send_text(json.dumps(seen(request, request.get_header("X-SSL-Client-Cert"))))
            with contextlib.suppress(falcon.WebSocketDisconnected):
                await socket.receive_text()  # a close would overtake what was sent

    app = falcon.asgi.App()
    app.add_route("/ws", Endpoint())
    wrapped = asgi.protect(app, source=SOURCE, allow=ALLOW)

    async def connect(headers: Headers) -> Any:
        async with testing.ASGIConductor(wrapped) as conductor:  # type: ignore[arg-type]
            try:
                async with conductor.simulate_ws("/ws", headers=headers) as session:
                    return json.loads(await session.receive_text())
            except falcon.WebSocketDisconnected as closed:
                return closed.code

    return lambda headers: asyncio.run(connect(headers))


WEBSOCKETS = {
    "Starlette": starlette_websocket,
    "FastAPI": fastapi_websocket,
    "Quart": quart_websocket,
    "Litestar": litestar_websocket,
    "Falcon": falcon_websocket,
}


@pytest.mark.parametrize("name", WEBSOCKETS)
@pytest.mark.case("144")
@pytest.mark.standard("G14", "J7")
def test_websocket_of_the_framework(name: str, proxied: Headers, mtls_client: IssuedCertificate) -> None:
    connect = WEBSOCKETS[name]()
    assert connect(proxied) == {"thumbprint": mtls_client.thumbprint, "subject": None, "header": None}
    assert connect(dict(mtls_client.as_nginx())) in REFUSALS
    assert connect({}) in REFUSALS


# What frameworks do around a response


def test_starlette_runs_background_tasks(proxied: Headers) -> None:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import StreamingResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    done: list[str] = []

    async def view(request: Any) -> Any:
        async def chunks() -> Any:
            yield b"one"
            done.append("streamed")
            yield b"two"

        return StreamingResponse(chunks(), background=BackgroundTask(done.append, "background"))

    app = Starlette(routes=[Route("/", view)])
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE, allow=ALLOW)
    assert TestClient(app).get("/", headers=proxied).content == b"onetwo"
    assert done == ["streamed", "background"]


def test_starlette_lifespan_runs(proxied: Headers) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    @contextlib.asynccontextmanager
    async def lifespan(_app: Any) -> Any:
        yield {"pool": "open"}

    async def view(request: Any) -> Any:
        return PlainTextResponse(request.state.pool)

    app = asgi.protect(Starlette(routes=[Route("/", view)], lifespan=lifespan), source=SOURCE)
    with TestClient(app) as client:
        assert client.get("/", headers=proxied).text == "open"


def test_starlette_mount_exempts_what_is_behind_it(proxied: Headers) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route
    from starlette.testclient import TestClient

    inner: Any = Starlette(routes=[Route("/{path:path}", _starlette_view)])
    inner = asgi.protect(inner, source=SOURCE, exempt=["/health"])
    client = TestClient(Starlette(routes=[Mount("/api", inner), Mount("/health", inner)]))
    assert client.get("/api/health").status_code == 200
    assert client.get("/api/admin").status_code == 403
    assert client.get("/health/admin").status_code == 403
    assert client.get("/health/health").status_code == 200


def test_flask_closes_streams_and_keeps_its_error_pages(proxied: Headers) -> None:
    import flask

    app = flask.Flask(__name__)
    closed: list[bool] = []

    @app.get("/stream")
    def stream() -> Any:
        def chunks() -> Iterator[bytes]:
            yield client_certificate(flask.request).subject.encode()  # type: ignore[union-attr]

        response = flask.Response(flask.stream_with_context(chunks()))
        response.call_on_close(lambda: closed.append(True))
        return response

    @app.get("/broken")
    def broken() -> Any:
        raise ValueError("late")

    app.wsgi_app = wsgi.protect(app.wsgi_app, source=SOURCE, allow=ALLOW)  # type: ignore[method-assign]
    with app.test_client() as client:
        response = client.get("/stream", headers=proxied)
        assert response.data == b"CN=client,O=Tests"
        response.close()
        assert closed == [True]
        assert client.get("/broken", headers=proxied).status_code == 500
        assert client.get("/nowhere", headers=proxied).status_code == 404
        assert client.get("/nowhere").status_code == 403  # what is there is nobody's business without a certificate


def test_async_django_view_reads_certificate(proxied: Headers, mtls_client: IssuedCertificate) -> None:
    _django()
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.test import override_settings
    from django.urls import path

    async def view(request: Any) -> HttpResponse:
        certificate = client_certificate(request)
        return HttpResponse(b"" if certificate is None else certificate.thumbprint.encode())

    class URLs:
        urlpatterns = [path("async", view)]  # noqa: RUF012

    with override_settings(ROOT_URLCONF=URLs):
        from starlette.testclient import TestClient

        client = TestClient(asgi.protect(get_asgi_application(), source=SOURCE))
        assert client.get("/async", headers=proxied).text == mtls_client.thumbprint
