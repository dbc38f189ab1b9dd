"""`CertificateBoundToken` in real FastAPI: what only FastAPI has. test_routes.py has what all frameworks share."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Security
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from mtls_middleware import ConfigurationError
from mtls_middleware.integrations.fastapi_routes import CertificateBoundToken
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import Request, exchange, scope_of
from tests.integrations.route_frameworks import FASTAPI, answer_without_denial, behind_proxy, declared
from tests.integrations.route_requests import PROXY, READ, fields, layer_answer, shown


@pytest.fixture(scope="module")
def client(mtls_issuer: TokenIssuer) -> TestClient:
    return behind_proxy(FASTAPI.documented(mtls_issuer))


def test_the_answer_to_head_has_no_body(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    headers = fields(mtls_client, mtls_issuer)
    scope = scope_of(Request(method="HEAD", headers=list(headers.items()), peer=PROXY))
    app = FASTAPI.protected(FASTAPI.small(), mtls_issuer)
    start, body = exchange(app, scope, [{"type": "http.request", "body": b""}])
    assert (start["status"], body.get("body")) == (403, b"")


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

    client = behind_proxy(FASTAPI.protected(app, mtls_issuer), raise_server_exceptions=False)
    assert client.get("/", headers=fields(mtls_client, mtls_issuer)).status_code >= 400
    assert not reached


def test_requests_at_the_same_time_see_their_own_tokens(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """One object serves all of them, and holds nothing of any."""
    client = behind_proxy(FASTAPI.protected(FASTAPI.small(), mtls_issuer))
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
    headers = fields(mtls_client, mtls_issuer, READ)
    app = FASTAPI.documented(mtls_issuer)
    assert answer_without_denial(app, "/audit/live", headers) == [("websocket.close", 1008)]


# Misuse


def test_a_dependency_that_is_not_installed_raises_configuration_error(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    installed, other = declared("a"), declared("a")
    for first in (None, installed):
        app = FastAPI()
        if first is not None:
            first.install(app)
        app.get("/", dependencies=[Security(other, scopes=["a"])])(lambda: "reached")
        client = behind_proxy(FASTAPI.protected(app, mtls_issuer))
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
        client = behind_proxy(FASTAPI.protected(outer, mtls_issuer))
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
        behind_proxy(FASTAPI.protected(app, mtls_issuer)).get("/", headers=headers)


def test_one_dependency_serves_one_application_once() -> None:
    app, bound = FastAPI(), declared("a")
    bound.install(app)
    for each in (bound, declared("a")):
        with pytest.raises(ConfigurationError, match="call it once, on its CertificateBoundToken"):
            each.install(app)


def test_what_is_installed_on_is_an_application() -> None:
    for wrong in (FastAPI().router, None, FASTAPI.small):
        with pytest.raises(ConfigurationError, match="expected a FastAPI application"):
            declared("a").install(wrong)


@pytest.mark.parametrize("options", [{"realm": '"'}, {"realm": ""}, {"resource_metadata": "http://api.example"}])
def test_a_challenge_that_cannot_be_written_is_refused_at_construction(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        CertificateBoundToken(token_url="https://as.example/token", scopes={}, **options)
