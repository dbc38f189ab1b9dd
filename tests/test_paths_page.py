"""docs/paths.md is true: its code runs, and does what the page says."""

import re
from pathlib import Path
from typing import Any

import flask
import pytest
import werkzeug.test

from mtls_middleware.testing import TESTING_ENVIRON, CertificateAuthority

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "paths.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def block(text: str) -> str:
    (found,) = [each for each in BLOCKS if text in each]
    return found


def answer(app: Any, path: str, **options: Any) -> Any:
    environ = {**TESTING_ENVIRON, **options.pop("environ", {})}
    return werkzeug.test.Client(app).open(path, environ_overrides=environ, **options)


def flask_app() -> flask.Flask:
    app = flask.Flask("paths")
    for rule in ("/", "/admin", "/public", "/health"):
        app.add_url_rule(rule, rule, lambda: "seen")
    return app


def test_no_block_is_untried() -> None:
    assert len(BLOCKS) == 1


@pytest.mark.parametrize(("path", "statuses"), [
    ("/", [403, 200, 403]),
    ("/admin", [403, 403, 200]),
    ("/public", [200, 200, 200]),
    ("/health", [200, 200, 200]),
])  # fmt: skip
def test_the_rules_of_the_first_example_apply(path: str, statuses: list[int]) -> None:
    app = flask_app()
    exec(block("allow = {"), {"app": app})
    authority = CertificateAuthority()
    guest = authority.issue("CN=guest", uris=["spiffe://acme.internal/guest"])
    ops = authority.issue("CN=ops,O=Acme")
    environs = [{}, guest.as_environ(), ops.as_environ()]
    for asked in (path, f"/api{path}"):
        assert [answer(app.wsgi_app, asked, environ=each).status_code for each in environs] == statuses
