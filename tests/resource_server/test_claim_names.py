"""Tokens as issuers write them that do not follow RFC 9068, each accepted only by an explicit argument."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ConfigurationError, Refused
from mtls_middleware.resource_server.claim_names import ClaimNames
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.testing import OMIT, TokenIssuer
from tests.resource_server import forge

ISSUER = TokenIssuer()


def accepted(claims: Any = None, headers: Any = None, /, **options: Any) -> AccessToken | None:
    """Return the accepted token, or `None` if the token is rejected."""
    text = ISSUER.token(claims=claims, headers=headers, scopes=[] if claims and "scope" in claims else ["read"])
    try:
        return forge.validate(ISSUER.access_tokens(**options), text)
    except Refused:
        return None


# Claims and headers of a token, the arguments with which it is accepted. Without them it is rejected.
ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "one of several audiences": ({"aud": "api://b"}, {}, {"audience": ["api://a", "api://b"]}),
    "a list with one of several audiences": ({"aud": ["c", "api://b"]}, {}, {"audience": {"api://a", "api://b"}}),
    "the audience in another claim": (
        {"aud": OMIT, "client_id": "c"}, {}, {"audience": "c", "audience_claim": "client_id"},
    ),
    "no typ": ({"token_use": "access"}, {"typ": OMIT}, {"typ": ["at+jwt", None], "claims": {"token_use": "access"}}),
    "no typ, one of several clients": (
        {"cid": "b", "client_id": OMIT}, {"typ": OMIT},
        {"typ": [None], "claims": {"cid": ["a", "b"]}, "client_id_claims": ["cid"]},
    ),
    "typ JWT": ({}, {"typ": "JWT"}, {"typ": ["JWT"]}),
    "the client in azp": ({"client_id": OMIT, "azp": "c"}, {}, {"client_id_claims": ["client_id", "azp"]}),
    "the client in appid": ({"client_id": OMIT, "appid": "c"}, {}, {"client_id_claims": ["azp", "appid"]}),
    "scope as a list": ({"scope": ["read", "write"]}, {}, {"scope_claims": ["scope"]}),
    "nonce of an old Keycloak": ({"nonce": "n"}, {"typ": "JWT"}, {"typ": ["JWT"], "allow_nonce": True}),
}  # fmt: skip


@pytest.mark.parametrize(("claims", "headers", "options"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_deviation_is_accepted_only_by_its_argument(
    claims: dict[str, Any], headers: dict[str, Any], options: dict[str, Any]
) -> None:
    assert accepted(claims, headers, **options) is not None
    assert accepted(claims, headers) is None
    for name in options:
        fewer = {key: value for key, value in options.items() if key != name}
        try:
            assert accepted(claims, headers, **fewer) is None
        except ConfigurationError:
            assert name == "claims"  # typ= with None needs claims=


REJECTED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "no audience of several": ({"aud": "c"}, {}, {"audience": ["a", "b"]}),
    "an audience that is part of another": ({"aud": "api"}, {}, {"audience": ["api://a"]}),
    "an audience that is an object": ({"aud": {"a": 1}}, {}, {"audience": ["a"]}),
    "audiences that are lists": ({"aud": [["a"]]}, {}, {"audience": ["a"]}),
    "aud instead of the audience claim": (
        {"aud": "c", "client_id": "d"}, {}, {"audience": "c", "audience_claim": "client_id"},
    ),
    "typ null instead of absent": (
        {"token_use": "access"}, {"typ": None}, {"typ": [None], "claims": {"token_use": "access"}},
    ),
    "typ empty instead of absent": (
        {"token_use": "access"}, {"typ": ""}, {"typ": [None], "claims": {"token_use": "access"}},
    ),
    "typ of another kind": (
        {"token_use": "access"}, {"typ": "JWT"}, {"typ": [None], "claims": {"token_use": "access"}},
    ),
    "no typ, and an ID token": ({"token_use": "id"}, {"typ": OMIT}, {"typ": [None], "claims": {"token_use": "access"}}),
    "no typ, without the claim": ({}, {"typ": OMIT}, {"typ": [None], "claims": {"token_use": "access"}}),
    "no typ, with a nonce": (
        {"token_use": "access", "nonce": "n"}, {"typ": OMIT}, {"typ": [None], "claims": {"token_use": "access"}},
    ),
    "a claim that is a list": ({"token_use": ["access"]}, {}, {"claims": {"token_use": "access"}}),
    "true instead of 1": ({"ver": True}, {}, {"claims": {"ver": 1}}),
    "1 instead of true": ({"bot": 1}, {}, {"claims": {"bot": True}}),
    "1.0 instead of 1": ({"ver": 1.0}, {}, {"claims": {"ver": 1}}),
    "a string instead of a number": ({"ver": "1"}, {}, {"claims": {"ver": 1}}),
    "two clients": ({"client_id": "a", "azp": "b"}, {}, {"client_id_claims": ["client_id", "azp"]}),
    "two clients, one a number": ({"client_id": "1", "azp": 1}, {}, {"client_id_claims": ["client_id", "azp"]}),
    "a client that is null": ({"client_id": OMIT, "azp": None}, {}, {"client_id_claims": ["client_id", "azp"]}),
    "no client": ({"client_id": OMIT}, {}, {"client_id_claims": ["client_id", "azp"]}),
    "scopes that are numbers": ({"scope": [1]}, {}, {"scope_claims": ["scope"]}),
    "scopes in an object": ({"scope": {"read": True}}, {}, {"scope_claims": ["scope"]}),
    "a scope that is null": ({"scope": None}, {}, {"scope_claims": ["scope"]}),
    "at_hash of an ID token": ({"at_hash": "x"}, {"typ": "JWT"}, {"typ": ["JWT"], "allow_nonce": True}),
}  # fmt: skip


@pytest.mark.parametrize(("claims", "headers", "options"), REJECTED.values(), ids=REJECTED)
def test_an_argument_accepts_nothing_else(
    claims: dict[str, Any], headers: dict[str, Any], options: dict[str, Any]
) -> None:
    assert accepted(claims, headers, **options) is None


@pytest.mark.parametrize(
    ("claims", "names", "scopes"),
    [
        ({"scope": "a b", "scp": ["c"]}, ["scope", "scp"], {"a", "b", "c"}),
        ({"scope": "a", "scp": "b c", "roles": ["d", ""]}, ["scope", "scp", "roles"], {"a", "b", "c", "d"}),
        ({"scope": "a", "scp": ["c"]}, ["scp"], {"c"}),
        ({"scope": OMIT, "roles": ["Invoices.Read.All"]}, ["scope", "roles"], {"Invoices.Read.All"}),
        ({"scope": [], "scp": ""}, ["scope", "scp"], set()),
        ({"scope": ["a b"]}, ["scope"], {"a b"}),
        ({"scope": "a"}, None, {"a"}),
    ],
)
def test_the_scopes_of_all_named_claims_are_joined(claims: Any, names: Any, scopes: set[str]) -> None:
    found = accepted(claims, scope_claims=names)
    assert found is not None
    assert found.scopes == scopes


@pytest.mark.parametrize(
    ("claims", "names", "client"),
    [
        ({"client_id": "a", "azp": "a"}, ["client_id", "azp"], "a"),
        ({"client_id": OMIT, "azp": "b"}, ["client_id", "azp"], "b"),
        ({"client_id": "a", "azp": "b"}, ["azp"], "b"),
    ],
)
def test_the_client_is_the_one_of_the_named_claims(claims: Any, names: Any, client: str) -> None:
    found = accepted(claims, client_id_claims=names)
    assert found is not None
    assert found.client_id == client


def test_a_token_may_lack_the_client_if_it_is_not_required() -> None:
    found = accepted({"client_id": OMIT}, client_id_claims=["azp"], required_claims=["sub"])
    assert found is not None
    assert found.client_id is None


@pytest.mark.parametrize(
    "options",
    [
        {"audience": []}, {"audience": [""]}, {"audience": [1]}, {"audience": None}, {"audience": b"api"},
        {"audience_claim": ""}, {"audience_claim": None},
        {"scope_claims": "scp"}, {"scope_claims": []}, {"scope_claims": [1]}, {"scope_claims": [""]},
        {"client_id_claims": "azp"}, {"client_id_claims": []},
        {"claims": ["token_use"]}, {"claims": {"token_use": None}}, {"claims": {"token_use": []}},
        {"claims": {"token_use": {"a": 1}}}, {"claims": {"token_use": b"access"}}, {"claims": {"": "a"}},
        {"claims": {"ver": 1.5}}, {"claims": {1: "a"}},
        {"typ": [None]}, {"typ": ["at+jwt", None]}, {"typ": [None], "claims": {"iss": "https://as.example"}},
        {"typ": [None], "claims": {"azp": "a", "sub": "b"}}, {"typ": "at+jwt"}, {"typ": [1]},
        {"typ": [None], "claims": {"tid": "a", "roles": "b", "jti": "c", "email": "d"}},
        {"allow_nonce": "yes"},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_argument_is_an_error_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ISSUER.access_tokens(**options)


@pytest.mark.parametrize("profile", ["rfc9068", "fapi2", "without_explicit_typing"])
@pytest.mark.parametrize(
    "options",
    [
        {"typ": ["at+jwt", None], "claims": {"token_use": "access"}},
        {"scope_claims": ["scp"]}, {"scope_claims": ["scope"]}, {"client_id_claims": ["azp"]},
        {"audience_claim": "client_id"}, {"allow_nonce": True},
    ],
    ids=str,
)  # fmt: skip
def test_no_argument_accepts_more_than_a_profile_does(profile: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ISSUER.access_tokens(profile=profile, **options)


@pytest.mark.parametrize("profile", ["rfc9068", "without_explicit_typing"])
def test_arguments_may_narrow_a_profile(profile: Any) -> None:
    assert accepted({"ver": 1}, profile=profile, claims={"ver": 1}) is not None
    assert accepted({"ver": 2}, profile=profile, claims={"ver": 1}) is None
    names = ["client_id", "azp"]
    assert accepted({"azp": "client"}, profile=profile, client_id_claims=names) is not None
    assert accepted({"azp": "other"}, profile=profile, client_id_claims=names) is None
    assert accepted({"azp": "client", "client_id": OMIT}, profile=profile, client_id_claims=names) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = ClaimNames(frozenset({"a"}), "aud", ("scope", "scp"), ("client_id", "azp"), {"use": ("x", 1, True)})


@given(st.dictionaries(st.sampled_from(["aud", "scope", "scp", "client_id", "azp", "use"]), JSON))
def test_claims_of_any_type_are_read_or_rejected(claims: dict[str, Any]) -> None:
    for read in (NAMES.check, NAMES.scopes_of, NAMES.client_id_of):
        with contextlib.suppress(Refused):
            found: Any = read(claims)
            assert found is None or isinstance(found, (str, frozenset))
