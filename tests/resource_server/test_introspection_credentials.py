"""How this resource server authenticates at an introspection endpoint, and what it makes of error responses."""

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mtls_middleware.effects import AwaitingDriver
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.resource_server import MemoryAnswers
from mtls_middleware.testing import IssuedCertificate
from tests.introspection_server import IntrospectionServer, Question, says, send
from tests.resource_server.introspection import ISSUER, TOKEN, active, asking, validate
from tests.resource_server.stack import Stack

KEYS: dict[str, Any] = {
    "PS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        running.behaviour = says(active())
        yield running


def question(server: IntrospectionServer, **options: Any) -> Question:
    """Return the request that the server got."""
    validate(asking(server, **{"client_secret": None, **options}))
    return server.questions[-1]


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_basic_is_form_encoded_by_default(server: IntrospectionServer) -> None:
    options = {"client_id": "api:1", "client_secret": "a b&c:d%"}
    found = question(server, **options)
    assert found.headers["Authorization"] == basic("api%3A1:a+b%26c%3Ad%25")
    assert [name for name, _ in found.form] == ["token", "token_type_hint"]
    found = question(server, encode_secret=False, **{**options, "client_id": "api"})
    assert found.headers["Authorization"] == basic("api:a b&c:d%")


def test_a_secret_in_the_body(server: IntrospectionServer) -> None:
    found = question(server, client_secret="a b&c", auth_method="client_secret_post")
    assert dict(found.form)["client_id"] == "api:1"
    assert dict(found.form)["client_secret"] == "a b&c"
    assert "Authorization" not in found.headers


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("as_pem", [True, False])
def test_a_signed_assertion_for_each_request(server: IntrospectionServer, algorithm: str, as_pem: bool) -> None:
    key = KEYS[algorithm]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    seen = []
    for _ in range(2):
        form = dict(question(server, private_key=pem if as_pem else key, key_id="k1").form)
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert jwt.get_unverified_header(form["client_assertion"]) == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
        claims = jwt.decode(form["client_assertion"], key.public_key(), [algorithm], audience=ISSUER)
        assert claims["iss"] == claims["sub"] == form["client_id"] == "api:1"
        assert 0 < claims["exp"] - claims["iat"] <= 60
        seen.append(claims["jti"])
    assert len(set(seen)) == 2


def test_the_audience_of_assertions_can_be_another_one(server: IntrospectionServer) -> None:
    for options, expected in (
        ({"assertion_audience": "https://as.test/token"}, "https://as.test/token"),
        ({"issuer": None}, server.url),
    ):
        form = dict(question(server, private_key=KEYS["ES256"], **options).form)
        claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
        assert claims["aud"] == expected


def test_another_algorithm_of_an_rsa_key(server: IntrospectionServer) -> None:
    form = dict(question(server, private_key=KEYS["PS256"], algorithm="RS256").form)
    assert jwt.get_unverified_header(form["client_assertion"])["alg"] == "RS256"


def test_a_bearer_token_is_a_string_or_comes_from_a_function(server: IntrospectionServer) -> None:
    assert question(server, bearer_token="abc.def").headers["Authorization"] == "Bearer abc.def"
    tokens = iter(["first", "second"])
    tokens_of_server = asking(server, client_secret=None, bearer_token=lambda: next(tokens))
    for expected in ("first", "second"):
        validate(tokens_of_server)
        assert server.questions[-1].headers["Authorization"] == f"Bearer {expected}"


def test_a_function_may_be_async_under_asgi(server: IntrospectionServer) -> None:
    async def token() -> str:
        return "awaited"

    tokens = asking(server, client_secret=None, bearer_token=token)
    asyncio.run(AwaitingDriver().run(tokens.validate(TOKEN, 1.0)))
    assert server.questions[-1].headers["Authorization"] == "Bearer awaited"
    with pytest.raises(ConfigurationError, match="is async, and WSGI cannot await"):
        validate(tokens)


def test_a_function_that_fails_is_a_503(server: IntrospectionServer, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> str:
        raise OSError("secret in the message")

    with pytest.raises(Unavailable):
        validate(asking(server, client_secret=None, bearer_token=fails))
    assert "the function bearer_token= failed: OSError" in caplog.text
    assert "secret in the message" not in caplog.text
    for wrong in ("", "a b", "a\r\nX-Admin: 1", "\u00e9", None, 7):
        with pytest.raises(ConfigurationError, match="bearer_token= returned no token"):
            validate(asking(server, client_secret=None, bearer_token=lambda given=wrong: given))
    assert server.questions == []


def test_the_hint_can_be_left_out(server: IntrospectionServer) -> None:
    assert ("token_type_hint", "access_token") in question(server, client_secret="s").form
    assert [name for name, _ in question(server, client_secret="s", token_type_hint=None).form] == ["token"]
    assert ("token_type_hint", "x") in question(server, client_secret="s", token_type_hint="x").form


ENCRYPTED = KEYS["ES256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)
WRONG: dict[str, dict[str, Any]] = {
    "two credentials": {"client_secret": "s", "bearer_token": "t"},
    "a secret and a key": {"client_secret": "s", "private_key": KEYS["ES256"]},
    "a method without its credentials": {"client_secret": "s", "auth_method": "private_key_jwt"},
    "a secret for a certificate": {"client_secret": "s", "auth_method": "tls_client_auth"},
    "a key for Basic": {"private_key": KEYS["ES256"], "auth_method": "client_secret_basic"},
    "an unknown method": {"client_secret": "s", "auth_method": "client_secret_jwt"},
    "no method": {"client_secret": "s", "auth_method": 1},
    "an empty secret": {"client_secret": ""},
    "a certificate without TLS": {"ssl_context": ssl.create_default_context()},
    "nothing": {},
    "an encrypted key": {"private_key": ENCRYPTED},
    "no PEM": {"private_key": "key.pem"},
    "a public key": {"private_key": KEYS["ES256"].public_key()},
    "a key on Ed448": {"private_key": ed448.Ed448PrivateKey.generate()},
    "a key on another curve": {"private_key": ec.generate_private_key(ec.SECP256K1())},
    "an RSA key of 1024 bits": {"private_key": SHORT},
    "a name that PyJWT does not know": {"private_key": KEYS["EdDSA"], "algorithm": "Ed25519"},
    "an algorithm that is not a string": {"private_key": KEYS["ES256"], "algorithm": ["ES256"]},
    "an algorithm of another key": {"private_key": KEYS["ES256"], "algorithm": "RS256"},
    "a MAC": {"private_key": KEYS["PS256"], "algorithm": "HS256"},
    "an empty bearer token": {"bearer_token": ""},
    "a bearer token with a line break": {"bearer_token": "a\r\nb"},
    "encode_secret as a string": {"client_secret": "s", "encode_secret": "no"},
    "an empty hint": {"client_secret": "s", "token_type_hint": ""},
}


@pytest.mark.parametrize("options", WRONG.values(), ids=WRONG)
def test_credentials_that_do_not_fit_are_an_error(server: IntrospectionServer, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        asking(server, **{"client_secret": None, **options})


# --- error responses ---


def answer(status: int, body: Any, content_type: str = "application/json") -> Any:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda handler: send(handler, status, encoded, content_type)


@pytest.mark.parametrize("error", ["unsupported_token_type", "invalid_token"])
def test_an_error_about_the_token_is_invalid_token(
    server: IntrospectionServer,
    stack: type[Stack],
    error: str,
    mtls_client: IssuedCertificate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.behaviour = answer(400, {"error": error, "error_description": "no"})
    layers = stack(asking(server, cache=MemoryAnswers()))
    for _ in range(3):
        outcome = layers.request(f"Bearer {TOKEN}", certificate=mtls_client)
        assert (outcome.status, outcome.error) == (401, "invalid_token")
    assert len(server.questions) == 1
    assert f"error: {error}" in caplog.text
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


ERRORS: dict[str, tuple[Any, str]] = {
    "invalid_request": (answer(400, {"error": "invalid_request"}), "status 400 with the error 'invalid_request'"),
    "invalid_client": (answer(400, {"error": "invalid_client"}), "status 400 with the error 'invalid_client'"),
    "401 about the token": (answer(401, {"error": "invalid_token"}), "status 401 with the error 'invalid_token'"),
    "403": (answer(403, {"error": "access_denied"}), "change this at the server"),
    "an error that is not a string": (answer(400, {"error": ["invalid_token"]}), "status 400; expected 200"),
    "an error of another type": (answer(400, b'{"error": "invalid_token"}', "text/plain"), "status 400; expected 200"),
    "an error in another case": (answer(400, {"error": "Invalid_Token"}), "status 400 with the error 'Invalid_Token'"),
    "an error with control characters": (answer(400, {"error": "\x1b[31m\u202e" + "x" * 900}), r"'\x1b[31m\u202exxx"),
    "no JSON": (answer(400, b"{"), "status 400; expected 200"),
    "200 with an error": (answer(200, {"error": "invalid_token"}), "status 200 with the error 'invalid_token'"),
    "a login page": (answer(200, b"<html>", "text/html"), "the response is an HTML page"),
    "a login page with an error": (answer(403, b"<html>", "text/html"), "status 403; expected 200"),
    "500": (answer(500, {"error": "invalid_token"}), "the server has an error"),
}


@pytest.mark.parametrize(("behaviour", "words"), ERRORS.values(), ids=ERRORS)
def test_any_other_error_is_a_503_that_says_what_it_is(
    server: IntrospectionServer, behaviour: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.behaviour = behaviour
    with pytest.raises(Unavailable):
        validate(asking(server))
    assert words in caplog.text
    assert caplog.text.isascii()
    assert len(caplog.text) < 1_000


@pytest.mark.parametrize("members", [{"active": False, "error": "x"}, {"active": "true"}, {"active": 1}])
def test_a_token_that_is_not_active_is_rejected(server: IntrospectionServer, members: dict[str, Any]) -> None:
    server.behaviour = says(members)
    with pytest.raises(Refused) as refusal:
        validate(asking(server))
    assert refusal.value.code == "invalid_token"


@pytest.mark.parametrize(
    ("members", "options", "expected"),
    [
        ({"scope": ["a", "b"]}, {"scope_claims": ["scope"]}, ("billing", {"a", "b"})),
        ({"scope": ..., "scp": ["a"]}, {"scope_claims": ["scope", "scp"]}, ("billing", {"a"})),
        ({"client_id": ..., "azp": "x"}, {"client_id_claims": ["client_id", "azp"]}, ("x", {"read", "write"})),
        ({"aud": ["b"]}, {"audience": ["a", "b"]}, ("billing", {"read", "write"})),
        ({"aud": ...}, {"audience": ["a", "b"]}, ("billing", {"read", "write"})),
        ({"aud": "c"}, {"audience": ["a", "b"]}, None),
        ({"azp": "x"}, {"client_id_claims": ["client_id", "azp"]}, None),
        ({"scope": ["a", "b"]}, {}, None),
    ],
)
def test_members_are_read_by_the_names_that_are_given(
    server: IntrospectionServer, members: dict[str, Any], options: dict[str, Any], expected: Any
) -> None:
    server.behaviour = says(active(**members))
    if expected is None:
        with pytest.raises(Refused):
            validate(asking(server, **options))
        return
    token = validate(asking(server, **options))
    assert (token.client_id, token.scopes) == expected
