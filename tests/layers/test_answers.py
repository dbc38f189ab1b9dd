"""The answers of DESIGN 1.8, to the letter: the same under WSGI and ASGI."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from mtls_middleware import Refused
from mtls_middleware.errors import Unavailable
from mtls_middleware.policy import Subject
from tests import shared
from tests.gateways import STRANGER, Request, Wrap, both_gateways, send
from tests.layers.world import Failing, World, carrying, certificates, nginx

DESCRIPTIONS = {
    "invalid_client_certificate": "The client certificate cannot be read.",
    "client_certificate_required": "A client certificate is required.",
    "client_certificate_refused": "The client certificate is not accepted.",
    None: "An access token is required.",
    "invalid_request": "The request is malformed.",
    "invalid_token": "The access token is not accepted.",
    "insufficient_scope": "The access token has too little scope.",
    "temporarily_unavailable": "Try again later.",
    "server_error": "The request could not be decided.",
}


@dataclass(frozen=True)
class Row:
    """One refusal: what was set up, what was sent, what must come back."""

    wrap: Callable[[World], Wrap]
    request: Callable[[World], Request]
    status: int
    error: str | None
    challenge: str | None = None
    retry_after: str | None = None


def challenge(error: str, more: str = "") -> str:
    return f'Bearer realm="protected", error="{error}", error_description="{DESCRIPTIONS[error]}"{more}'


def plain(world: World) -> Wrap:
    return world.tokens()


def required(_world: World) -> Wrap:
    return certificates(required=True)


BAD_TOKEN = (401, "invalid_token", challenge("invalid_token"))
BAD_REQUEST = (400, "invalid_request", challenge("invalid_request"))
NO_TOKEN = (401, None, 'Bearer realm="protected"')
BUG = Failing(RuntimeError("the engine quotes eyJhbGciOi"))
DOWN = Failing(Unavailable("keys cannot be had", retry_after=7))

ROWS = {
    # Certificates.
    "header of a stranger": Row(
        required, lambda w: Request(peer=STRANGER, headers=nginx(w.client)), 403, "client_certificate_required"
    ),
    "malformed header": Row(
        lambda _: certificates(),
        lambda _: Request(headers=[("X-SSL-Client-Cert", "rubbish"), ("X-SSL-Client-Verify", "SUCCESS")]),
        400,
        "invalid_client_certificate",
    ),
    "header twice": Row(
        lambda _: certificates(),
        lambda w: Request(headers=[*nginx(w.client), nginx(w.client)[0]]),
        400,
        "invalid_client_certificate",
    ),
    "certificate without its word": Row(
        lambda _: certificates(),
        lambda w: Request(headers=nginx(w.client)[:1]),
        400,
        "invalid_client_certificate",
    ),
    "no certificate": Row(required, lambda _: Request(), 403, "client_certificate_required"),
    "certificate not verified": Row(
        required,
        lambda w: Request(headers=nginx(w.client, "FAILED:self signed certificate")),
        403,
        "client_certificate_refused",
    ),
    "certificate not allowed": Row(
        lambda _: certificates(allow=Subject("CN=somebody")),
        lambda w: Request(headers=nginx(w.client)),
        403,
        "client_certificate_refused",
    ),
    "not allowed, and not required either": Row(
        lambda _: certificates(allow=Subject("CN=somebody"), required=False),
        lambda w: Request(headers=nginx(w.client)),
        403,
        "client_certificate_refused",
    ),
    "chain does not validate": Row(
        lambda _: certificates(trust_store=Failing(Refused("client_certificate_refused", "unknown CA"))),
        lambda w: Request(headers=nginx(w.client)),
        403,
        "client_certificate_refused",
    ),
    "revocation lists cannot be had": Row(
        lambda _: certificates(trust_store=DOWN),
        lambda w: Request(headers=nginx(w.client)),
        503,
        "temporarily_unavailable",
        retry_after="7",
    ),
    "a bug in the trust store": Row(
        lambda _: certificates(trust_store=BUG), lambda w: Request(headers=nginx(w.client)), 500, "server_error"
    ),
    "a rule that raises": Row(
        lambda _: certificates(allow=lambda certificate: certificate.no_such_name),
        lambda w: Request(headers=nginx(w.client)),
        500,
        "server_error",
    ),
    # Credentials.
    "no token": Row(plain, carrying, *NO_TOKEN),
    "another scheme": Row(plain, lambda w: carrying(w, ("Authorization", "Basic YTpi")), *NO_TOKEN),
    "token in the query alone": Row(
        plain, lambda w: carrying(w, query="access_token=" + w.issuer.token(certificate=w.client)), *NO_TOKEN
    ),
    "no token, told which scope": Row(
        lambda w: w.tokens(scopes=["b", "a"]), carrying, 401, None, 'Bearer realm="protected", scope="a b"'
    ),
    "scheme without token": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer")), *BAD_REQUEST),
    "two words behind Bearer": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer a b")), *BAD_REQUEST),
    "outside of b64token": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer a,b")), *BAD_REQUEST),
    "outside of ASCII": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer \xe4")), *BAD_REQUEST),
    "two Authorization headers": Row(
        plain,
        lambda w: carrying(w, w.bearer(certificate=w.client), w.bearer(certificate=w.client)),
        *BAD_REQUEST,
    ),
    "two methods": Row(
        plain, lambda w: carrying(w, w.bearer(certificate=w.client), query="access_token=x"), *BAD_REQUEST
    ),
    # Tokens.
    "no JWT": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer abc")), *BAD_TOKEN),
    "expired": Row(
        plain,
        lambda w: carrying(w, w.bearer(certificate=w.client, claims={"exp": 1})),
        *BAD_TOKEN,
    ),
    "another audience": Row(
        plain, lambda w: carrying(w, w.bearer(certificate=w.client, claims={"aud": "https://other"})), *BAD_TOKEN
    ),
    "another typ": Row(
        plain, lambda w: carrying(w, w.bearer(certificate=w.client, headers={"typ": "JWT"})), *BAD_TOKEN
    ),
    "unbound, and binding is required": Row(plain, lambda w: carrying(w, w.bearer()), *BAD_TOKEN),
    "bound to another": Row(plain, lambda w: carrying(w, w.bearer(certificate=w.other)), *BAD_TOKEN),
    "bound, without certificate": Row(plain, lambda w: Request(headers=[w.bearer(certificate=w.client)]), *BAD_TOKEN),
    "bound to a key": Row(plain, lambda w: carrying(w, w.bearer(claims={"cnf": {"jkt": "x"}})), *BAD_TOKEN),
    "bound, and to a key": Row(
        plain,
        lambda w: carrying(w, w.bearer(claims={"cnf": {"x5t#S256": w.client.thumbprint, "jkt": "x"}})),
        *BAD_TOKEN,
    ),
    "bound to what is no thumbprint": Row(
        plain, lambda w: carrying(w, w.bearer(claims={"cnf": {"x5t#S256": 7}})), *BAD_TOKEN
    ),
    "scope too small": Row(
        lambda w: w.tokens(scopes=["write", "read"]),
        lambda w: carrying(w, w.bearer(certificate=w.client, scopes=["read"])),
        403,
        "insufficient_scope",
        challenge("insufficient_scope", ', scope="read write"'),
    ),
    "keys cannot be had": Row(
        lambda w: w.tokens(tokens=DOWN),
        lambda w: carrying(w, w.bearer(certificate=w.client)),
        503,
        "temporarily_unavailable",
        retry_after="7",
    ),
    "a bug in the validator": Row(
        lambda w: w.tokens(tokens=BUG), lambda w: carrying(w, w.bearer(certificate=w.client)), 500, "server_error"
    ),
    "own realm, and where the metadata is": Row(
        lambda w: w.binding(realm="ledger", resource_metadata="https://api.test/.well-known/x"),
        carrying,
        401,
        None,
        'Bearer realm="ledger", resource_metadata="https://api.test/.well-known/x"',
    ),
}


@both_gateways
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.case("105", "106", "121", "122", "126", "154", "157")
@pytest.mark.standard("G1", "G2", "G3", "G4", "G5", "G6", "G7", "I12", "I13")
def test_refusal_is_this_answer_and_no_byte_more(gateway: str, name: str, world: World) -> None:
    row = ROWS[name]
    result = send(gateway, row.wrap(world), row.request(world))
    assert result.seen is None
    assert result.status == row.status
    members = {"error": row.error, "error_description": DESCRIPTIONS[row.error]}
    assert json.loads(result.body) == {key: value for key, value in members.items() if value is not None}
    expected = {
        "content-type": "application/json",
        "content-length": str(len(result.body)),
        "cache-control": "no-store",
        "www-authenticate": row.challenge,
        "retry-after": row.retry_after,
    }
    got = {key.lower(): value for key, value in result.headers if key.lower() != "vary"}
    assert got == {key: value for key, value in expected.items() if value is not None}
    assert len(got) + (result.header("vary") is not None) == len(result.headers)  # each of them once


# vectors/errors.json: the row's id -> the row above that is it
VECTORS = {
    "no-token": "no token",
    "other-scheme": "another scheme",
    "two-methods": "two methods",
    "two-authorization-headers": "two Authorization headers",
    "malformed-credentials": "two words behind Bearer",
    "query-token": "token in the query alone",
    "bad-token": "expired",
    "scope": "scope too small",
    "cert-mismatch": "bound to another",
    "cert-missing": "bound, without certificate",
    "unbound-token": "unbound, and binding is required",
    "unknown-cnf": "bound to a key",
    "malformed-cnf": "bound to what is no thumbprint",
    "both-x5t-jkt": "bound, and to a key",
    "dup-client-cert": "header twice",
    "cert-not-acceptable": "certificate not allowed",
}
# Introspection has its own tests; `ttrp-forged` speaks of the proxy; the last one is no refusal.
ELSEWHERE = {"inactive", "introspection-down", "ttrp-forged", "unbound-token-optional"}


@pytest.mark.shared
def test_answers_are_those_of_the_vectors() -> None:
    vectors = {each["id"]: each for each in shared.read_json("vectors/errors.json")["resource_server"]}
    assert vectors.keys() == VECTORS.keys() | ELSEWHERE
    for vector, name in VECTORS.items():
        expected, row = vectors[vector], ROWS[name]
        assert str(row.status) in str(expected["status"]), vector
        if row.challenge is not None:
            assert row.error == expected["error"], vector


@both_gateways
@pytest.mark.parametrize("cnf", [{}, None, [], "x", {"jkt": "x"}, {"x5t#S256": ""}, {"x5t#S256": None}, 0, False])
@pytest.mark.case("108")
def test_cnf_in_any_form_is_never_unbound(gateway: str, cnf: Any, world: World) -> None:
    request = carrying(world, world.bearer(claims={"cnf": cnf}))
    result = send(gateway, world.binding(binding="when_present"), request)
    assert (result.status, result.header("WWW-Authenticate")) == (401, challenge("invalid_token"))
