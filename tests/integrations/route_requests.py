"""Requests to the documented applications, through the documented proxy; and what the layer itself would have said."""

import json
import logging
from typing import Any

import pytest
from werkzeug.test import Client

from mtls_middleware import AccessToken, wsgi
from mtls_middleware.layers.attached import ATTACHED_KEY, TOKEN_KEY
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate, TokenIssuer
from tests.integrations.documented import FILES, PROXY, SOURCE, proxy_fields

# What somebody may put in place of what our layers attach.
FORGED = AccessToken(claims={}, subject="mallory", client_id=None, scopes=frozenset({"a"}), expires_at=None)
PLANTED: list[dict[str, Any]] = [
    {},
    {TOKEN_KEY: FORGED},
    {ATTACHED_KEY: {"token": FORGED}},
    {ATTACHED_KEY: FORGED},
]


def documented(name: str, issuer: TokenIssuer) -> dict[str, Any]:
    """The names of one of the documented files, after it ran."""
    names: dict[str, Any] = {"__name__": name.removesuffix(".py"), "tokens": issuer.access_tokens()}
    exec(FILES[name], names)
    return names


def fields(certificate: IssuedCertificate, issuer: TokenIssuer, *scopes: str) -> dict[str, str]:
    """What the proxy and the client send: a certificate, and a token that is bound to it."""
    token = issuer.token(certificate=certificate, scopes=scopes, claims={"sub": "alice"})
    return {**proxy_fields(certificate), "Authorization": f"Bearer {token}"}


def layer_answer(headers: dict[str, str], issuer: TokenIssuer, *scopes: str) -> tuple[int, dict[str, str], bytes]:
    """The answer of a `CertificateBoundTokenMiddleware` that demands `scopes` of the same request."""
    app = wsgi.protect(wsgi_never, source=SOURCE, tokens=issuer.access_tokens(), scopes=scopes)
    response = Client(app).get("/", headers=headers, environ_overrides={**TESTING_ENVIRON, "REMOTE_ADDR": PROXY})
    return shown(response.status_code, response.headers, response.data)


def wsgi_never(environ: Any, start_response: Any) -> Any:
    raise AssertionError("the layer was to refuse")


def shown(status: int, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """An answer, without what the source adds to whatever comes from the application."""
    folded = {name.lower(): value for name, value in headers.items()}
    return status, {name: value for name, value in folded.items() if name != "vary"}, body


def records(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What was recorded of refusals, without who refused, when, and what only a route knows of the token."""
    told = ("outcome", "status", "code", "evidence", "method", "path", "thumbprint", "verification")
    found = [vars(each) for each in caplog.records if each.name == "mtls_middleware.decision" and "mtls" in vars(each)]
    every = [{"level": each["levelno"], **{name: each["mtls"].get(name) for name in told}} for each in found]
    return [each for each in every if each["outcome"] == "refused"]


def is_wiring_error(status: int, body: bytes, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether this is the 500 of layers that are not there, with the line that says what to do."""
    told = any(each.levelno == logging.ERROR and "wrap the whole" in each.getMessage() for each in caplog.records)
    return status == 500 and json.loads(body)["error"] == "server_error" and told
