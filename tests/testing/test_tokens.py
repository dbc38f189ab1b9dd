"""Tokens of the issuer are accepted where they are right, and can be made wrong in any way a test needs."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from wsgiref.util import setup_testing_defaults

import jwt
import pytest

from mtls_middleware import AccessToken, ConfigurationError, Refused
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.jwks import ALGORITHMS
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import OMIT, IssuedCertificate, TokenIssuer
from mtls_middleware.wsgi import protect


def validate(tokens: JWTAccessTokens, text: str) -> AccessToken:
    return BlockingDriver().run(tokens.validate(text, datetime.now(UTC).timestamp()))


def part(text: str, number: int) -> Any:
    segment = text.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_token_of_every_algorithm_is_accepted(algorithm: str) -> None:
    issuer = TokenIssuer("https://as.example", audience="https://api.example", algorithm=algorithm)
    token = validate(issuer.access_tokens(algorithms=[algorithm]), issuer.token(scopes=["a", "b"]))
    assert (token.subject, token.client_id, token.scopes) == ("user", "client", {"a", "b"})
    assert (token.claims["iss"], token.claims["aud"]) == ("https://as.example", "https://api.example")


def test_pyjwt_agrees(mtls_issuer: TokenIssuer) -> None:
    (key,) = jwt.PyJWKSet.from_dict(mtls_issuer.jwks).keys
    assert jwt.decode(mtls_issuer.token(), key, audience=mtls_issuer.audience, issuer=mtls_issuer.issuer)


def test_a_bound_token_opens_the_application_to_its_client_alone(
    mtls_issuer: TokenIssuer, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    def status(text: str, client: IssuedCertificate) -> int:
        environ: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {text}", **client.as_environ()}
        setup_testing_defaults(environ)
        seen: list[str] = []
        list(protected(environ, lambda status, headers: seen.append(status)))
        return int(seen[0][:3])

    protected = protect(app, source=ServerTLS(), tokens=mtls_issuer.access_tokens(), scopes=["read"])
    for certificate in (mtls_client, mtls_client.client_certificate()):
        bound = mtls_issuer.token(certificate=certificate, scopes=["read"])
        assert (status(bound, mtls_client), status(bound, mtls_other_client)) == (200, 401)
    assert status(mtls_issuer.token(certificate=mtls_client), mtls_client) == 403
    assert status(mtls_issuer.token(scopes=["read"]), mtls_client) == 401


def test_time_runs_from_now_for_the_lifetime(mtls_issuer: TokenIssuer) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    claims = part(mtls_issuer.token(now=now, lifetime=timedelta(seconds=7)), 1)
    assert (claims["iat"], claims["exp"]) == (now.timestamp(), now.timestamp() + 7)


def test_no_two_tokens_have_one_id(mtls_issuer: TokenIssuer) -> None:
    assert part(mtls_issuer.token(), 1)["jti"] != part(mtls_issuer.token(), 1)["jti"]


def test_claims_and_headers_are_replaced_added_and_left_out(mtls_issuer: TokenIssuer) -> None:
    text = mtls_issuer.token(
        scopes=["a"],
        claims={"iss": 7, "jti": OMIT, "sub": ..., "scope": None, "extra": [1]},
        headers={"typ": "JWT", "kid": OMIT, "crit": ["x"], "alg": "none"},
    )
    claims = part(text, 1)
    assert part(text, 0) == {"typ": "JWT", "alg": "none", "crit": ["x"]}
    assert (claims["iss"], claims["scope"], claims["extra"]) == (7, None, [1])
    assert not {"jti", "sub"} & claims.keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {"claims": {"iss": "https://other.test"}},
        {"claims": {"aud": ["https://other.test"]}},
        {"claims": {"client_id": OMIT}},
        {"headers": {"typ": "JWT"}},
        {"headers": {"kid": "unknown"}},
        {"lifetime": timedelta(hours=-1)},
        {"now": datetime.now(UTC) + timedelta(hours=1)},
    ],
)
def test_a_token_made_wrong_is_refused(mtls_issuer: TokenIssuer, wrong: Any) -> None:
    with pytest.raises(Refused, match="invalid_token"):
        validate(mtls_issuer.access_tokens(), mtls_issuer.token(**wrong))


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_published_keys_are_public(algorithm: str) -> None:
    (key,) = TokenIssuer(algorithm=algorithm).jwks["keys"]
    assert (key["alg"], key["use"]) == (algorithm, "sig")
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & key.keys()
    assert json.loads(json.dumps(key)) == key


def test_rotation_keeps_old_tokens_good_until_their_key_retires() -> None:
    issuer = TokenIssuer()
    old = issuer.token()
    issuer.rotate()
    new = issuer.token()
    assert part(old, 0)["kid"] != part(new, 0)["kid"]
    both = issuer.access_tokens()
    assert validate(both, old)
    assert validate(both, new)
    issuer.retire()
    assert [key["kid"] for key in issuer.jwks["keys"]] == [part(new, 0)["kid"]]
    with pytest.raises(Refused):
        validate(issuer.access_tokens(), old)
    assert validate(issuer.access_tokens(), new)
    assert part(issuer.token(), 0)["kid"] == part(new, 0)["kid"]


def test_another_issuer_of_the_same_name_is_another_key(mtls_issuer: TokenIssuer) -> None:
    with pytest.raises(Refused):
        validate(mtls_issuer.access_tokens(), TokenIssuer().token())


def test_options_of_the_validator_override(mtls_issuer: TokenIssuer) -> None:
    tokens = mtls_issuer.access_tokens(audience="https://other.test", typ=["JWT"])
    text = mtls_issuer.token(claims={"aud": "https://other.test"}, headers={"typ": "JWT"})
    assert validate(tokens, text)
    with pytest.raises(Refused):
        validate(tokens, mtls_issuer.token())


def test_what_cannot_be_is_refused(mtls_issuer: TokenIssuer) -> None:
    with pytest.raises(ConfigurationError, match="algorithm='HS256'"):
        TokenIssuer(algorithm="HS256")
    with pytest.raises(ConfigurationError, match="scopes='read' is a string"):
        mtls_issuer.token(scopes="read")
    with pytest.raises(ConfigurationError, match="now="):
        mtls_issuer.token(now=datetime(2030, 1, 1))  # noqa: DTZ001 (wrong on purpose)


def test_repr_shows_no_key() -> None:
    assert repr(TokenIssuer()) == "<TokenIssuer 'https://issuer.test' ES256>"
