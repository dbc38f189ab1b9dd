"""Whatever comes as a token: it is refused, or it is byte for byte what the issuer signed. Never a 500."""

import json
import time
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mtls_middleware import Refused
from mtls_middleware.binding import confirm
from mtls_middleware.resource_server import AccessToken
from mtls_middleware.resource_server.bearer import presented_token
from mtls_middleware.testing import CertificateAuthority
from tests.resource_server import forge
from tests.resource_server.stack import ASGIStack, WSGIStack

CLIENT = CertificateAuthority().issue("CN=client")
CERTIFICATE = CLIENT.client_certificate()
GOOD = forge.token(payload=forge.claims(exp=int(time.time()) + 3600, cnf={"x5t#S256": CLIENT.thumbprint}))
TOKENS = forge.access_tokens()
STACKS = (WSGIStack(TOKENS), ASGIStack(TOKENS))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BASE64URL = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", max_size=80)


def decide(authorization: str) -> AccessToken | None:
    """The whole of what stands between a header's value and the application; `None` where it is refused."""
    try:
        token = forge.validate(TOKENS, presented_token([authorization], "").text)
        confirm(token.claims, CERTIFICATE, "required")
    except Refused:
        return None
    return token


def test_the_good_one_is_accepted_so_that_the_rest_means_something() -> None:
    assert decide(f"Bearer {GOOD}")


@settings(max_examples=200)
@given(st.text() | st.binary().map(lambda value: value.decode("latin-1")))
@example("Bearer \ud800")
@example("Bearer " + "." * 1000)
def test_no_text_is_a_token(value: str) -> None:
    for authorization in (value, f"Bearer {value}", f"Bearer {GOOD}{value}"):
        if not (authorization.startswith(f"Bearer {GOOD}") and value == ""):
            assert decide(authorization) is None


@settings(max_examples=60)
@given(st.binary(max_size=60).map(lambda value: value.decode("latin-1")))
def test_no_bytes_in_the_header_reach_the_application_or_break_a_gateway(value: str) -> None:
    for stack in STACKS:
        for authorization in (value, f"Bearer {value}"):
            outcome = stack.request(authorization, certificate=CLIENT)
            assert outcome.status in (400, 401)
            assert outcome.challenge
            assert not outcome.reached


@settings(max_examples=200)
@given(st.data())
def test_a_signed_token_with_one_change_anywhere_is_another_token(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD) - 1))
    kind = data.draw(st.sampled_from(["replace", "insert", "delete", "swap"]))
    letter = data.draw(st.sampled_from("Aa0-_.=+/ \n\u00e9"))
    changed = {
        "replace": GOOD[:place] + letter + GOOD[place + 1 :],
        "insert": GOOD[:place] + letter + GOOD[place:],
        "delete": GOOD[:place] + GOOD[place + 1 :],
        "swap": GOOD[:place] + GOOD[place : place + 2][::-1] + GOOD[place + 2 :],
    }[kind]
    assume(changed.lstrip(" ") != GOOD)  # a further blank behind the scheme is no change
    assert decide(f"Bearer {changed}") is None


def test_a_signature_has_one_spelling() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [letter for letter in alphabet if decide(f"Bearer {GOOD[:-1]}{letter}")] == [GOOD[-1]]


@settings(max_examples=150)
@given(BASE64URL, BASE64URL, BASE64URL)
def test_no_three_parts_of_base64url_are_a_token(header: str, payload: str, signature: str) -> None:
    own = GOOD.split(".")
    for parts in ((header, payload, signature), (own[0], payload, own[2]), (own[0], own[1], signature)):
        assume(list(parts) != own)
        assert decide("Bearer " + ".".join(parts)) is None


JOSE_NAMES = "typ alg kid crit b64 jwk jku x5c x5u x5t#S256 zip enc cty"
HEADER_NAMES = st.sampled_from(JOSE_NAMES.split(" "))


@settings(max_examples=150)
@given(st.dictionaries(HEADER_NAMES | st.text(), JSON, min_size=1, max_size=4))
def test_no_header_however_odd_gets_past_a_signature_it_does_not_match(changes: dict[str, Any]) -> None:
    _, payload, signature = GOOD.split(".")
    header = forge.base64url(json.dumps({**forge.HEADER, **changes}).encode())
    assume(f"{header}.{payload}.{signature}" != GOOD)
    assert decide(f"Bearer {header}.{payload}.{signature}") is None


@settings(max_examples=150)
@given(JSON | st.dictionaries(HEADER_NAMES, JSON))
def test_an_arbitrary_signed_header_causes_no_internal_error(header: Any) -> None:
    assert decide(f"Bearer {forge.token(header)}") is None  # typ, alg and kid would have to be guessed
    if isinstance(header, dict):
        decide(f"Bearer {forge.token({**forge.HEADER, **header})}")


CLAIM_NAMES = st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "client_id", "jti", "scope", "cnf"])


@settings(max_examples=200)
@given(st.dictionaries(CLAIM_NAMES, JSON, min_size=1, max_size=3))
@example({"exp": 1e300})
@example({"exp": -1e300})
@example({"nbf": 10**400})
@example({"iat": 10**5000})
@example({"scope": "\ud800"})
@example({"cnf": {"x5t#S256": "\ud800" * 43}})
def test_arbitrary_signed_claims_cause_no_error_and_change_no_identity(
    changes: dict[str, Any],
) -> None:
    claims = forge.claims(**{"cnf": {"x5t#S256": CLIENT.thumbprint}, **changes})
    try:
        text = forge.token(payload=claims)
    except ValueError:  # an integer too long for json.dumps
        return
    token = decide(f"Bearer {text}")
    if token is not None:
        assert token.claims["iss"] == forge.ISSUER
        audience = token.claims["aud"]
        assert forge.AUDIENCE in (audience if isinstance(audience, tuple) else [audience])
        assert token.claims["cnf"]["x5t#S256"] == CLIENT.thumbprint
        assert token.expires_at.timestamp() > time.time() - 60


@settings(max_examples=150)
@given(JSON | st.dictionaries(st.sampled_from(["x5t#S256", "jkt", "jwk", "x5t", "kid"]), JSON | BASE64URL))
def test_no_confirmation_but_the_thumbprint_itself_binds(cnf: Any) -> None:
    try:
        confirm({"cnf": cnf}, CERTIFICATE, "when_present")
    except Refused as refusal:
        code = refusal.code
    else:
        code = "accepted"
    assert code == "invalid_token"


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_signed_bytes_that_are_not_claims_cause_no_internal_error(payload: bytes) -> None:
    assert decide(f"Bearer {forge.token(payload=payload or b'0')}") is None
