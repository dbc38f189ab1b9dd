"""Each check of an argument, with values that are accepted and values that are not."""

import re
from typing import Any

import pytest

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError

CHECKS: dict[str, tuple[Any, list[Any], list[Any], str]] = {
    "string": (
        lambda given: options.string("issuer", given, "https://as.example"),
        ["x", "https://as.example"],
        ["", None, b"x", 7, ["x"]],
        "expected a string, for example 'https://as.example'",
    ),
    "strings": (
        lambda given: options.strings("scopes", given, '"read"'),
        [(), [], ["read"], {"read", "write"}, {"read": 1}],
        ["read", b"read", None, 7, [7], iter(["read"])],
        'expected a list of strings, for example ["read"]',
    ),
    "boolean": (
        lambda given: options.boolean("allow_http", given),
        [True, False],
        ["false", 0, 1, None],
        "expected True or False",
    ),
    "seconds": (
        lambda given: options.seconds("timeout", given, 0.05, 60, 5),
        [0.05, 5, 60],
        [0, 0.01, 61, True, "5", None, float("nan"), float("inf")],
        "expected seconds from 0.05 to 60, for example 5",
    ),
    "integer": (
        lambda given: options.integer("max_depth", given, 0, 16, 5),
        [0, 5, 16],
        [-1, 17, True, 5.0, "5", None],
        "expected an integer from 0 to 16, for example 5",
    ),
    "one_of": (
        lambda given: options.one_of("binding", given, ("required", "when_present")),
        ["required", "when_present"],
        ["Required", "", None, True, ["required"]],
        "expected 'required' or 'when_present'",
    ),
    "object_with_method": (
        lambda given: options.object_with_method("tokens", given, "validate", "JWTAccessTokens(...)"),
        [type("Validator", (), {"validate": lambda *_: None})()],
        [type("Validator", (), {"validate": lambda *_: None}), object(), None, "x"],
        "expected an object with the method validate, for example JWTAccessTokens(...)",
    ),
    "https_url": (
        lambda given: options.https_url("issuer", given),
        ["https://as.example", "https://as.example/tenant?x=1"],
        [
            "http://as.example",
            "https://",
            "https://as.example#",
            "https://as.example#x",
            "as.example",
            None,
            b"https://a",
            "https://[",
        ],
        "expected an https URL without fragment, such as 'https://as.example'",
    ),
}


def numbered(pairs: list[tuple[str, Any]]) -> list[str]:
    return [f"{name}-{number}" for number, (name, _) in enumerate(pairs)]


ACCEPTED = [(name, given) for name, (_, accepted, _, _) in CHECKS.items() for given in accepted]
REJECTED = [(name, given) for name, (_, _, rejected, _) in CHECKS.items() for given in rejected]


@pytest.mark.parametrize(("name", "given"), ACCEPTED, ids=numbered(ACCEPTED))
def test_an_argument_as_expected_is_returned(name: str, given: Any) -> None:
    found = CHECKS[name][0](given)
    assert found == (frozenset(given) if name == "strings" else given)


@pytest.mark.parametrize(("name", "given"), REJECTED, ids=numbered(REJECTED))
def test_any_other_argument_is_rejected_with_what_is_expected(name: str, given: Any) -> None:
    check, _, _, expected = CHECKS[name]
    with pytest.raises(ConfigurationError, match=re.escape(expected)) as raised:
        check(given)
    assert repr(given) in str(raised.value)
