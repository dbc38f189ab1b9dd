"""`require_scopes` in real Starlette, behind the real layers: the application of docs/integrations.md, and others."""

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
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
from mtls_middleware.layers.attached import TOKEN_KEY
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.integrations.documented import proxy_fields
from tests.integrations.route_requests import (
    FORGED,
    PLANTED,
    PROXY,
    SOURCE,
    documented,
    fields,
    is_wiring_error,
    layer_answer,
    records,
    shown,
)

READ, WRITE = "invoices:read", "invoices:write"


@pytest.fixture(scope="module")
def client(mtls_issuer: TokenIssuer) -> TestClient:
    return behind_proxy(documented("invoices_starlette.py", mtls_issuer)["app"])


def behind_proxy(app: Any, **options: Any) -> TestClient:
    return TestClient(app, client=(PROXY, 4711), **options)


@pytest.mark.parametrize(
    ("method", "path", "scopes", "body"),
    [
        ("GET", "/invoices", [READ], {"for": "alice"}),
        ("GET", "/invoices", ["other", READ], {"for": "alice"}),
        ("POST", "/invoices", [READ, WRITE], {"created": True}),
        ("GET", "/me", [], {"subject": "alice"}),
        ("GET", "/reports/7", [READ], {"report": 7}),
        ("DELETE", "/reports/7", [READ, WRITE], {"deleted": 7}),
        ("GET", "/audit/log", ["audit"], {"auditor": "alice"}),
    ],
)
def test_a_token_with_the_scopes_reaches_the_endpoint(
    client: TestClient,
    mtls_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
    *,
    method: str,
    path: str,
    scopes: list[str],
    body: dict[str, Any],
) -> None:
    response = client.request(method, path, headers=fields(mtls_client, mtls_issuer, *scopes))
    assert (response.status_code, response.json()) == (200, body)


@pytest.mark.parametrize(
    ("method", "path", "scopes", "demanded"),
    [
        ("GET", "/invoices", [], [READ]),
        ("GET", "/invoices", ["invoices:read2", "invoices", "INVOICES:READ"], [READ]),
        ("HEAD", "/invoices", [], [READ]),
        ("POST", "/invoices", [WRITE], [READ, WRITE]),
        ("GET", "/reports/7", [WRITE], [READ]),
        ("HEAD", "/reports/7", [WRITE], [READ]),
        ("DELETE", "/reports/7", [READ], [READ, WRITE]),
        ("GET", "/audit/log", [READ], ["audit"]),
    ],
)
def test_too_little_scope_is_answered_and_recorded_as_the_layer_does(
    client: TestClient,
    mtls_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
    caplog: pytest.LogCaptureFixture,
    *,
    method: str,
    path: str,
    scopes: list[str],
    demanded: list[str],
) -> None:
    caplog.set_level(logging.INFO)
    headers = fields(mtls_client, mtls_issuer, *scopes)
    response = client.request(method, path, headers=headers)
    status, fields_of_layer, body = layer_answer(headers, mtls_issuer, *demanded)
    assert status == 403
    assert fields_of_layer["www-authenticate"].endswith(f', scope="{" ".join(demanded)}"')
    expected = (status, fields_of_layer, b"" if method == "HEAD" else body)
    assert shown(response.status_code, response.headers, response.content) == expected
    ours, the_layers = records(caplog)
    assert ours == {**the_layers, "method": method, "path": path}


def test_without_token_the_answer_is_the_layers(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    client = behind_proxy(protected(small(), mtls_issuer, exempt=["/", "/sync"]))
    for path in ("/", "/sync"):
        for headers in ({}, proxy_fields(mtls_client), {"Authorization": "Bearer rubbish"}):
            response = client.get(path, headers=headers)
            expected = layer_answer(proxy_fields(mtls_client), mtls_issuer, "a")
            assert expected[0] == 401
            assert shown(response.status_code, response.headers, response.content) == expected


def test_a_certificate_layer_alone_is_401(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = behind_proxy(asgi.ClientCertificateMiddleware(small(), SOURCE))
    assert client.get("/", headers=fields(mtls_client, mtls_issuer, "a")).status_code == 401
    assert "no CertificateBoundTokenMiddleware ran" in records(caplog)[0]["evidence"][0]


@pytest.mark.parametrize("path", ["/", "/sync", "/class"])
@pytest.mark.parametrize("planted", PLANTED)
def test_without_our_layers_the_endpoint_is_not_reached(
    planted: dict[str, Any], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = small()

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, **planted}, receive, send)

    response = TestClient(outer).get(path, headers={"Mtls-Middleware-Token": "a", "mtls_middleware.token": "a"})
    assert is_wiring_error(response.status_code, response.content, caplog)


def test_a_token_planted_by_the_application_is_ignored(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    inner = small()

    async def planting(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, TOKEN_KEY: FORGED}, receive, send)

    client = behind_proxy(protected(planting, mtls_issuer, exempt=["/"]))
    assert client.get("/").status_code == 401
    assert client.get("/sync", headers=fields(mtls_client, mtls_issuer)).status_code == 403


def test_layers_by_add_middleware_do_as_well(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = small()
    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=mtls_issuer.access_tokens())
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE)
    client = behind_proxy(app)
    assert client.get("/", headers=fields(mtls_client, mtls_issuer, "a")).text == "reached"
    assert client.get("/", headers=fields(mtls_client, mtls_issuer)).status_code == 403


def test_the_applications_own_error_pages_leave_the_answer_alone(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = small()
    for each in (403, 500, Exception):
        app.add_exception_handler(each, lambda *_: PlainTextResponse("a page"))
    headers = fields(mtls_client, mtls_issuer)
    response = behind_proxy(protected(app, mtls_issuer)).get("/", headers=headers)
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
    with behind_proxy(protected(app, mtls_issuer)) as client:  # one event loop for both
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
    client = behind_proxy(protected(app, mtls_issuer))
    for n in range(len(endpoints)):
        assert client.get(f"/{n}", headers=fields(mtls_client, mtls_issuer, "a")).text == "reached"
        assert client.get(f"/{n}", headers=fields(mtls_client, mtls_issuer)).status_code == 403


def test_a_fastapi_route_gives_its_arguments_by_name(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = FastAPI()

    @app.get("/{number}")
    @require_scopes("a")
    async def route(number: int, request: Request, query: Annotated[str, "any"] = "") -> str:
        return f"{number}{query}"

    client = behind_proxy(protected(app, mtls_issuer))
    assert client.get("/7?query=x", headers=fields(mtls_client, mtls_issuer, "a")).json() == "7x"
    assert client.get("/7", headers=fields(mtls_client, mtls_issuer)).status_code == 403


def test_realm_and_metadata_are_in_the_challenge(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = small(realm="billing", resource_metadata="https://api.example/meta")
    response = behind_proxy(protected(app, mtls_issuer)).get("/", headers=fields(mtls_client, mtls_issuer))
    challenge = response.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="billing", error="insufficient_scope"')
    assert challenge.endswith('scope="a", resource_metadata="https://api.example/meta"')


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
        app = protected(Starlette(routes=[WebSocketRoute("/audit/live", _Listening)]), mtls_issuer)
    else:
        app = documented("invoices_starlette.py", mtls_issuer)["app"]
    received = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}])
    sent: list[Any] = []
    headers = fields(mtls_client, mtls_issuer, READ)
    scope = {
        "type": "websocket",
        "path": "/audit/live",
        "query_string": b"",
        "client": (PROXY, 4711),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": [],
    }

    async def receive() -> Any:
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert [(each["type"], each.get("code")) for each in sent] == [("websocket.close", 1008)]


# What is put together wrongly


def test_an_unsupported_endpoint_is_not_reached(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("reached")

    app = Starlette(routes=[Mount("/mounted", require_scopes("a")(mounted))])
    client = behind_proxy(protected(app, mtls_issuer))
    with pytest.raises(ConfigurationError, match="neither a Request nor a WebSocket"):
        client.get("/mounted/", headers=fields(mtls_client, mtls_issuer, "a"))


def test_a_decorated_endpoint_keeps_its_name() -> None:
    async def endpoint(request: Request) -> Response:
        """Words."""
        return PlainTextResponse()

    decorated = require_scopes("a")(endpoint)
    assert (decorated.__name__, decorated.__doc__) == ("endpoint", "Words.")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: require_scopes(lambda: "view"), "in parentheses"),
        (lambda: require_scopes(["a", "b"]), "in parentheses"),
        (lambda: require_scopes("a b"), "scope 'a b': expected"),
        (lambda: require_scopes(""), "scope '': expected"),
        (lambda: require_scopes("a", realm='"'), "realm="),
        (lambda: require_scopes("a", resource_metadata="http://api.example"), "resource_metadata="),
        (lambda: require_scopes("a")(HTTPEndpoint), "above its methods"),
        (lambda: require_scopes("a")(None), "a function"),
    ],
)
def test_a_misuse_is_refused_where_it_is_written(wrong: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        wrong()


def small(**options: Any) -> Starlette:
    guarded = require_scopes("a", **options)

    async def awaited(request: Request) -> Response:
        return PlainTextResponse("reached")

    def sync(request: Request) -> Response:
        return PlainTextResponse("reached")

    class Class(HTTPEndpoint):
        @guarded
        async def get(self, request: Request) -> Response:
            return PlainTextResponse("reached")

    return Starlette(routes=[Route("/", guarded(awaited)), Route("/sync", guarded(sync)), Route("/class", Class)])


def protected(app: Any, issuer: TokenIssuer, exempt: Any = ()) -> Any:
    return asgi.protect(app, source=SOURCE, tokens=issuer.access_tokens(), exempt=exempt)
