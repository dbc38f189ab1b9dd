"""The requests of the route tests: the shared tables, and what the layer itself answers to the same request."""

import json
import logging
from dataclasses import dataclass
from typing import Any

import pytest
from werkzeug.test import Client

from mtls_middleware import AccessToken, wsgi
from mtls_middleware.layers.attached import ATTACHED_KEY, TOKEN_KEY
from mtls_middleware.testing import TESTING_ENVIRON, IssuedCertificate, TokenIssuer
from tests.integrations.page_code import FILES, PROXY, SOURCE, proxy_fields

READ, WRITE = "invoices:read", "invoices:write"
DJANGO = ("django-wsgi", "django-asgi")
# The frameworks whose documented application has class-based views under /reports.
WITH_REPORTS = ("flask", "starlette", *DJANGO)
EVERY = (*WITH_REPORTS, "fastapi")


@dataclass(frozen=True)
class Accepted:
    """A token with `scopes` reaches the view of the documented applications, which answers this JSON."""

    method: str
    path: str
    scopes: list[str]
    body: dict[str, Any]
    frameworks: tuple[str, ...] = EVERY


@dataclass(frozen=True)
class Rejected:
    """A token with `scopes` alone is rejected: the response and the record name `demanded`."""

    method: str
    path: str
    scopes: list[str]
    demanded: list[str]
    frameworks: tuple[str, ...] = EVERY


ACCEPTED = [
    Accepted("GET", "/invoices", [READ], {"for": "alice"}),
    Accepted("GET", "/invoices", ["other", READ], {"for": "alice"}),
    Accepted("POST", "/invoices", [READ, WRITE], {"created": True}),
    Accepted("GET", "/me", [], {"subject": "alice"}),
    Accepted("GET", "/reports/7", [READ], {"report": 7}, WITH_REPORTS),
    Accepted("DELETE", "/reports/7", [READ, WRITE], {"deleted": 7}, WITH_REPORTS),
    Accepted("GET", "/audit/log", ["audit"], {"auditor": "alice"}, WITH_REPORTS),
    Accepted("GET", "/audit/log", [READ, "audit"], {"auditor": "alice"}),
]
REJECTED = [
    Rejected("GET", "/invoices", [], [READ]),
    Rejected("GET", "/invoices", ["invoices:read2", "invoices", "INVOICES:READ"], [READ]),
    Rejected("HEAD", "/invoices", [], [READ], ("flask", "starlette")),
    Rejected("POST", "/invoices", [WRITE], [READ, WRITE]),
    Rejected("HEAD", "/invoices/new", [WRITE], [READ, WRITE], DJANGO),
    Rejected("GET", "/reports/7", [WRITE], [READ], WITH_REPORTS),
    Rejected("HEAD", "/reports/7", [WRITE], [READ], WITH_REPORTS),
    Rejected("DELETE", "/reports/7", [READ], [WRITE], ("flask",)),  # its class demands READ, its method WRITE
    Rejected("DELETE", "/reports/7", [READ], [READ, WRITE], ("starlette", *DJANGO)),
    Rejected("GET", "/audit/log", [READ], ["audit"]),
    Rejected("GET", "/audit/log", ["audit"], [READ], ("fastapi",)),  # the router demands READ
    Rejected("OPTIONS", "/audit/log", [READ], ["audit"], DJANGO),
]


def path_of(row: Accepted | Rejected, framework: str) -> str:
    """The row's path: Django routes a POST by its path alone."""
    return "/invoices/new" if framework in DJANGO and row.method == "POST" else row.path


# What another middleware could put in place of what our layers attach.
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
    report = ("outcome", "status", "code", "evidence", "method", "path", "thumbprint", "verification")
    found = [vars(each) for each in caplog.records if each.name == "mtls_middleware.decision" and "mtls" in vars(each)]
    every = [{"level": each["levelno"], **{name: each["mtls"].get(name) for name in report}} for each in found]
    return [each for each in every if each["outcome"] == "refused"]


def is_wiring_error(status: int, body: bytes, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether this is the 500 of layers that are not there, with the line that says what to do."""
    report = any(each.levelno == logging.ERROR and "wrap the whole" in each.getMessage() for each in caplog.records)
    return status == 500 and json.loads(body)["error"] == "server_error" and report
