"""`AccessToken`: what the application reads, and cannot change."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from typing import Any

import pytest

from mtls_middleware import AccessToken
from mtls_middleware.resource_server.token import read_only
from mtls_middleware.testing import IssuedCertificate
from tests.resource_server import forge
from tests.resource_server.stack import Stack

CLAIMS = {"nested": {"list": [{"deep": [1, 2]}], "text": "x"}, "roles": ["a", "b"]}


def test_the_application_sees_what_the_token_says(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    claims = forge.claims(
        sub="alice", client_id="shop", scope="a b", cnf={"x5t#S256": mtls_client.thumbprint}, **CLAIMS
    )
    text = forge.token(payload=claims)
    token = stack(forge.access_tokens()).request(f"Bearer {text}", certificate=mtls_client).token
    assert token
    assert (token.subject, token.client_id, token.scopes) == ("alice", "shop", frozenset({"a", "b"}))
    assert token.expires_at == datetime.fromtimestamp(claims["exp"], UTC)
    assert token.claims["nested"]["list"][0]["deep"] == (1, 2)
    assert (token.bound, token.confirmation) == (True, mtls_client.thumbprint)


def test_no_claim_can_be_changed_at_any_depth() -> None:
    token = forge.validate(forge.access_tokens(), forge.token(payload=forge.claims(**CLAIMS)))
    changes: list[tuple[Any, Any]] = [(token.claims, "sub"), (token.claims["nested"], "text")]
    changes += [(token.claims["nested"]["list"][0], "deep"), (token.claims["roles"], 0)]
    for container, key in changes:
        with pytest.raises(TypeError):
            container[key] = "changed"
    with pytest.raises(FrozenInstanceError):
        token.subject = "admin"


def test_what_one_request_is_given_another_ones_is_not_touched_by(mtls_client: IssuedCertificate) -> None:
    tokens, text = forge.access_tokens(), forge.token(payload=forge.claims(cnf={"x5t#S256": mtls_client.thumbprint}))
    assert forge.validate(tokens, text) == forge.validate(tokens, text)
    assert forge.validate(tokens, text).bound is False  # bound is said per request, never remembered


@pytest.mark.case("155")
@pytest.mark.standard("A22")
def test_repr_shows_neither_token_nor_other_claims() -> None:
    text = forge.token(payload=forge.claims(sub='a"\r\n\x1b[31m', email="secret@example.test"))
    shown = repr(forge.validate(forge.access_tokens(), text))
    assert shown.isascii()
    assert shown.isprintable()
    for hidden in ("secret", text, *text.split("."), "\x1b"):
        assert hidden not in shown


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "text"])
def test_plain_values_stay_as_they_are(value: Any) -> None:
    assert read_only(value) is value


def test_absent_claims_are_none() -> None:
    lean = {name: value for name, value in forge.claims().items() if name in ("iss", "aud", "exp")}
    token = forge.validate(forge.access_tokens(required_claims=()), forge.token(payload=lean))
    assert (token.subject, token.client_id, token.scopes) == (None, None, frozenset())
    assert isinstance(token, AccessToken)
    assert isinstance(token.claims, Mapping)
