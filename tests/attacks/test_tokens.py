"""Tokens well signed, whose content is an attack; and validators that demand less than they were told to."""

import json
from typing import Any

import pytest

from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.resource_server import AccessToken
from mtls_middleware.resource_server.bearer import presented_token
from tests.resource_server.forge import access_tokens, claims, token, validate, with_member


def decide(text: str) -> AccessToken | None:
    """The token, `None` where it is refused; what else is raised comes out."""
    try:
        return validate(access_tokens(), text)
    except Refused:
        return None


@pytest.mark.parametrize("depth", range(300, 2000, 50))
def test_claims_of_any_depth_do_not_cause_an_internal_error(depth: int) -> None:
    """Between what the JSON parser bears and what our own copy bears lies a depth that was answered 500."""
    for opening, closing in ("[", "]"), ('{"a":', "}"):
        nested = f'"x": {opening * depth}{"1" if opening != "[" else ""}{closing * depth}'
        text = token(payload=with_member(nested))
        accepted = decide(text)
        assert accepted is None or accepted.claims["x"]


@pytest.mark.parametrize("name", ["required_claims", "typ", "algorithms"])
@pytest.mark.parametrize("make", [iter, lambda texts: (each for each in texts), lambda texts: map(str, texts)])
def test_what_can_be_read_once_is_refused_before_it_demands_nothing(name: str, make: Any) -> None:
    usual = {"required_claims": ["acr"], "typ": ["at+jwt"], "algorithms": ["ES256"]}[name]
    with pytest.raises(ConfigurationError, match=name):
        access_tokens(**{name: make(usual)})
    access_tokens(**{name: usual})


@pytest.mark.parametrize("value", [7, True])
def test_a_value_that_is_not_a_collection_is_a_configuration_error(value: Any) -> None:
    with pytest.raises(ConfigurationError):
        access_tokens(required_claims=value)


@pytest.mark.case("122")
@pytest.mark.parametrize(
    "query",
    [
        "access_token=x", "a=b&access_token", "a;%61ccess%5Ftoken=1", "%61%63%63%65%73%73%5f%74%6f%6b%65%6E=",
        "x&access_token&y", "&&access_token=", "access_tok%65n=1&a=b",
    ],
)  # fmt: skip
def test_a_second_token_in_the_query_is_seen_however_it_is_escaped(query: str) -> None:
    with pytest.raises(Refused, match="invalid_request"):
        presented_token(["Bearer abc"], query)


@pytest.mark.parametrize(
    "query",
    [
        "Access_token=x", "xaccess_token=1", "access_tokens=1", "a=access_token", "access%2561_token=1",
        "a%26access_token=1",
    ],
)  # fmt: skip
def test_another_parameter_is_not_taken_for_it(query: str) -> None:
    assert presented_token(["Bearer abc"], query).text == "abc"


def test_a_member_that_is_spelt_twice_by_escapes_is_refused() -> None:
    payload = json.dumps(claims())[:-1] + ", "
    for twice in ('"s\\u0075b": "admin"', '"cnf": {"x5t#S256": "a", "x5t\\u0023S256": "b"}'):
        assert decide(token(payload=payload + twice + "}")) is None
    assert decide(token()) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": {"https://api.test": 1}}, {"aud": [["https://api.test"]]}, {"aud": "https://api.test "},
        {"aud": "https://api.test\u200b"}, {"iss": "https://issuer.test\u0000"}, {"iss": ["https://issuer.test"]},
        {"iss": "https://\u0456ssuer.test"}, {"exp": "9999999999"}, {"exp": [9999999999]}, {"exp": True},
        {"nbf": 10**400}, {"iat": -(10**400)}, {"sub": {"a": 1}}, {"scope": ["a", "b"]}, {"client_id": None},
    ],
    ids=repr,
)  # fmt: skip
def test_claims_that_only_look_right_are_refused(changes: dict[str, Any]) -> None:
    assert decide(token(payload=claims(**changes))) is None
