"""`require_scopes` in real Starlette: what only Starlette has. test_routes.py has what all frameworks share."""

import functools
import threading
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from mtls_middleware import ConfigurationError, asgi
from mtls_middleware.integrations.starlette_routes import require_scopes
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.integrations.route_frameworks import FASTAPI, STARLETTE, Framework, answer_without_denial, behind_proxy
from tests.integrations.route_requests import READ, SOURCE, fields, layer_answer, shown


@pytest.fixture(scope="module")
def client(mtls_issuer: TokenIssuer) -> TestClient:
    return behind_proxy(STARLETTE.documented(mtls_issuer))


@pytest.mark.parametrize("framework", [STARLETTE, FASTAPI], ids=lambda framework: framework.name)
def test_layers_can_be_added_by_add_middleware(
    framework: Framework, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = framework.small()
    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=mtls_issuer.access_tokens())
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE)
    client = behind_proxy(app)
    assert client.get("/", headers=fields(mtls_client, mtls_issuer, "a")).text == "reached"
    headers = fields(mtls_client, mtls_issuer)
    response = client.get("/", headers=headers)
    assert shown(response.status_code, response.headers, response.content) == layer_answer(headers, mtls_issuer, "a")


def test_a_sync_endpoint_stays_in_a_thread_of_its_own(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    ran: dict[str, int] = {}

    @require_scopes()
    def sync(request: Request) -> Response:
        ran["sync"] = threading.get_ident()
        return PlainTextResponse()

    @require_scopes()
    async def awaited(request: Request) -> Response:
        ran["async"] = threading.get_ident()
        return PlainTextResponse()

    app = Starlette(routes=[Route("/sync", sync), Route("/async", awaited)])
    with behind_proxy(STARLETTE.protected(app, mtls_issuer)) as client:  # one event loop for both
        for path in ("/sync", "/async"):
            assert client.get(path, headers=fields(mtls_client, mtls_issuer)).status_code == 200
    assert ran["sync"] != ran["async"]


def test_whatever_starlette_takes_as_endpoint_is_guarded(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    class Callable:
        async def __call__(self, request: Request) -> Response:
            return PlainTextResponse("reached")

    async def more(word: str, request: Request) -> Response:
        return PlainTextResponse(word)

    endpoints: list[Any] = [
        Callable(),
        functools.partial(more, "reached"),
        lambda request: PlainTextResponse("reached"),
    ]
    app = Starlette(routes=[Route(f"/{n}", require_scopes("a")(each)) for n, each in enumerate(endpoints)])
    client = behind_proxy(STARLETTE.protected(app, mtls_issuer))
    for n in range(len(endpoints)):
        assert client.get(f"/{n}", headers=fields(mtls_client, mtls_issuer, "a")).text == "reached"
        assert client.get(f"/{n}", headers=fields(mtls_client, mtls_issuer)).status_code == 403


def test_a_fastapi_route_gives_its_arguments_by_name(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = FastAPI()

    @app.get("/{number}")
    @require_scopes("a")
    async def route(number: int, request: Request, query: Annotated[str, "any"] = "") -> str:
        return f"{number}{query}"

    client = behind_proxy(STARLETTE.protected(app, mtls_issuer))
    assert client.get("/7?query=x", headers=fields(mtls_client, mtls_issuer, "a")).json() == "7x"
    assert client.get("/7", headers=fields(mtls_client, mtls_issuer)).status_code == 403


# Websockets


def test_a_websocket_with_the_scopes_is_accepted(
    client: TestClient, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    with client.websocket_connect("/audit/live", headers=fields(mtls_client, mtls_issuer, "audit")) as session:
        assert session.receive_json() == {"auditor": "alice"}


def test_a_websocket_without_the_scope_is_rejected_before_accept(
    client: TestClient, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    headers = fields(mtls_client, mtls_issuer, READ)
    with pytest.raises(WebSocketDenialResponse) as denied:
        client.websocket_connect("/audit/live", headers=headers).__enter__()
    response = denied.value
    expected = layer_answer(headers, mtls_issuer, "audit")
    assert shown(response.status_code, response.headers, response.content) == expected


class _Listening(WebSocketEndpoint):
    on_connect = require_scopes("audit")(WebSocketEndpoint.on_connect)

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        raise AssertionError("reached")


@pytest.mark.parametrize("endpoint", ["a function", _Listening])
def test_a_websocket_is_closed_with_1008_without_the_denial_extension(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, endpoint: Any
) -> None:
    if endpoint is _Listening:
        app = STARLETTE.protected(Starlette(routes=[WebSocketRoute("/audit/live", _Listening)]), mtls_issuer)
    else:
        app = STARLETTE.documented(mtls_issuer)
    headers = fields(mtls_client, mtls_issuer, READ)
    assert answer_without_denial(app, "/audit/live", headers) == [("websocket.close", 1008)]


# Misuse


def test_an_unsupported_endpoint_is_not_reached(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("reached")

    app = Starlette(routes=[Mount("/mounted", require_scopes("a")(mounted))])
    client = behind_proxy(STARLETTE.protected(app, mtls_issuer))
    with pytest.raises(ConfigurationError, match="neither a Request nor a WebSocket"):
        client.get("/mounted/", headers=fields(mtls_client, mtls_issuer, "a"))


def test_a_decorated_endpoint_class_is_rejected_with_advice() -> None:
    with pytest.raises(ConfigurationError, match="above its methods"):
        require_scopes("a")(HTTPEndpoint)
