"""What frameworks do around a response: background tasks, lifespan, mounts, streams, error pages, async views."""

import contextlib
from collections.abc import Iterator
from typing import Any

from mtls_middleware import asgi, client_certificate, wsgi
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate
from tests.frameworks.applications import starlette_view
from tests.frameworks.reports import ALLOW, SOURCE, Headers


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

    inner: Any = Starlette(routes=[Route("/{path:path}", starlette_view)])
    roots = {
        root: asgi.protect(inner, source=SOURCE, exempt=["/health"], root_path=root) for root in ("/api", "/health")
    }
    mounts = [Mount("/unstated", asgi.protect(inner, source=SOURCE, exempt=["/health"]))]
    client = TestClient(Starlette(routes=[*mounts, *(Mount(root, app) for root, app in roots.items())]))
    assert client.get("/api/health").status_code == 200
    assert client.get("/api/admin").status_code == 403
    assert client.get("/health/admin").status_code == 403
    assert client.get("/health/health").status_code == 200
    assert client.get("/unstated/health").status_code == 400
    assert client.get("/unstated/admin").status_code == 403


def test_flask_closes_streams_and_keeps_its_error_pages(proxied: Headers) -> None:
    import flask

    app = flask.Flask(__name__)
    closed: list[bool] = []

    @app.get("/stream")
    def stream() -> Any:
        def chunks() -> Iterator[bytes]:
            yield client_certificate(flask.request).subject.encode()

        response = flask.Response(flask.stream_with_context(chunks()))
        response.call_on_close(lambda: closed.append(True))
        return response

    @app.get("/broken")
    def broken() -> Any:
        raise ValueError("late")

    app.wsgi_app = wsgi.protect(app.wsgi_app, source=SOURCE, allow=ALLOW)
    with app.test_client() as client:
        response = client.get("/stream", headers=proxied, environ_overrides=TESTING_ENVIRON)
        assert response.data == b"CN=client,O=Tests"
        response.close()
        assert closed == [True]
        assert client.get("/broken", headers=proxied, environ_overrides=TESTING_ENVIRON).status_code == 500
        assert client.get("/nowhere", headers=proxied, environ_overrides=TESTING_ENVIRON).status_code == 404
        assert (
            client.get("/nowhere", environ_overrides=TESTING_ENVIRON).status_code == 403
        )  # what is there is nobody's business without a certificate


def test_async_django_view_reads_certificate(proxied: Headers, mtls_client: IssuedCertificate) -> None:
    from starlette.testclient import TestClient

    from tests.frameworks import django_site

    client = TestClient(asgi.protect(django_site.asgi(), source=SOURCE))
    assert client.get("/async", headers=proxied).text == mtls_client.thumbprint
