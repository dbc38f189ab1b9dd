"""`mtls-middleware doctor`: roots that make paths ambiguous."""

from typing import Any

import pytest

from mtls_middleware import asgi, wsgi
from mtls_middleware.cli.roots import roots
from mtls_middleware.cli.wiring import layers_of
from mtls_middleware.policy import Subject
from mtls_middleware.sources import ServerTLS
from tests.cli.conftest import bare, bare_asgi
from tests.frameworks import path_sites

RULES = {"/admin": Subject("CN=ops"), "/": Subject("CN=guest")}


def found(app: Any, command: str | None = None, **environment: str) -> list[tuple[str, str]]:
    words = None if command is None else command.split()
    return [(severity, what + advice) for severity, what, advice in roots(list(layers_of(app)), words, environment)]


def layered(app: Any = bare_asgi, **options: Any) -> Any:
    return asgi.ClientCertificateMiddleware(app, ServerTLS(), **{"allow": RULES, **options})


@pytest.mark.parametrize(
    ("command", "root"),
    [
        ("uvicorn x:app --root-path /api", "/api"),
        ("hypercorn --root-path=/api x:app", "/api"),
        ("daphne x:app --root-path /api/", "/api"),
        ("gunicorn -k asgi --root-path /api x:app", "/api"),
        ("granian --interface asgi --url-path-prefix /api x:app", "/api"),
    ],
)
def test_a_root_of_the_server_is_found(command: str, root: str) -> None:
    ((severity, text),) = found(layered(), command)
    assert severity == "warning"
    assert f"root_path={root!r}" in text
    assert found(layered(exempt=["/health"], allow=None), command) != []
    assert found(layered(root_path="/api"), command) == []
    assert found(layered(allow=Subject("CN=x")), command) == []


def test_the_roots_of_wsgi_servers_are_found() -> None:
    app = wsgi.ClientCertificateMiddleware(bare, ServerTLS(), allow=RULES)
    assert "'/api'" in found(app, "gunicorn x:app", SCRIPT_NAME="/api")[0][1]
    assert "'/api'" in found(app, "waitress-serve --url-prefix=/api x:app")[0][1]
    assert found(app, "gunicorn x:app") == found(app, "thttpd x") == found(app) == []


def test_a_root_that_clients_choose_is_found() -> None:
    ((severity, text),) = found(layered(), "daphne x:app")
    assert severity == "note"
    assert "Daphne-Root-Path" in text
    assert found(layered(root_path=""), "daphne x:app") == []


def test_a_root_of_fastapi_is_found() -> None:
    app = path_sites.fastapi_root(layered)
    assert [severity for severity, _ in found(app)] == ["warning"]
    assert found(path_sites.fastapi_root(lambda app: layered(app, root_path="/api"))) == []
    assert [severity for severity, _ in found(path_sites.fastapi_root(lambda app: layered(app, root_path="/v2")))] == [
        "error"
    ]
    assert found(path_sites.fastapi(layered)) == []


def test_a_forced_script_name_of_django_is_found() -> None:
    from django.test import override_settings

    from tests.frameworks import django_site

    app = layered(django_site.asgi())
    assert found(app) == []
    with override_settings(FORCE_SCRIPT_NAME="/shop"):
        assert "root_path='/shop'" in found(app)[0][1]
