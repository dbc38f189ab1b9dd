"""Websockets of real frameworks: what the endpoint reads, and how a refusal arrives."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware import asgi
from mtls_middleware.testing import IssuedCertificate
from tests.frameworks.reports import ALLOW, SOURCE, Headers, seen

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

    app.asgi_app = asgi.protect(app.asgi_app, source=SOURCE, allow=ALLOW)

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
        async with testing.ASGIConductor(wrapped) as conductor:
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
