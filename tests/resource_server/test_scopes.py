"""Scopes are compared as exact texts, all of them (RFC 6749 3.3)."""

import pytest

from mtls_middleware import AccessToken, Refused
from mtls_middleware.resource_server import scopes


def token(*scopes: str) -> AccessToken:
    return AccessToken(claims={}, subject=None, client_id=None, scopes=frozenset(scopes), expires_at=None)


@pytest.mark.parametrize(("demanded", "there"), [([], []), ([], ["a"]), (["a"], ["a"]), (["a", "b"], ["b", "c", "a"])])
def test_all_that_is_demanded_is_there(demanded: list[str], there: list[str]) -> None:
    scopes.require_scopes(token(*there), frozenset(demanded))


@pytest.mark.parametrize(
    ("demanded", "there", "missing"),
    [
        (["a"], [], "missing scopes: a"),
        (["a"], ["A", "a ", "aa", "", "a:b", "*"], "missing scopes: a"),
        (["a", "c", "b"], ["b"], "missing scopes: a c"),
    ],
)
def test_what_is_missing_is_refused_and_named(demanded: list[str], there: list[str], missing: str) -> None:
    with pytest.raises(Refused) as refused:
        scopes.require_scopes(token(*there), frozenset(demanded))
    assert (refused.value.code, refused.value.evidence) == ("insufficient_scope", (missing,))
