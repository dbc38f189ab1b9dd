"""Route protection in real Flask, Starlette, Django and FastAPI, behind the real layers: what all of them share."""

import json
import logging
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.layers.attached import TOKEN_KEY
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.integrations.page_code import proxy_fields
from tests.integrations.route_frameworks import FRAMEWORKS, Framework
from tests.integrations.route_requests import (
    ACCEPTED,
    FORGED,
    PLANTED,
    REJECTED,
    Accepted,
    Rejected,
    fields,
    is_wiring_error,
    layer_answer,
    path_of,
    records,
)

every_framework = pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
every_path = pytest.mark.parametrize(
    ("framework", "path"),
    [pytest.param(each, path, id=f"{each.name}-{path}") for each in FRAMEWORKS.values() for path in each.paths],
)
every_decorator = pytest.mark.parametrize(
    "require_scopes",
    [pytest.param(each.require_scopes, id=each.name) for each in FRAMEWORKS.values() if each.require_scopes],
)


def rows(table: list[Any]) -> list[Any]:
    """Each row with each of its frameworks."""
    return [
        pytest.param(FRAMEWORKS[name], row, id=f"{name}-{row.method}-{path_of(row, name)}-{' '.join(row.scopes)}")
        for row in table
        for name in row.frameworks
    ]


@pytest.fixture(scope="module")
def applications(mtls_issuer: TokenIssuer) -> dict[str, Any]:
    """The documented application of each framework."""
    return {name: each.documented(mtls_issuer) for name, each in FRAMEWORKS.items()}


@pytest.mark.parametrize(("framework", "row"), rows(ACCEPTED))
def test_a_token_with_the_scopes_reaches_the_view(
    framework: Framework,
    row: Accepted,
    *,
    applications: dict[str, Any],
    mtls_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
) -> None:
    headers = fields(mtls_client, mtls_issuer, *row.scopes)
    answer = framework.send(applications[framework.name], path_of(row, framework.name), headers, row.method)
    assert (answer.status, json.loads(answer.body)) == (200, row.body)


@pytest.mark.parametrize(("framework", "row"), rows(REJECTED))
def test_a_token_with_too_little_scope_is_rejected_as_by_the_layer(
    framework: Framework,
    row: Rejected,
    *,
    applications: dict[str, Any],
    mtls_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    headers, path = fields(mtls_client, mtls_issuer, *row.scopes), path_of(row, framework.name)
    answer = framework.send(applications[framework.name], path, headers, row.method)
    status, fields_of_layer, body = layer_answer(headers, mtls_issuer, *row.demanded)
    assert status == 403
    assert 'error="insufficient_scope"' in fields_of_layer["www-authenticate"]
    assert fields_of_layer["www-authenticate"].endswith(f', scope="{" ".join(row.demanded)}"')
    assert answer.shown() == (status, fields_of_layer, b"" if row.method == "HEAD" else body)
    of_the_route, of_the_layer = records(caplog)
    assert of_the_route == {**of_the_layer, "method": row.method, "path": path}


@every_path
def test_a_request_without_token_gets_the_layers_response(
    framework: Framework, path: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = framework.protected(framework.small(), mtls_issuer, exempt=[path])
    for headers in ({}, proxy_fields(mtls_client), {"Authorization": "Bearer rubbish"}):
        expected = layer_answer(proxy_fields(mtls_client), mtls_issuer, "a")
        assert expected[0] == 401
        assert framework.send(app, path, headers).shown() == expected


@every_framework
def test_a_certificate_layer_alone_is_401(
    framework: Framework, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = framework.with_certificate_layer(framework.small())
    assert framework.send(app, "/", fields(mtls_client, mtls_issuer, "a")).status == 401
    assert "no CertificateBoundTokenMiddleware ran" in records(caplog)[0]["evidence"][0]


@every_path
@pytest.mark.parametrize("planted", PLANTED)
def test_without_our_layers_the_view_is_not_reached(
    framework: Framework, path: str, planted: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Mtls-Middleware-Token": "a", "mtls_middleware.token": "a"}
    answer = framework.send(framework.planting(framework.small(), planted), path, headers)
    assert is_wiring_error(answer.status, answer.body, caplog)


@every_path
def test_a_token_planted_inside_the_layers_is_ignored(
    framework: Framework, path: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    for exempt, headers, status in (([path], {}, 401), ([], fields(mtls_client, mtls_issuer), 403)):
        inner = framework.planting(framework.small(), {TOKEN_KEY: FORGED})
        assert framework.send(framework.protected(inner, mtls_issuer, exempt), path, headers).status == status


@every_path
def test_a_token_with_the_scope_reaches_every_kind_of_view(
    framework: Framework, path: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = framework.protected(framework.small(), mtls_issuer)
    answer = framework.send(app, path, fields(mtls_client, mtls_issuer, "a"))
    assert (answer.status, answer.body) == (200, b"reached")


@every_framework
def test_the_applications_error_pages_do_not_replace_the_response(
    framework: Framework, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app, headers = framework.small(), fields(mtls_client, mtls_issuer)
    framework.add_error_pages(app)
    answer = framework.send(framework.protected(app, mtls_issuer), "/", headers)
    assert answer.shown() == layer_answer(headers, mtls_issuer, "a")


@every_framework
def test_realm_and_metadata_are_in_the_challenge(
    framework: Framework, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = framework.small(realm="billing", resource_metadata="https://api.example/meta")
    answer = framework.send(framework.protected(app, mtls_issuer), "/", fields(mtls_client, mtls_issuer))
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="billing", error="insufficient_scope"')
    assert challenge.endswith('scope="a", resource_metadata="https://api.example/meta"')


@every_decorator
def test_a_decorated_view_keeps_its_name_and_docstring(require_scopes: Any) -> None:
    def view(request: Any) -> Any:
        """Words."""

    decorated = require_scopes("a")(view)
    assert (decorated.__name__, decorated.__doc__) == ("view", "Words.")


@every_decorator
@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ([lambda: "view"], {}, "in parentheses"),
        ([["a", "b"]], {}, "in parentheses"),
        ([None], {}, "in parentheses"),
        (["a b"], {}, "scope 'a b': expected"),
        ([""], {}, "scope '': expected"),
        (['a"'], {}, "expected printable ASCII without spaces"),
        (["a"], {"realm": '"'}, "realm="),
        (["a"], {"resource_metadata": "http://api.example"}, "resource_metadata="),
    ],
)
def test_wrong_arguments_are_rejected_at_definition(
    require_scopes: Any, arguments: list[Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        require_scopes(*arguments, **options)


@every_decorator
def test_a_decorated_value_that_is_not_a_function_is_rejected(require_scopes: Any) -> None:
    with pytest.raises(ConfigurationError, match="a function"):
        require_scopes("a")(None)
