"""Opaque tokens: the four outcomes, what goes over the wire, and how it is constructed, through both gateways."""

import asyncio
import ssl
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.resource_server import IntrospectedAccessTokens, JWTAccessTokens, MemoryAnswers
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.ids import shown
from tests.introspection_server import (
    CLIENT_ID,
    IntrospectionServer,
)
from tests.resource_server import forge
from tests.resource_server.introspection import AUDIENCE, BEARER, ISSUER, TOKEN, active, asking, validate
from tests.resource_server.stack import ASGIStack, Stack

# --- what a good answer gives ---


@pytest.mark.standard("A7", "F8", "Q1")
def test_the_four_outcomes_of_a_bound_opaque_token(
    server: IntrospectionServer,
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
) -> None:
    server.tokens = {TOKEN: active(mtls_client), "unbound": active()}
    layers = stack(asking(server), scopes=["read"])
    good = layers.request(BEARER, certificate=mtls_client)
    assert (good.status, good.reached) == (200, True)
    assert good.token is not None
    assert (good.token.subject, good.token.client_id, good.token.bound) == ("user", "billing", True)
    assert good.token.scopes == {"read", "write"}
    for certificate, token in ((mtls_other_client, TOKEN), (None, TOKEN), (mtls_client, "unbound")):
        outcome = layers.request(f"Bearer {token}", certificate=certificate)
        assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)


@pytest.mark.standard("A14")
def test_an_unbound_token_without_exp_is_accepted_if_binding_is_optional(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: {"active": True}}
    outcome = stack(asking(server), binding="when_present").request(BEARER, certificate=mtls_client)
    assert outcome.status == 200
    assert outcome.token is not None
    assert (outcome.token.bound, outcome.token.expires_at, outcome.token.subject) == (False, None, None)


@pytest.mark.standard("A21")
def test_scope_is_demanded_of_the_answer(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    outcome = stack(asking(server), scopes=["delete"]).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error) == (403, "insufficient_scope")


# --- what goes over the wire ---


@pytest.mark.standard("F1", "F2")
def test_the_token_is_posted_as_a_form_and_we_authenticate_by_basic(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    token = "a+b/c=="  # every character that b64token has and a form encodes
    server.tokens = {token: active(mtls_client)}
    assert stack(asking(server)).request(f"Bearer {token}", certificate=mtls_client).status == 200
    (question,) = server.questions
    assert question.form == [("token", token), ("token_type_hint", "access_token")]
    assert question.caller == CLIENT_ID
    assert question.path == "/introspect"
    assert question.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert question.headers["Accept"] == "application/json"
    assert "Cookie" not in question.headers


@pytest.mark.standard("F2", "F7")
def test_we_can_authenticate_by_certificate_alone(
    stack: type[Stack], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    tls = mtls_ca.server_context(mtls_ca.server(), client_certificates="optional")
    with IntrospectionServer({TOKEN: active(mtls_client)}, tls=tls) as server:
        ours = mtls_ca.client_context(mtls_ca.issue(f"CN={CLIENT_ID}"))
        layers = stack(asking(server, client_secret=None, ssl_context=ours))
        assert layers.request(BEARER, certificate=mtls_client).status == 200
        (question,) = server.questions
        assert ("client_id", CLIENT_ID) in question.form
        assert "Authorization" not in question.headers
        without = stack(asking(server, client_secret=None, ssl_context=mtls_ca.client_context()))
        assert without.request(BEARER, certificate=mtls_client).status == 503


@pytest.mark.standard("F7")
def test_a_server_of_another_ca_is_not_asked(
    stack: type[Stack], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    stranger = CertificateAuthority()
    tls = stranger.server_context(stranger.server(), client_certificates="optional")
    with IntrospectionServer({TOKEN: active(mtls_client)}, tls=tls) as server:
        outcome = stack(asking(server, ssl_context=mtls_ca.client_context())).request(BEARER, certificate=mtls_client)
        assert (outcome.status, outcome.reached, server.questions) == (503, False, [])


def test_connections_are_kept_for_the_next_exchange_and_cookies_are_not(
    server: IntrospectionServer, mtls_client: IssuedCertificate
) -> None:
    def with_cookie(handler: Any) -> None:
        handler.send_response(200)
        for name, value in (("Content-Type", "application/json"), ("Set-Cookie", "a=b"), ("Content-Length", "16")):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(b'{"active": true}')

    server.behaviour = with_cookie
    tokens = asking(server)
    for _ in range(5):
        assert validate(tokens).claims == {"active": True}
    assert len(server.connections) == 1

    async def many() -> None:
        layers = ASGIStack(tokens, binding="when_present")
        for _ in range(5):
            assert (await layers.asked(BEARER)).status == 200

    asyncio.run(many())
    asyncio.run(many())
    assert len(server.connections) == 1  # for all threads and event loops
    assert not any("Cookie" in question.headers for question in server.questions)


def test_an_idle_connection_closed_by_the_server_loses_no_response(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    layers = stack(asking(server))
    for _ in range(3):
        assert layers.request(BEARER, certificate=mtls_client).status == 200
        server.hang_up()


# --- construction ---

UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE
USUAL = {"endpoint": "https://as.test/introspect", "client_id": "api", "client_secret": "secret"}


@pytest.mark.standard("F2", "F7")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"endpoint": "http://as.test/introspect"}, "https"),
        ({"endpoint": "http://127.0.0.1/introspect"}, "https"),
        ({"endpoint": "introspect"}, "https"),
        ({"endpoint": None}, "endpoint"),
        ({"client_id": ""}, "client_id"),
        ({"client_secret": ""}, "client_secret"),
        ({"client_secret": None}, "no credentials"),
        (
            {
                "client_secret": None,
                "ssl_context": ssl.create_default_context(),
                "endpoint": "http://127.0.0.1/",
                "allow_http": True,
            },
            "https endpoint",
        ),
        ({"ssl_context": UNVERIFIED}, "must verify the server"),
        ({"ssl_context": "cert.pem"}, "ssl_context"),
        ({"issuer": ""}, "issuer"),
        ({"audience": []}, "audience"),
        ({"required_claims": "aud"}, "required_claims"),
        ({"profile": "rfc9068"}, "profile"),
        ({"leeway": 61}, "leeway"),
        ({"leeway": True}, "leeway"),
        ({"leeway": 9, "profile": "fapi2"}, "leeway"),
        ({"cache": {}}, "cache"),
        ({"cache": MemoryAnswers}, "cache"),
        ({"remember_active": 301}, "remember_active"),
        ({"remember_inactive": -1}, "remember_inactive"),
        ({"remember_active": float("nan")}, "remember_active"),
        ({"timeout": 0}, "timeout"),
        ({"max_waiting": 0}, "max_waiting"),
        ({"max_waiting": True}, "max_waiting"),
        ({"signed_by": {"keys": []}, "issuer": "https://as.test"}, "jwks"),
        ({"signed_by": "http://as.test/jwks", "issuer": "https://as.test"}, "https"),
        ({"signed_by": "https://as.test/jwks"}, "issuer"),
    ],
    ids=shown,
)
def test_wrong_settings_are_refused_at_construction_with_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        IntrospectedAccessTokens(**{**USUAL, **changes})
    assert "secret'" not in str(error.value)


def test_the_usual_settings_construct_and_nothing_shows_the_secret() -> None:
    tokens = IntrospectedAccessTokens(**USUAL)
    assert "secret" not in repr(tokens)
    need = next(tokens.validate(TOKEN, 0))
    assert TOKEN not in repr(need)
    assert "Basic" not in repr(need)


def test_both_kinds_of_tokens_have_the_issuer_that_they_judge() -> None:
    assert IntrospectedAccessTokens(**USUAL, issuer=ISSUER).issuer == ISSUER
    assert JWTAccessTokens(issuer=ISSUER, audience=AUDIENCE, jwks=forge.JWKS).issuer == ISSUER
