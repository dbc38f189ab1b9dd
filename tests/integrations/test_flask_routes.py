"""`require_scopes` under real Flask, behind the real layers: the application of docs/integrations.md, and others."""

import logging
from typing import Any

import flask
import pytest
from flask.views import View

from mtls_middleware import ConfigurationError, wsgi
from mtls_middleware.integrations.flask_routes import require_scopes
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate, TokenIssuer
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


@pytest.fixture(scope="module")
def app(mtls_issuer: TokenIssuer) -> flask.Flask:
    found: flask.Flask = documented("invoices_flask.py", mtls_issuer)["app"]
    return found


def ask(app: flask.Flask, path: str, headers: dict[str, str], method: str = "GET") -> Any:
    return app.test_client().open(
        path, method=method, headers=headers, environ_overrides={**TESTING_ENVIRON, "REMOTE_ADDR": PROXY}
    )


@pytest.mark.parametrize(
    ("method", "path", "scopes", "body"),
    [
        ("GET", "/invoices", ["invoices:read"], {"for": "alice"}),
        ("GET", "/invoices", ["other", "invoices:read"], {"for": "alice"}),
        ("POST", "/invoices", ["invoices:read", "invoices:write"], {"created": True}),
        ("GET", "/me", [], {"subject": "alice"}),
        ("GET", "/reports/7", ["invoices:read"], {"report": 7}),
        ("DELETE", "/reports/7", ["invoices:read", "invoices:write"], {"deleted": 7}),
        ("GET", "/audit/log", ["audit"], {"auditor": "alice"}),
    ],
)
def test_a_token_with_the_scopes_reaches_the_view(
    app: flask.Flask,
    mtls_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
    *,
    method: str,
    path: str,
    scopes: list[str],
    body: dict[str, Any],
) -> None:
    response = ask(app, path, fields(mtls_client, mtls_issuer, *scopes), method)
    assert (response.status_code, response.get_json()) == (200, body)


@pytest.mark.parametrize(
    ("method", "path", "scopes", "demanded"),
    [
        ("GET", "/invoices", [], ["invoices:read"]),
        ("GET", "/invoices", ["invoices:read2", "invoices", "INVOICES:READ"], ["invoices:read"]),
        ("HEAD", "/invoices", [], ["invoices:read"]),
        ("POST", "/invoices", ["invoices:write"], ["invoices:read", "invoices:write"]),
        ("GET", "/reports/7", ["invoices:write"], ["invoices:read"]),
        ("DELETE", "/reports/7", ["invoices:read"], ["invoices:write"]),
        ("GET", "/audit/log", ["invoices:read"], ["audit"]),
    ],
)
def test_too_little_scope_is_answered_and_recorded_as_the_layer_does(
    app: flask.Flask,
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
    response = ask(app, path, headers, method)
    status, fields_of_layer, body = layer_answer(headers, mtls_issuer, *demanded)
    assert status == 403
    assert 'error="insufficient_scope"' in fields_of_layer["www-authenticate"]
    assert fields_of_layer["www-authenticate"].endswith(f', scope="{" ".join(demanded)}"')
    expected = (status, fields_of_layer, b"" if method == "HEAD" else body)
    assert shown(response.status_code, response.headers, response.data) == expected
    ours, the_layers = records(caplog)
    assert ours == {**the_layers, "method": method, "path": path}


def test_without_token_the_answer_is_the_layers(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = _small(mtls_issuer, exempt=["/"])
    for headers in ({}, proxy_fields(mtls_client), {"Authorization": "Bearer rubbish"}):
        response = ask(app, "/", headers)
        expected = layer_answer(proxy_fields(mtls_client), mtls_issuer, "a")
        assert expected[0] == 401
        assert shown(response.status_code, response.headers, response.data) == expected


def test_a_certificate_layer_alone_is_401(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = _bare()
    app.wsgi_app = wsgi.ClientCertificateMiddleware(app.wsgi_app, SOURCE)
    response = ask(app, "/", fields(mtls_client, mtls_issuer, "a"))
    assert response.status_code == 401
    assert "no CertificateBoundTokenMiddleware ran" in records(caplog)[0]["evidence"][0]


@pytest.mark.parametrize("planted", PLANTED)
def test_without_our_layers_the_view_is_not_reached(planted: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Mtls-Middleware-Token": "a", "mtls_middleware.token": "a"}
    response = _bare().test_client().get("/", headers=headers, environ_overrides=planted)
    assert is_wiring_error(response.status_code, response.data, caplog)


def test_the_applications_own_error_pages_leave_the_answer_alone(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = _small(mtls_issuer)
    for each in (403, 500, Exception):
        app.register_error_handler(each, lambda _: ("a page", 200))
    headers = fields(mtls_client, mtls_issuer)
    response = ask(app, "/", headers)
    assert shown(response.status_code, response.headers, response.data) == layer_answer(headers, mtls_issuer, "a")


def test_a_decorator_around_cannot_make_a_refusal_a_success(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = _small(mtls_issuer)
    inner = app.view_functions["view"]
    app.view_functions["view"] = lambda: flask.make_response(str(inner()), 200)
    assert ask(app, "/", fields(mtls_client, mtls_issuer)).status_code == 403
    assert ask(app, "/", fields(mtls_client, mtls_issuer, "a")).status_code == 200


def test_realm_and_metadata_are_in_the_challenge(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = _small(mtls_issuer, realm="billing", resource_metadata="https://api.example/meta")
    challenge = ask(app, "/", fields(mtls_client, mtls_issuer)).headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="billing", error="insufficient_scope"')
    assert challenge.endswith('scope="a", resource_metadata="https://api.example/meta"')


def test_a_decorated_view_keeps_its_name_and_arguments() -> None:
    def view(number: int) -> int:
        """Words."""
        return number

    decorated = require_scopes("a")(view)
    assert (decorated.__name__, decorated.__doc__) == ("view", "Words.")


class _ClassBased(View):
    def dispatch_request(self) -> str:
        return "reached"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: require_scopes(lambda: "view"), "in parentheses"),
        (lambda: require_scopes(["a", "b"]), "in parentheses"),
        (lambda: require_scopes(None), "in parentheses"),
        (lambda: require_scopes("a b"), "scope 'a b': expected"),
        (lambda: require_scopes(""), "scope '': expected"),
        (lambda: require_scopes('a"'), "expected printable ASCII without spaces"),
        (lambda: require_scopes("a", realm='"'), "realm="),
        (lambda: require_scopes("a", resource_metadata="http://api.example"), "resource_metadata="),
        (lambda: require_scopes("a")(_ClassBased), "decorators = "),
        (lambda: require_scopes("a")(None), "a function"),
    ],
)
def test_a_misuse_is_refused_where_it_is_written(wrong: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        wrong()


def _bare(**options: Any) -> flask.Flask:
    app = flask.Flask("bare")

    @app.get("/")
    @require_scopes("a", **options)
    def view() -> str:
        return "reached"

    return app


def _small(issuer: TokenIssuer, exempt: Any = (), **options: Any) -> flask.Flask:
    app = _bare(**options)
    app.wsgi_app = wsgi.protect(app.wsgi_app, source=SOURCE, tokens=issuer.access_tokens(), exempt=exempt)
    return app
