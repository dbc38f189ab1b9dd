"""Several issuers: who is asked about which token, and that nobody judges for another."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.resource_server import IntrospectedAccessTokens, JWTAccessTokens, TrustedIssuers
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.introspection_server import CLIENT_ID, CLIENT_SECRET, IntrospectionServer
from tests.resource_server import forge
from tests.resource_server.stack import Stack

A, B, OPAQUE = "https://a.test", "https://b.test", "https://opaque.test"


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        yield running


def introspecting(server: IntrospectionServer, **options: Any) -> IntrospectedAccessTokens:
    return IntrospectedAccessTokens(
        endpoint=server.url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, allow_http=True, **options
    )


def with_kid(issuer: TokenIssuer, key_id: str) -> dict[str, Any]:
    (key,) = issuer.jwks["keys"]
    return {"keys": [{**key, "kid": key_id}]}


@pytest.mark.case("103", "104", "105")
@pytest.mark.standard("A7", "A13")
def test_each_issuers_tokens_are_validated_by_its_own_validator(
    server: IntrospectionServer,
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
) -> None:
    a, b = TokenIssuer(A), TokenIssuer(B, algorithm="PS256")
    server.tokens = {"opaque": {"active": True, "cnf": {"x5t#S256": mtls_client.thumbprint}, "sub": "third"}}
    layers = stack(TrustedIssuers([a.access_tokens(), b.access_tokens(), introspecting(server)]))
    for text, subject in (
        (a.token(certificate=mtls_client, claims={"sub": "first"}), "first"),
        (b.token(certificate=mtls_client, claims={"sub": "second"}), "second"),
        ("opaque", "third"),
    ):
        outcome = layers.request(f"Bearer {text}", certificate=mtls_client)
        assert outcome.status == 200
        assert outcome.token is not None
        assert outcome.token.subject == subject
        assert layers.request(f"Bearer {text}", certificate=mtls_other_client).error == "invalid_token"
        assert layers.request(f"Bearer {text}").error == "invalid_token"
    assert {question.token for question in server.questions} == {"opaque"}


@pytest.mark.case("116")
@pytest.mark.standard("H14", "H3")
def test_an_equal_key_id_does_not_let_one_issuer_sign_for_another(
    stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    a, b = TokenIssuer(A), TokenIssuer(B)
    trusted = TrustedIssuers([a.access_tokens(jwks=with_kid(a, "1")), b.access_tokens(jwks=with_kid(b, "1"))])
    layers = stack(trusted)
    for issuer, claimed, status in ((a, A, 200), (b, B, 200), (a, B, 401), (b, A, 401), (a, A + "/", 401)):
        text = issuer.token(certificate=mtls_client, claims={"iss": claimed}, headers={"kid": "1"})
        assert layers.request(f"Bearer {text}", certificate=mtls_client).status == status, claimed


JWT_LIKE = {
    "of an unknown issuer": forge.token(payload=forge.claims(iss="https://other.test")),
    "without issuer": forge.token(payload={"sub": "x"}),
    "issuer a list": forge.token(payload=forge.claims(iss=[OPAQUE])),
    "two issuers": forge.token(payload=f'{{"iss": "https://other.test", "iss": "{OPAQUE}"}}'),
    "no JSON inside": forge.token(payload=b"text"),
    "two parts": ".".join(forge.token().split(".")[:2]),
    "encrypted": forge.base64url(json.dumps({"alg": "RSA-OAEP", "enc": "A256GCM"}).encode()) + ".a.b.c.d",
    "a spare dot": forge.token() + ".",
}


@pytest.mark.standard("F10", "F2")
@pytest.mark.parametrize("kind", JWT_LIKE)
def test_a_jwt_of_another_issuer_is_not_sent_to_introspection(
    server: IntrospectionServer, stack: type[Stack], kind: str
) -> None:
    server.tokens = {JWT_LIKE[kind]: {"active": True}}
    trusted = TrustedIssuers([introspecting(server, issuer=OPAQUE), forge.access_tokens(issuer=A)])
    outcome = stack(trusted, binding="when_present").request(f"Bearer {JWT_LIKE[kind]}")
    assert (outcome.status, outcome.error) == (401, "invalid_token")
    assert server.questions == []


@pytest.mark.parametrize("text", ["a.b.c", "abc", "e30", "bnVsbA.bnVsbA.x", "...", "W10.e30.x", "a/b+c=="])
def test_a_token_that_is_not_a_jwt_is_opaque(server: IntrospectionServer, stack: type[Stack], text: str) -> None:
    server.tokens = {text: {"active": True}}
    trusted = TrustedIssuers([introspecting(server), forge.access_tokens()])
    assert stack(trusted, binding="when_present").request(f"Bearer {text}").status == 200
    alone = TrustedIssuers([forge.access_tokens()])
    assert stack(alone, binding="when_present").request(f"Bearer {text}").error == "invalid_token"


def test_an_introspecting_member_judges_the_jwts_of_its_issuer_too(
    server: IntrospectionServer, stack: type[Stack]
) -> None:
    text = forge.token(payload=forge.claims(iss=OPAQUE))
    server.tokens = {text: {"active": True, "iss": OPAQUE, "sub": "asked"}}
    trusted = TrustedIssuers([introspecting(server, issuer=OPAQUE), forge.access_tokens(issuer=A)])
    outcome = stack(trusted, binding="when_present").request(f"Bearer {text}")
    assert outcome.token is not None
    assert outcome.token.subject == "asked"


@pytest.mark.parametrize("order", [1, -1])
def test_the_jwts_of_an_issuer_that_also_introspects_are_validated_here(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate, order: int
) -> None:
    issuer = TokenIssuer(A)
    bound = {"active": True, "iss": A, "sub": "introspected", "cnf": {"x5t#S256": mtls_client.thumbprint}}
    server.tokens = {"opaque": bound}
    members = [issuer.access_tokens(), introspecting(server, issuer=A)][::order]
    layers = stack(TrustedIssuers(members))
    text = issuer.token(certificate=mtls_client, claims={"sub": "jwt"})
    for bearer, subject in ((text, "jwt"), ("opaque", "introspected")):
        token = layers.request(f"Bearer {bearer}", certificate=mtls_client).token
        assert token is not None
        assert token.subject == subject
    assert [each.token for each in server.questions] == ["opaque"]
    forged = TokenIssuer(A).token(certificate=mtls_client)
    assert layers.request(f"Bearer {forged}", certificate=mtls_client).error == "invalid_token"
    assert len(server.questions) == 1


def jwts(issuer: str) -> JWTAccessTokens:
    return JWTAccessTokens(issuer=issuer, audience="https://api.test", jwks=forge.JWKS)


def introspected_tokens(**options: Any) -> IntrospectedAccessTokens:
    return IntrospectedAccessTokens(endpoint="https://as.test/", client_id="api", client_secret="secret", **options)


WRONG = {
    "nobody": (list, "for example"),
    "a text": (lambda: "https://a.test", "for example"),
    "one, bare": (lambda: jwts(A), "for example"),
    "an iterator": (lambda: iter([jwts(A)]), "for example"),
    "another kind": (lambda: [jwts(A), object()], "expected JWTAccessTokens"),
    "one inside the other": (lambda: [TrustedIssuers([jwts(A)])], "expected JWTAccessTokens"),
    "two of one issuer": (lambda: [jwts(A), jwts(B), jwts(A)], rf"two JWTAccessTokens have the same issuer \({A}\)"),
    "two that introspect": (
        lambda: [introspected_tokens(), introspected_tokens(issuer=B)],
        "two members are IntrospectedAccessTokens",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_members_that_cannot_be_told_apart_are_refused_at_construction(kind: str) -> None:
    members, said = WRONG[kind]
    with pytest.raises(ConfigurationError, match=said):
        TrustedIssuers(members())
