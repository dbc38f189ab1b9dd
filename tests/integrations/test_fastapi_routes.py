"""`CertificateBoundToken` under real FastAPI, behind the real layers: the documented application, and others."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Security
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.testclient import WebSocketDenialResponse

from mtls_middleware import AccessToken, ConfigurationError, asgi
from mtls_middleware.integrations.fastapi_routes import CertificateBoundToken
from mtls_middleware.layers.attached import TOKEN_KEY
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.integrations.documented import proxy_fields
from tests.integrations.route_requests import (
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
    return behind_proxy(documented("invoices_fastapi.py", mtls_issuer)["app"])


def behind_proxy(app: Any) -> TestClient:
    return TestClient(app, client=(PROXY, 4711))


@pytest.mark.parametrize(
    ("method", "path", "scopes", "body"),
    [
        ("GET", "/invoices", [READ], {"for": "alice"}),
        ("GET", "/invoices", ["other", READ], {"for": "alice"}),
        ("POST", "/invoices", [READ, WRITE], {"created": True}),
        ("GET", "/me", [], {"subject": "alice"}),
        ("GET", "/audit/log", [READ, "audit"], {"auditor": "alice"}),
    ],
)
def test_a_token_with_the_scopes_reaches_the_route(
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
        ("POST", "/invoices", [WRITE], [READ, WRITE]),
        ("GET", "/audit/log", ["audit"], [READ]),  # of the router
        ("GET", "/audit/log", [READ], ["audit"]),  # of the dependency's own dependency
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
    expected = layer_answer(headers, mtls_issuer, *demanded)
    assert expected[0] == 403
    assert shown(response.status_code, response.headers, response.content) == expected
    ours, the_layers = records(caplog)
    assert ours == {**the_layers, "method": method, "path": path}


def test_without_token_the_answer_is_the_layers(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    client = behind_proxy(protected(small(), mtls_issuer, exempt=["/"]))
    for headers in ({}, proxy_fields(mtls_client), {"Authorization": "Bearer rubbish"}):
        response = client.get("/", headers=headers)
        expected = layer_answer(proxy_fields(mtls_client), mtls_issuer, "a")
        assert expected[0] == 401
        assert shown(response.status_code, response.headers, response.content) == expected


def test_the_answer_to_head_has_no_body(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app, messages = protected(small(), mtls_issuer), []
    headers = fields(mtls_client, mtls_issuer)
    scope = {
        "type": "http",
        "method": "HEAD",
        "path": "/",
        "query_string": b"",
        "client": (PROXY, 4711),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(app(scope, receive, send))
    start, body = messages
    assert (start["status"], body.get("body")) == (403, b"")


def test_a_certificate_layer_alone_is_401(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = behind_proxy(asgi.ClientCertificateMiddleware(small(), SOURCE))
    assert client.get("/", headers=fields(mtls_client, mtls_issuer, "a")).status_code == 401
    assert "no CertificateBoundTokenMiddleware ran" in records(caplog)[0]["evidence"][0]


@pytest.mark.parametrize("planted", PLANTED)
def test_without_our_layers_the_route_is_not_reached(planted: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    app = small()

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, **planted}, receive, send)

    response = TestClient(outer).get("/", headers={"Mtls-Middleware-Token": "a"})
    assert is_wiring_error(response.status_code, response.content, caplog)


def test_layers_by_add_middleware_do_as_well(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = small()
    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=mtls_issuer.access_tokens())
    app.add_middleware(asgi.ClientCertificateMiddleware, source=SOURCE)
    client = behind_proxy(app)
    assert client.get("/", headers=fields(mtls_client, mtls_issuer, "a")).json() == "alice"
    headers = fields(mtls_client, mtls_issuer)
    response = client.get("/", headers=headers)
    assert shown(response.status_code, response.headers, response.content) == layer_answer(headers, mtls_issuer, "a")


def test_the_applications_own_error_pages_leave_the_answer_alone(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = small()
    for each in (403, HTTPException, Exception):
        app.add_exception_handler(each, lambda *_: PlainTextResponse("a page"))
    headers = fields(mtls_client, mtls_issuer)
    response = behind_proxy(protected(app, mtls_issuer)).get("/", headers=headers)
    assert shown(response.status_code, response.headers, response.content) == layer_answer(headers, mtls_issuer, "a")


def test_a_dependency_that_swallows_exceptions_does_not_open_the_route(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    async def swallowing() -> AsyncIterator[str]:
        try:
            yield "open"
        except Exception:  # noqa: BLE001 (it swallows everything, on purpose)
            return

    reached: list[str] = []
    bound, app = declared("a"), FastAPI()
    bound.install(app)

    @app.get("/", dependencies=[Depends(swallowing), Security(bound, scopes=["a"])])
    async def route() -> None:
        reached.append("route")

    client = TestClient(protected(app, mtls_issuer), client=(PROXY, 4711), raise_server_exceptions=False)
    assert client.get("/", headers=fields(mtls_client, mtls_issuer)).status_code >= 400
    assert not reached


def test_requests_at_the_same_time_see_their_own_tokens(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """One object serves all of them, and holds nothing of any."""
    client = behind_proxy(protected(small(), mtls_issuer))
    good, poor = fields(mtls_client, mtls_issuer, "a"), fields(mtls_client, mtls_issuer)
    assert [client.get("/", headers=each).status_code for each in (good, poor, good, poor)] == [200, 403, 200, 403]


# Websockets


def test_a_websocket_with_the_scopes_is_accepted(
    client: TestClient, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    headers = fields(mtls_client, mtls_issuer, READ, "audit")
    with client.websocket_connect("/audit/live", headers=headers) as session:
        assert session.receive_json() == {"auditor": "alice"}


def test_a_websocket_without_the_scope_is_rejected_before_accept(
    client: TestClient, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    for scopes, demanded in (([READ], "audit"), (["audit"], READ)):
        headers = fields(mtls_client, mtls_issuer, *scopes)
        with pytest.raises(WebSocketDenialResponse) as denied:
            client.websocket_connect("/audit/live", headers=headers).__enter__()
        response = denied.value
        expected = layer_answer(headers, mtls_issuer, demanded)
        assert shown(response.status_code, response.headers, response.content) == expected


def test_a_websocket_is_closed_with_1008_without_the_denial_extension(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app, sent = documented("invoices_fastapi.py", mtls_issuer)["app"], []
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
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert [(each["type"], each.get("code")) for each in sent] == [("websocket.close", 1008)]


# What is put together wrongly


def test_a_dependency_that_is_not_installed_raises_configuration_error(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    installed, other = declared("a"), declared("a")
    for first in (None, installed):
        app = FastAPI()
        if first is not None:
            first.install(app)
        app.get("/", dependencies=[Security(other, scopes=["a"])])(lambda: "reached")
        client = behind_proxy(protected(app, mtls_issuer))
        with pytest.raises(ConfigurationError, match=r"bound\.install\(app\)"):
            client.get("/", headers=fields(mtls_client, mtls_issuer, "a"))


def test_an_application_that_is_mounted_is_installed_on_its_own(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    for also_inner in (False, True):
        outer, inner, bound = FastAPI(), FastAPI(), declared("a")
        bound.install(outer)
        inner.get("/x", dependencies=[Security(bound, scopes=["a"])])(lambda: "reached")
        outer.mount("/inner", inner)
        client = behind_proxy(protected(outer, mtls_issuer))
        if also_inner:
            bound.install(inner)
            assert client.get("/inner/x", headers=fields(mtls_client, mtls_issuer, "a")).json() == "reached"
            assert client.get("/inner/x", headers=fields(mtls_client, mtls_issuer)).status_code == 403
        else:
            with pytest.raises(ConfigurationError, match=r"bound\.install\(app\)"):
                client.get("/inner/x", headers=fields(mtls_client, mtls_issuer, "a"))


def test_an_application_that_has_served_requests_is_too_old_to_install_on() -> None:
    app = FastAPI()
    TestClient(app).get("/")
    with pytest.raises(ConfigurationError, match="has served requests"):
        declared("a").install(app)


@pytest.mark.parametrize("scopes", [["undeclared"], ["a", "A"], "ab", ["a b"], [""]])
def test_scopes_that_are_not_declared_open_nothing(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, scopes: Any
) -> None:
    app, bound = FastAPI(), declared("a")
    bound.install(app)
    app.get("/", dependencies=[Security(bound, scopes=scopes)])(lambda: "reached")
    headers = fields(mtls_client, mtls_issuer, "a", "b", "A", "undeclared")
    with pytest.raises(ConfigurationError, match="a route requires"):
        behind_proxy(protected(app, mtls_issuer)).get("/", headers=headers)


def test_one_dependency_serves_one_application_once() -> None:
    app, bound = FastAPI(), declared("a")
    bound.install(app)
    for each in (bound, declared("a")):
        with pytest.raises(ConfigurationError, match="already has a CertificateBoundToken"):
            each.install(app)


def test_what_is_installed_on_is_an_application() -> None:
    for wrong in (FastAPI().router, None, small):
        with pytest.raises(ConfigurationError, match="expected a FastAPI application"):
            declared("a").install(wrong)


@pytest.mark.parametrize("options", [{"realm": '"'}, {"realm": ""}, {"resource_metadata": "http://api.example"}])
def test_a_challenge_that_cannot_be_written_is_refused_at_construction(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        CertificateBoundToken(token_url="https://as.example/token", scopes={}, **options)


def test_realm_and_metadata_are_in_the_challenge(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = small(realm="billing", resource_metadata="https://api.example/meta")
    response = behind_proxy(protected(app, mtls_issuer)).get("/", headers=fields(mtls_client, mtls_issuer))
    challenge = response.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="billing", error="insufficient_scope"')
    assert challenge.endswith('scope="a", resource_metadata="https://api.example/meta"')


def declared(*scopes: str, **options: Any) -> CertificateBoundToken:
    return CertificateBoundToken(
        token_url="https://as.example/token", scopes={each: each.upper() for each in scopes}, **options
    )


def small(**options: Any) -> FastAPI:
    app, bound = FastAPI(), declared("a", **options)
    bound.install(app)

    @app.api_route("/", methods=["GET", "HEAD"])
    async def route(request: Request, token: Annotated[AccessToken, Security(bound, scopes=["a"])]) -> str:
        assert request.scope[TOKEN_KEY] is token
        return str(token.subject)

    return app


def protected(app: Any, issuer: TokenIssuer, exempt: Any = ()) -> Any:
    return asgi.protect(app, source=SOURCE, tokens=issuer.access_tokens(), exempt=exempt)
