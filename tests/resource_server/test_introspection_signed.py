"""Signed answers of an introspection server (RFC 9701)."""

import json
import time
from typing import Any

import pytest

from mtls_middleware.errors import Unavailable
from mtls_middleware.testing import IssuedCertificate
from tests.introspection_server import (
    CLIENT_ID,
    IntrospectionServer,
    says,
)
from tests.key_server import KeyServer, die
from tests.resource_server import forge
from tests.resource_server.introspection import BEARER, ISSUER, active, asking, validate
from tests.resource_server.stack import Stack


def signed(answer: Any, header: dict[str, Any] | None = None, **changes: Any) -> bytes:
    usual = {"iss": ISSUER, "aud": CLIENT_ID, "iat": int(time.time()), "token_introspection": answer}
    claims = {name: value for name, value in {**usual, **changes}.items() if value is not ...}
    return forge.token({**forge.HEADER, "typ": "token-introspection+jwt", **(header or {})}, claims).encode()


SIGNED = "application/token-introspection+jwt"


@pytest.mark.standard("F12", "F15")
def test_a_signed_answer_is_read_from_its_inner_object(
    server: IntrospectionServer,
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
) -> None:
    outer = {"cnf": {"x5t#S256": mtls_other_client.thumbprint}, "active": False, "scope": "admin"}
    server.behaviour = says(signed(active(mtls_client), **outer), SIGNED)
    layers = stack(asking(server, signed_by=forge.JWKS))
    outcome = layers.request(BEARER, certificate=mtls_client)
    assert outcome.status == 200
    assert outcome.token is not None
    assert outcome.token.scopes == {"read", "write"}
    assert layers.request(BEARER, certificate=mtls_other_client).status == 401
    assert server.questions[0].headers["Accept"] == SIGNED


@pytest.mark.standard("F15")
def test_a_confirmation_outside_of_the_inner_object_binds_nothing(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.behaviour = says(signed(active(), cnf={"x5t#S256": mtls_client.thumbprint}), SIGNED)
    outcome = stack(asking(server, signed_by=forge.JWKS)).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


@pytest.mark.standard("F13")
def test_a_signed_answer_about_a_token_that_is_not_for_us_is_inactive(
    server: IntrospectionServer, stack: type[Stack]
) -> None:
    server.behaviour = says(signed({"active": False}), SIGNED)
    outcome = stack(asking(server, signed_by=forge.JWKS), binding="when_present").request(BEARER)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


NOT_SIGNED: dict[str, Any] = {
    "typ of an access token": lambda: (signed(active(), {"typ": "at+jwt"}), SIGNED),
    "typ JWT": lambda: (signed(active(), {"typ": "JWT"}), SIGNED),
    "for another client": lambda: (signed(active(), aud="other"), SIGNED),
    "for nobody": lambda: (signed(active(), aud=...), SIGNED),
    "of another issuer": lambda: (signed(active(), iss=ISSUER + "/"), SIGNED),
    "without iat": lambda: (signed(active(), iat=...), SIGNED),
    "of long ago": lambda: (signed(active(), iat=int(time.time()) - 61), SIGNED),
    "of the future": lambda: (signed(active(), iat=int(time.time()) + 60), SIGNED),
    "iat as text": lambda: (signed(active(), iat="now"), SIGNED),
    "without the inner object": lambda: (signed(...), SIGNED),
    "the inner object a list": lambda: (signed([active()]), SIGNED),
    "another signature": lambda: (signed(active())[:-6] + b"AAAAAA", SIGNED),
    "alg none": lambda: (signed(active(), {"alg": "none"}).rpartition(b".")[0] + b".", SIGNED),
    "an unknown key": lambda: (signed(active(), {"kid": "other"}), SIGNED),
    "plain JSON": lambda: (json.dumps(active()).encode(), "application/json"),
    "plain JSON under that name": lambda: (json.dumps(active()).encode(), SIGNED),
    "the JWT under another name": lambda: (signed(active()), "application/json"),
    "no ASCII": lambda: (b"\xff.\xff.\xff", SIGNED),
}


@pytest.mark.standard("F12", "F17")
@pytest.mark.parametrize("kind", NOT_SIGNED)
def test_an_invalidly_signed_response_is_rejected(server: IntrospectionServer, stack: type[Stack], kind: str) -> None:
    server.behaviour = says(*NOT_SIGNED[kind]())
    outcome = stack(asking(server, signed_by=forge.JWKS), binding="when_present").request(BEARER)
    assert (outcome.status, outcome.reached) == (503, False)


@pytest.mark.standard("F14")
def test_a_signed_answer_is_never_an_access_token(stack: type[Stack]) -> None:
    answer = signed(..., **forge.claims(iss=forge.ISSUER)).decode()
    plain = forge.token({**forge.HEADER, "typ": "at+jwt"}, forge.claims())
    layers = stack(forge.access_tokens(), binding="when_present")
    assert layers.request(f"Bearer {plain}").status == 200
    assert layers.request(f"Bearer {answer}").status == 401
    lenient = stack(forge.access_tokens(profile="without_explicit_typing"), binding="when_present")
    assert lenient.request(f"Bearer {answer}").status == 401


def test_the_keys_of_signed_answers_may_be_fetched(server: IntrospectionServer, stack: type[Stack]) -> None:
    server.behaviour = says(signed(active()), SIGNED)
    with KeyServer(forge.JWKS) as keys:
        layers = stack(asking(server, signed_by=keys.url), binding="when_present")
        assert [layers.request(BEARER).status for _ in range(3)] == [200] * 3
        assert keys.requests == 1
        keys.behaviour = die
        assert stack(asking(server, signed_by=keys.url), binding="when_present").request(BEARER).status == 503


@pytest.mark.standard("O7")
def test_the_fapi_profile_takes_fewer_signatures(server: IntrospectionServer) -> None:
    from mtls_middleware.testing import TokenIssuer

    other = TokenIssuer(ISSUER, audience=CLIENT_ID, algorithm="ES384")
    claims = {"token_introspection": active(cnf={})}
    server.behaviour = says(other.token(claims=claims, headers={"typ": "token-introspection+jwt"}).encode(), SIGNED)
    assert validate(asking(server, signed_by=other.jwks)).subject == "user"
    with pytest.raises(Unavailable):
        validate(asking(server, signed_by=other.jwks, profile="fapi2"))
