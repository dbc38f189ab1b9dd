"""`require_certificate` in real Flask, Starlette, Django and FastAPI, behind the real layers of both gateways."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from fastapi import Depends, FastAPI, Security, WebSocket
from fastapi.security import APIKeyHeader
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import WebSocketDenialResponse
from werkzeug.test import Client

from mtls_middleware import (
    ClientCertificate,
    ConfigurationError,
    access_token,
    client_certificate,
    oauth_client,
    route_certificate,
    route_token,
    wsgi,
)
from mtls_middleware.errors import Unavailable
from mtls_middleware.integrations import fastapi_routes, starlette_routes
from mtls_middleware.layers.attached import ATTACHED_KEY, CERTIFICATE_KEY
from mtls_middleware.policy import ANYONE, IssuedBy, Presented, Rule, Subject, Thumbprint, as_rule
from mtls_middleware.testing import TESTING_ENVIRON, CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.validation import TrustStore
from tests.integrations.page_code import FILES, proxy_fields
from tests.integrations.route_frameworks import (
    FLASK,
    FRAMEWORKS,
    MODULES,
    Django,
    Framework,
    answer_without_denial,
    behind_proxy,
    declared,
)
from tests.integrations.route_requests import (
    PROXY,
    SOURCE,
    fields,
    is_wiring_error,
    records,
    shown,
    wsgi_never,
)

CA = CertificateAuthority()
CLIENT = CA.issue("CN=client,O=Tests")
NAMELESS = CA.issue(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ops\x07", _validate=False)]))
MINE, OTHER = Subject("CN=client,O=Tests"), Subject("CN=other,O=Tests")
NOT_VERIFIED = "FAILED:unable to verify the first certificate"
REQUIRED, REFUSED, REACHED = "client_certificate_required", "client_certificate_refused", "reached"

every_framework = pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
every_path = pytest.mark.parametrize(
    ("framework", "path"),
    [pytest.param(each, path, id=f"{each.name}-{path}") for each in FRAMEWORKS.values() for path in each.paths],
)


@dataclass(frozen=True)
class Row:
    """What a route with this rule responds to a client with this certificate."""

    headers: dict[str, str]
    rule: Rule | None
    code: str


PRESENTED = proxy_fields(CLIENT, verify=NOT_VERIFIED)
ROWS = {
    "no certificate": Row({}, None, REQUIRED),
    "no certificate, a rule": Row({}, MINE, REQUIRED),
    "no certificate, a negated rule": Row({}, ~OTHER, REQUIRED),
    "forged header of the wrong name": Row({"Client-Cert": CLIENT.as_client_cert()["Client-Cert"]}, None, REQUIRED),
    "verified": Row(proxy_fields(CLIENT), None, REACHED),
    "verified, its rule": Row(proxy_fields(CLIENT), MINE, REACHED),
    "verified, a function": Row(proxy_fields(CLIENT), as_rule(lambda found: found.subject[:3] == "CN="), REACHED),
    "verified, another rule": Row(proxy_fields(CLIENT), OTHER, REFUSED),
    "verified, a near miss": Row(proxy_fields(CLIENT), Subject("O=Tests,CN=client"), REFUSED),
    "verified, no boolean": Row(proxy_fields(CLIENT), as_rule(lambda _: 1), REFUSED),  # type: ignore[arg-type, return-value]  # wrong on purpose
    "presented": Row(PRESENTED, None, REFUSED),
    "presented, its rule": Row(PRESENTED, MINE, REFUSED),
    "presented, a negated rule": Row(PRESENTED, ~OTHER, REFUSED),
    "presented, allowed": Row(PRESENTED, Presented(MINE), REACHED),
    "presented, its thumbprint": Row(PRESENTED, Thumbprint(CLIENT.thumbprint), REACHED),
    "unreadable": Row(proxy_fields(NAMELESS), MINE, REFUSED),
    "unreadable, a negated rule": Row(proxy_fields(NAMELESS), ~MINE, REFUSED),
}


def layer_response(row: Row) -> tuple[int, dict[str, str], bytes]:
    """The response of a `ClientCertificateMiddleware` with the same rule."""
    app = wsgi.protect(wsgi_never, source=SOURCE, allow=row.rule, required=True)
    response = Client(app).get("/", headers=row.headers, environ_overrides={**TESTING_ENVIRON, "REMOTE_ADDR": PROXY})
    return shown(response.status_code, response.headers, response.data)


def behind_layer(framework: Framework, app: Any, **options: Any) -> Any:
    """`app` behind a certificate layer that lets requests without a certificate pass."""
    inner = app.wsgi_app if isinstance(app, type(FLASK.small())) else app
    return MODULES[framework.gateway].protect(inner, source=SOURCE, **(options or {"required": False}))


@every_path
@pytest.mark.parametrize("case", ROWS)
def test_a_route_responds_as_a_layer_with_the_same_rule(
    framework: Framework, path: str, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    row = ROWS[case]
    answer = framework.send(behind_layer(framework, framework.certified(row.rule)), path, row.headers)
    if row.code == REACHED:
        assert (answer.status, answer.body) == (200, b"reached")
        assert records(caplog) == []
        return
    assert (answer.status, json.loads(answer.body)["error"]) == (403, row.code)
    assert answer.shown() == layer_response(row)
    of_the_route, of_the_layer = ({**each, "level": None} for each in records(caplog))  # the level counts repetitions
    assert of_the_route == {**of_the_layer, "path": path}


@every_framework
def test_a_path_for_anyone_may_have_routes_for_some(framework: Framework) -> None:
    app = behind_layer(framework, framework.certified(MINE), allow={"/": ANYONE})
    assert framework.send(app, "/", proxy_fields(CLIENT)).body == b"reached"
    for headers in ({}, proxy_fields(NAMELESS)):
        assert framework.send(app, "/", headers).status == 403


@every_framework
def test_a_rejected_certificate_reaches_no_route_at_an_exempt_path(
    framework: Framework, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = behind_layer(framework, framework.certified(), allow=OTHER, exempt=["/"])
    for headers, code in (({}, REQUIRED), (proxy_fields(CLIENT), REFUSED)):
        answer = framework.send(app, "/", headers)
        assert (answer.status, json.loads(answer.body)["error"]) == (403, code)
    assert records(caplog)[-1]["thumbprint"] == CLIENT.thumbprint
    assert "remove the path from exempt=" in caplog.text


@every_framework
def test_the_documented_applications_protect_one_route(framework: Framework) -> None:
    infra, ops = CA.issue("CN=a,OU=Infra"), CA.issue("CN=a,OU=ops")
    names: dict[str, Any] = {"__name__": "admin"}
    exec(FILES[f"admin_{framework.name.partition('-')[0]}.py"], names)
    if isinstance(framework, Django):
        app = behind_layer(framework, framework.routed(names["urlpatterns"]), allow={"/": ANYONE})
    else:
        app = names["app"]
    assert framework.send(app, "/", {}).status == 200
    assert json.loads(framework.send(app, "/admin", proxy_fields(infra)).body) == {"subject": "CN=a,OU=Infra"}
    for headers, code in ((proxy_fields(ops), REFUSED), ({}, REQUIRED)):
        answer = framework.send(app, "/admin", headers)
        assert (answer.status, json.loads(answer.body)["error"]) == (403, code)


PLANTED: list[dict[str, Any]] = [
    {},
    {CERTIFICATE_KEY: CLIENT.client_certificate()},
    {ATTACHED_KEY: {"certificate": CLIENT.client_certificate(), "has_certificate_layer": True}},
    {ATTACHED_KEY: CLIENT.client_certificate()},
]


@every_path
@pytest.mark.parametrize("planted", PLANTED)
def test_without_a_layer_the_view_is_not_reached(
    framework: Framework, path: str, planted: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    answer = framework.send(framework.planting(framework.certified(), planted), path, proxy_fields(CLIENT))
    assert is_wiring_error(answer.status, answer.body, caplog)


@every_path
def test_a_certificate_planted_inside_the_layers_is_ignored(framework: Framework, path: str) -> None:
    inner = framework.planting(framework.certified(), {CERTIFICATE_KEY: CLIENT.client_certificate()})
    assert framework.send(behind_layer(framework, inner), path, {}).status == 403


@every_framework
def test_the_applications_error_pages_do_not_replace_the_response(framework: Framework) -> None:
    app = framework.certified(OTHER)
    framework.add_error_pages(app)
    row = ROWS["verified, another rule"]
    assert framework.send(behind_layer(framework, app), "/", row.headers).shown() == layer_response(row)


def _unavailable(_: ClientCertificate) -> bool:
    raise Unavailable("the directory is down", retry_after=5)


@every_framework
def test_a_rule_that_raises_reaches_no_view(framework: Framework) -> None:
    for rule, status in ((as_rule(_unavailable), 503), (as_rule(lambda _: 1 / 0 > 1), 500)):
        answer = framework.send(behind_layer(framework, framework.certified(rule)), "/", proxy_fields(CLIENT))
        assert answer.status == status
        assert answer.headers.get("Retry-After") == ("5" if status == 503 else None)


@every_framework
def test_the_log_says_that_issued_by_needs_a_trust_store(
    framework: Framework, caplog: pytest.LogCaptureFixture
) -> None:
    app = framework.certified(IssuedBy(CA.certificate))
    assert framework.send(behind_layer(framework, app), "/", proxy_fields(CLIENT)).status == 403
    assert "give the layer trust_store=" in caplog.text
    store = TrustStore([CA.certificate])
    app = behind_layer(framework, framework.certified(IssuedBy(CA.certificate)), trust_store=store, required=False)
    assert framework.send(app, "/", proxy_fields(CLIENT)).body == b"reached"


def view(request: Any) -> Any:
    """Words."""


WRONG: list[Any] = [view, lambda: "view", lambda _: True, "CN=client", Subject, type("View", (), {}), True, [MINE]]


@every_framework
def test_an_object_that_is_no_rule_is_rejected_at_definition(framework: Framework) -> None:
    for wrong in WRONG:
        with pytest.raises(ConfigurationError, match=r"expected a rule|is not a rule"):
            framework.require_certificate(wrong)
    with pytest.raises(ConfigurationError, match="ANYONE is not a rule"):
        framework.require_certificate(ANYONE)


@pytest.mark.parametrize("framework", [each for each in FRAMEWORKS.values() if each.require_scopes])
def test_a_decorated_view_is_a_function_and_keeps_its_name(framework: Framework) -> None:
    decorated = framework.require_certificate(MINE)(view)
    assert (decorated.__name__, decorated.__doc__) == ("view", "Words.")
    for wrong in (None, type("View", (), {})):
        with pytest.raises(ConfigurationError, match="require_certificate cannot decorate"):
            framework.require_certificate()(wrong)


@pytest.mark.parametrize("framework", [each for each in FRAMEWORKS.values() if each.require_scopes])
def test_both_decorators_of_one_view_apply(framework: Framework, mtls_issuer: TokenIssuer) -> None:
    assert framework.require_scopes is not None

    def both(inner: Callable[..., Any]) -> Any:
        assert framework.require_scopes is not None
        return framework.require_certificate(MINE)(framework.require_scopes("a")(inner))

    app = framework.small(both)
    other = CA.issue("CN=other,O=Tests")
    cases = ((CLIENT, ["a"], 200), (CLIENT, ["b"], 403), (other, ["a"], 403))
    app = behind_layer(framework, app, tokens=mtls_issuer.access_tokens())
    for client, scopes, status in cases:
        for path in framework.paths:
            assert framework.send(app, path, fields(client, mtls_issuer, *scopes)).status == status


# The accessors for routes


def test_the_accessors_for_routes_never_return_none(mtls_issuer: TokenIssuer, mtls_client: IssuedCertificate) -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return [b""]

    tokens = mtls_issuer.access_tokens()
    layered = wsgi.protect(app, source=SOURCE, tokens=tokens, exempt=["/"])
    for headers in (fields(mtls_client, mtls_issuer), {}):
        Client(layered).get("/", headers=headers, environ_overrides={**TESTING_ENVIRON, "REMOTE_ADDR": PROXY})
    good, without = seen
    assert route_certificate(good) is client_certificate(good)
    assert route_token(good) is access_token(good)
    for accessor in (route_certificate, route_token):
        with pytest.raises(ConfigurationError, match="protect the route"):
            accessor(without)


# Websockets


async def _live(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(route_certificate(websocket).subject)
    await websocket.close()


def _starlette_websocket() -> Any:
    return Starlette(routes=[WebSocketRoute("/live", starlette_routes.require_certificate(MINE)(_live))])


def _fastapi_websocket() -> Any:
    app = FastAPI()
    fastapi_routes.install(app)
    app.websocket("/live", dependencies=[Depends(fastapi_routes.require_certificate(MINE))])(_live)
    return app


@pytest.mark.parametrize("make", [_starlette_websocket, _fastapi_websocket])
def test_a_websocket_is_rejected_before_it_is_accepted(make: Callable[[], Any]) -> None:
    app = MODULES["asgi"].protect(make(), source=SOURCE)
    client, row = behind_proxy(app), ROWS["no certificate, a rule"]
    with client.websocket_connect("/live", headers=proxy_fields(CLIENT)) as session:
        assert session.receive_json() == "CN=client,O=Tests"
    with pytest.raises(WebSocketDenialResponse) as denied:
        client.websocket_connect("/live").__enter__()
    assert shown(denied.value.status_code, denied.value.headers, denied.value.content) == layer_response(row)
    assert answer_without_denial(app, "/live", PRESENTED) == [("websocket.close", 1008)]


# FastAPI alone


@pytest.mark.parametrize("accessor", [client_certificate, access_token, oauth_client, route_certificate, route_token])
def test_an_accessor_as_a_dependency_fails_at_definition(accessor: Any) -> None:
    app = FastAPI()
    with pytest.raises(ConfigurationError, match=r"not dependencies.*Depends\(require_certificate\(\)\)"):
        app.get("/", dependencies=[Depends(accessor)])(lambda: "reached")

    async def inherited(found: Annotated[Any, Depends(accessor)]) -> None: ...

    with pytest.raises(ConfigurationError, match="are not dependencies"):
        app.websocket("/", dependencies=[Depends(inherited)])(lambda: "reached")
    assert [each for each in app.routes if getattr(each, "path", "") == "/"] == []


def test_the_dependency_without_install_reaches_no_route() -> None:
    app = FastAPI()
    app.get("/", dependencies=[Depends(fastapi_routes.require_certificate())])(lambda: "reached")
    client = behind_proxy(MODULES["asgi"].protect(app, source=SOURCE))
    with pytest.raises(ConfigurationError, match=r"call install\(app\)"):
        client.get("/", headers=proxy_fields(CLIENT))
    with pytest.raises(Exception, match=r"."):  # FastAPI itself rejects the dependency without parentheses
        app.get("/bare", dependencies=[Depends(fastapi_routes.require_certificate)])(lambda: "reached")


def test_one_install_is_enough_for_tokens_and_certificates(mtls_issuer: TokenIssuer) -> None:
    app, bound = FastAPI(), declared("a")
    bound.install(app)
    required = fastapi_routes.require_certificate(MINE)
    app.get("/", dependencies=[Depends(required), Security(bound, scopes=["a"])])(lambda: "reached")
    layered = MODULES["asgi"].protect(app, source=SOURCE, tokens=mtls_issuer.access_tokens())
    other = CA.issue("CN=other,O=Tests")
    for client, scopes, status in ((CLIENT, ["a"], 200), (CLIENT, [], 403), (other, ["a"], 403)):
        response = behind_proxy(layered).get("/", headers=fields(client, mtls_issuer, *scopes))
        assert response.status_code == status
    with pytest.raises(ConfigurationError, match="call it once"):
        fastapi_routes.install(app)


@pytest.mark.standard("C21")
def test_the_document_shows_the_certificate_as_mutual_tls() -> None:
    app, required = FastAPI(), fastapi_routes.require_certificate(MINE)
    fastapi_routes.install(app)
    key = APIKeyHeader(name="X-Key", auto_error=False)
    app.get("/own", dependencies=[Depends(required)], responses={403: {"description": "own words"}})(lambda: "")
    app.get("/key", dependencies=[Depends(required), Depends(key)])(lambda: "")
    app.get("/twice", dependencies=[Depends(required), Depends(fastapi_routes.require_certificate())])(lambda: "")
    app.get("/free")(lambda: "")
    for _ in range(2):
        document = app.openapi()
        assert document["components"]["securitySchemes"]["mtls"] == {"type": "mutualTLS"}
        found = {path: item["get"].get("security") for path, item in document["paths"].items()}
        assert found == {
            "/own": [{"mtls": []}],
            "/key": [{"mtls": [], "APIKeyHeader": []}],
            "/twice": [{"mtls": []}],
            "/free": None,
        }
        assert document["paths"]["/own"]["get"]["responses"]["403"] == {"description": "own words"}
        assert "certificate" in document["paths"]["/key"]["get"]["responses"]["403"]["description"]
        assert document["paths"]["/key"]["get"]["responses"].keys() == {"200", "403"}
        assert document["paths"]["/free"]["get"]["responses"].keys() == {"200"}


@pytest.mark.standard("C21")
def test_the_document_requires_certificate_and_token_together() -> None:
    app, bound = FastAPI(), declared("a")
    bound.install(app)
    required = fastapi_routes.require_certificate()
    app.get("/both", dependencies=[Depends(required), Security(bound, scopes=["a"])])(lambda: "")
    app.get("/certificate", dependencies=[Depends(required)])(lambda: "")
    app.get("/token", dependencies=[Depends(bound)])(lambda: "")
    for _ in range(2):
        paths = app.openapi()["paths"]
        assert {path: item["get"]["security"] for path, item in paths.items()} == {
            "/both": [{"mtls": [], "oauth2": ["a"]}],
            "/certificate": [{"mtls": []}],
            "/token": [{"mtls": [], "oauth2": []}],
        }
        assert paths["/token"]["get"]["responses"].keys() == {"200", "401", "403"}
