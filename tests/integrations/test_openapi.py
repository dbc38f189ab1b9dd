"""What `mtls_middleware.integrations.openapi` writes, and what FastAPI's documents say with it (OpenAPI 3.1.0)."""

import json
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Security
from fastapi.security import APIKeyHeader, HTTPBasic
from fastapi.testclient import TestClient

from mtls_middleware import ConfigurationError
from mtls_middleware.integrations.fastapi_routes import CertificateBoundToken
from mtls_middleware.integrations.openapi import security_requirement, security_schemes
from mtls_middleware.testing import TokenIssuer
from tests.integrations.page_code import FILES
from tests.integrations.route_requests import documented

TOKEN_URL = "https://as.example/token"
READ, WRITE = "invoices:read", "invoices:write"
VERBS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
# Which fields a flow must have, besides scopes (OpenAPI 3.1.0, OAuth Flow Object).
FLOWS = {
    "authorizationCode": {"authorizationUrl", "tokenUrl"},
    "clientCredentials": {"tokenUrl"},
}


def check(document: dict[str, Any]) -> dict[str, Any]:
    """The `security` of each operation, by verb and path, after every rule of the standard on it was asserted."""
    assert json.loads(json.dumps(document)) == document
    assert document["openapi"].startswith("3.1.")
    schemes = document["components"]["securitySchemes"]
    assert schemes["mtls"] == {"type": "mutualTLS"}  # and no further field
    assert schemes["oauth2"].keys() == {"type", "flows"}
    scopes: set[str] = set()
    for kind, flow in schemes["oauth2"]["flows"].items():
        assert flow.keys() == FLOWS[kind] | {"scopes"}
        assert all(isinstance(text, str) for text in flow["scopes"].values())
        scopes |= flow["scopes"].keys()
    found = {}
    for path, item in document["paths"].items():
        for verb in item.keys() & VERBS:
            found[f"{verb} {path}"] = listed = item[verb].get("security")
            for name, needed in ((name, needed) for each in listed or [] for name, needed in each.items()):
                assert name in schemes
                assert set(needed) <= (scopes if name == "oauth2" else set())
    return found


@pytest.mark.standard("C21")
def test_one_requirement_holds_both_schemes_and_the_operations_scopes(mtls_issuer: TokenIssuer) -> None:
    document = documented("invoices_fastapi.py", mtls_issuer)["api"].openapi()
    assert document["openapi"] == "3.1.0"
    assert check(document) == {
        "get /invoices": [{"mtls": [], "oauth2": [READ]}],
        "post /invoices": [{"mtls": [], "oauth2": [READ, WRITE]}],
        "get /me": [{"mtls": [], "oauth2": []}],
        "get /health": None,
        "get /audit/log": [{"mtls": [], "oauth2": [READ, "audit"]}],  # of the router and of the dependency
    }


@pytest.mark.standard("C21")
def test_the_documented_document_keeps_the_rules() -> None:
    names: dict[str, Any] = {}
    exec(FILES["document.py"], names)
    assert check(names["document"]) == {"get /invoices": [{"mtls": [], "oauth2": [READ]}]}


def test_the_document_is_served_and_stays_the_same(mtls_issuer: TokenIssuer) -> None:
    names = documented("invoices_fastapi.py", mtls_issuer)
    client = TestClient(names["app"])
    first, second = (client.get("/openapi.json").json() for _ in range(2))
    assert first == second == names["api"].openapi()
    check(first)


def test_a_route_that_is_added_later_is_in_the_document(mtls_issuer: TokenIssuer) -> None:
    names = documented("invoices_fastapi.py", mtls_issuer)
    names["api"].openapi()
    names["api"].openapi_schema = None  # what older FastAPI needs to make it anew
    names["api"].get("/late", dependencies=[Security(names["bound"], scopes=["audit"])])(lambda: "late")
    assert check(names["api"].openapi())["get /late"] == [{"mtls": [], "oauth2": ["audit"]}]


@pytest.mark.standard("C21")
def test_other_schemes_do_not_make_certificate_or_token_optional() -> None:
    bound, app = CertificateBoundToken(token_url=TOKEN_URL, scopes={READ: "Read"}), FastAPI()
    bound.install(app)
    key, basic = APIKeyHeader(name="X-Key", auto_error=False), HTTPBasic(auto_error=False)

    @app.get("/both", dependencies=[Depends(key), Security(bound, scopes=[READ]), Depends(basic)])
    def both() -> None: ...

    @app.get("/other")
    def other(key: Annotated[str, Depends(key)]) -> None: ...

    for _ in range(2):
        document = app.openapi()
        ours = {"mtls": [], "oauth2": [READ]}
        assert check(document) == {
            "get /both": [{**ours, "APIKeyHeader": []}, {**ours, "HTTPBasic": []}],
            "get /other": [{"APIKeyHeader": []}],
        }


def test_a_document_without_such_routes_is_left_alone() -> None:
    plain, app = FastAPI(), FastAPI()
    CertificateBoundToken(token_url=TOKEN_URL, scopes={}).install(app)
    assert app.openapi() == plain.openapi()


@pytest.mark.standard("C21")
def test_openapi_3_0_is_refused_since_it_has_no_mutual_tls() -> None:
    bound = CertificateBoundToken(token_url=TOKEN_URL, scopes={})
    early, late = FastAPI(), FastAPI()
    early.openapi_version = "3.0.2"
    with pytest.raises(ConfigurationError, match=r"version '3\.0\.2': mutualTLS needs 3\.1"):
        bound.install(early)
    bound.install(late)
    late.openapi_version = "3.0.2"
    with pytest.raises(ConfigurationError, match=r"mutualTLS needs 3\.1"):
        late.openapi()


def test_a_function_of_the_applications_own_is_completed_too() -> None:
    bound, app = CertificateBoundToken(token_url=TOKEN_URL, scopes={READ: "Read"}), FastAPI()
    generate = app.openapi
    app.openapi = lambda: {**generate(), "x-own": True}
    bound.install(app)
    app.get("/", dependencies=[Depends(bound)])(lambda: "reached")
    document = app.openapi()
    assert document["x-own"] is True
    assert check(document) == {"get /": [{"mtls": [], "oauth2": []}]}


def test_where_users_consent_the_flow_is_the_authorization_code() -> None:
    schemes = security_schemes(token_url=TOKEN_URL, scopes={}, authorization_url="https://as.example/authorize")
    flow = {"authorizationUrl": "https://as.example/authorize", "tokenUrl": TOKEN_URL, "scopes": {}}
    assert schemes["oauth2"] == {"type": "oauth2", "flows": {"authorizationCode": flow}}
    app, bound = (
        FastAPI(),
        CertificateBoundToken(
            token_url=TOKEN_URL, scopes={READ: "Read"}, authorization_url="https://as.example/authorize"
        ),
    )
    bound.install(app)
    app.get("/", dependencies=[Security(bound, scopes=[READ])])(lambda: "reached")
    assert check(app.openapi()) == {"get /": [{"mtls": [], "oauth2": [READ]}]}


def test_a_requirement_says_each_scope_once_in_the_order_given() -> None:
    assert security_requirement(["b", "a", "b"]) == {"mtls": [], "oauth2": ["b", "a"]}
    assert security_requirement() == {"mtls": [], "oauth2": []}


def test_what_is_given_is_a_dict_of_ones_own() -> None:
    scopes = {READ: "Read"}
    schemes = security_schemes(token_url=TOKEN_URL, scopes=scopes)
    schemes["oauth2"]["flows"]["clientCredentials"]["scopes"]["x"] = "changed"
    assert scopes == {READ: "Read"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token_url": "http://as.example/token"}, "token_url='http"),
        ({"token_url": "token"}, "token_url='token'"),
        ({"token_url": "https:///token"}, "token_url="),
        ({"token_url": "https://as.example/token#x"}, "token_url="),
        ({"token_url": "https://[as/"}, "token_url="),
        ({"token_url": None}, "token_url=None"),
        ({"authorization_url": "javascript:alert(1)"}, "authorization_url='javascript"),
        ({"scopes": [READ]}, "a dict of strings"),
        ({"scopes": READ}, "a dict of strings"),
        ({"scopes": {READ: None}}, "a dict of strings"),
        ({"scopes": {"a b": "two"}}, "scope 'a b': expected"),
        ({"scopes": {1: "one"}}, "scope 1: expected"),
    ],
)
def test_schemes_put_together_wrongly(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        security_schemes(**{"token_url": TOKEN_URL, "scopes": {}, **options})


@pytest.mark.parametrize("scopes", [READ, ["a b"], [1], None, iter([READ])])
def test_requirement_put_together_wrongly(scopes: Any) -> None:
    with pytest.raises(ConfigurationError):
        security_requirement(scopes)
