"""What an introspection server may say of an opaque token, and what not."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware import Refused
from mtls_middleware.testing import IssuedCertificate
from tests.ids import shown
from tests.introspection_server import IntrospectionServer, says
from tests.resource_server.introspection import AUDIENCE, BEARER, ISSUER, TOKEN, active, asking, validate
from tests.resource_server.stack import Stack, WSGIStack


@pytest.mark.case("131")
@pytest.mark.standard("F3", "F4")
@pytest.mark.parametrize(
    "value", [False, "true", "True", 1, 1.0, None, [], [True], {}, {"active": True}, ...], ids=shown
)
def test_active_is_true_itself_or_the_token_is_refused(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate, value: Any
) -> None:
    server.tokens = {TOKEN: active(mtls_client, active=value)}
    outcome = stack(asking(server)).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)


@pytest.mark.case("132")
@pytest.mark.standard("F10", "F16", "Q3", "Q5", "Q9", "A16", "A18", "O12")
@pytest.mark.parametrize(
    "changes",
    [
        {"cnf": ...},
        {"cnf": None},
        {"cnf": {}},
        {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
        {"cnf": {"x5t#S256": "A" * 43}},
        {"exp": 1},
        {"exp": "4102444800"},
        {"exp": True},
        {"exp": None},
        {"exp": 10**400},
        {"nbf": 4102444800},
        {"iat": 4102444800},
        {"aud": "https://other.test"},
        {"aud": []},
        {"aud": None},
        {"aud": [AUDIENCE + "/"]},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"token_type": "DPoP"},
        {"token_type": "N_A"},
        {"token_type": None},
        {"token_type": ["Bearer"]},
        {"token_use": "refresh_token"},
        {"typ": "Refresh"},
        {"scope": ["read"]},
        {"sub": 7},
        {"client_id": None},
        {"jti": {}},
    ],
    ids=shown,
)
def test_every_member_of_an_active_answer_is_looked_at(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate, changes: dict[str, Any]
) -> None:
    server.tokens = {TOKEN: active(mtls_client, **changes)}
    outcome = stack(asking(server), scopes=[]).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)


@pytest.mark.standard("Q5")
def test_two_confirmations_are_refused_though_the_certificate_fits(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client, cnf={"x5t#S256": mtls_client.thumbprint, "jkt": "x" * 43})}
    outcome = stack(asking(server)).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


@pytest.mark.parametrize(
    "changes",
    [
        {"token_type": "bearer"},
        {"token_type": ...},
        {"token_use": "access_token"},
        {"typ": "Bearer"},
        {"iss": ...},
        {"aud": ...},
        {"aud": ["https://other.test", AUDIENCE]},
        {"exp": ...},
        {"scope": ...},
        {"exp": 4102444800.5},
        {"username": "jane", "extension": {"deep": [1, 2]}},
    ],
    ids=shown,
)
def test_what_an_answer_may_leave_out_or_add(server: IntrospectionServer, changes: dict[str, Any]) -> None:
    server.tokens = {TOKEN: active(**changes)}
    assert validate(asking(server)).claims["active"] is True


def test_members_can_be_demanded(server: IntrospectionServer) -> None:
    server.tokens = {TOKEN: active(aud=...)}
    with pytest.raises(Refused, match="missing claims: aud") as refusal:
        validate(asking(server, required_claims=["aud", "exp"]))
    assert refusal.value.code == "invalid_token"


@pytest.mark.standard("O4", "O10")
def test_the_fapi_profile_wants_bound_tokens_whatever_binding_says(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    now = int(time.time())
    server.tokens = {
        "unbound": active(),
        "bound": active(mtls_client, iat=now + 8, nbf=now + 8),
        "ahead": active(mtls_client, iat=now + 61),
    }
    layers = stack(asking(server, profile="fapi2"), binding="when_present")
    statuses = [layers.request(f"Bearer {each}", certificate=mtls_client).status for each in server.tokens]
    assert statuses == [401, 200, 401]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from([True, "Bearer", ISSUER, AUDIENCE, 4102444800, "read"])
        for name in (
            "active",
            "token_type",
            "scope",
            "sub",
            "client_id",
            "iss",
            "aud",
            "exp",
            "nbf",
            "iat",
            "cnf",
            "jti",
        )
    },
)


def test_only_active_true_admits_a_request(server: IntrospectionServer) -> None:
    layers = WSGIStack(asking(server), binding="when_present")

    @settings(max_examples=100)
    @given(answer=MEMBERS | JSON | st.binary(max_size=40))
    def holds(answer: Any) -> None:
        server.behaviour = says(answer)
        outcome = layers.request(BEARER)
        assert outcome.status in (200, 401, 503)
        assert outcome.reached == (outcome.status == 200)
        if outcome.reached:
            assert answer["active"] is True
            assert answer.get("iss", ISSUER) == ISSUER
            assert answer.get("exp", 4102444800) > time.time() - 10

    holds()
