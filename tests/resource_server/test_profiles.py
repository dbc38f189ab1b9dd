"""Profiles: what each admits, and that nothing beside it widens it."""

import time
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, Refused
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.ids import shown
from tests.resource_server import forge
from tests.resource_server.stack import Stack


def accepted(text: str, **options: Any) -> bool:
    try:
        forge.validate(forge.access_tokens(**options), text)
    except Refused as refusal:
        code = refusal.code
    else:
        return True
    return code != "invalid_token"  # anything else would be a fault of ours


def typed(typ: str, /, **changes: Any) -> str:
    claims = {name: value for name, value in forge.claims(**changes).items() if value is not ...}
    return forge.token({**forge.HEADER, "typ": typ}, claims)


@pytest.mark.standard("O7", "H8")
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "PS384", "ES256", "ES384", "EdDSA"])
def test_fapi_2_0_takes_three_algorithms(stack: type[Stack], mtls_client: IssuedCertificate, algorithm: str) -> None:
    issuer = TokenIssuer(algorithm=algorithm)
    text = f"Bearer {issuer.token(certificate=mtls_client)}"
    assert stack(issuer.access_tokens()).request(text, certificate=mtls_client).status == 200
    outcome = stack(issuer.access_tokens(profile="fapi2")).request(text, certificate=mtls_client)
    assert outcome.status == (200 if algorithm in ("PS256", "ES256", "EdDSA") else 401)


@pytest.mark.standard("O4", "O11", "A14")
@pytest.mark.parametrize("binding", ["required", "when_present"])
def test_fapi_2_0_refuses_unbound_tokens_whatever_binding_says(
    stack: type[Stack], mtls_issuer: TokenIssuer, mtls_client: IssuedCertificate, binding: str
) -> None:
    layers = stack(mtls_issuer.access_tokens(profile="fapi2"), binding=binding)
    bound, unbound = mtls_issuer.token(certificate=mtls_client), mtls_issuer.token()
    assert layers.request(f"Bearer {bound}", certificate=mtls_client).status == 200
    assert layers.request(f"Bearer {bound}").error == "invalid_token"
    assert layers.request(f"Bearer {unbound}", certificate=mtls_client).error == "invalid_token"


@pytest.mark.standard("O1")
def test_fapi_2_0_reads_no_token_from_the_query(
    stack: type[Stack], mtls_issuer: TokenIssuer, mtls_client: IssuedCertificate
) -> None:
    layers = stack(mtls_issuer.access_tokens(profile="fapi2"))
    query = f"access_token={mtls_issuer.token(certificate=mtls_client)}"
    outcome = layers.request(certificate=mtls_client, query=query)
    assert (outcome.status, outcome.reached) == (401, False)


@pytest.mark.standard("O10", "O12")
@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_fapi_2_0_accepts_clocks_ten_seconds_ahead_and_refuses_sixty(claim: str) -> None:
    now = int(time.time())
    for ahead, good in ((10, True), (61, False)):
        assert accepted(typed("at+jwt", cnf={}, **{claim: now + ahead}), profile="fapi2") == good
    for leeway in (9, 60):
        with pytest.raises(ConfigurationError, match="leeway"):
            forge.access_tokens(profile="fapi2", leeway=leeway)
    assert accepted(typed("at+jwt", cnf={}, **{claim: now + 50}), profile="fapi2", leeway=59)


@pytest.mark.standard("H1", "H7")
def test_rfc_9068_is_strict() -> None:
    assert accepted(typed("at+jwt"), profile="rfc9068")
    assert accepted(typed("application/at+JWT"), profile="rfc9068")
    assert not accepted(typed("JWT"), profile="rfc9068")
    for name in ("iss", "exp", "aud", "sub", "client_id", "iat", "jti"):
        assert not accepted(typed("at+jwt", **{name: ...}), profile="rfc9068", required_claims=())


@pytest.mark.standard("H18")
def test_without_explicit_typing_an_access_token_is_told_by_its_claims() -> None:
    lenient = {"profile": "without_explicit_typing"}
    for typ in ("JWT", "jwt", "at+jwt"):
        assert accepted(typed(typ), **lenient)
        assert accepted(typed(typ, sub=..., jti=..., iat=...), **lenient)
    assert not accepted(typed("JWT", client_id=...), **lenient)
    for name in ("nonce", "at_hash", "c_hash", "s_hash", "events"):
        assert not accepted(typed("JWT", **{name: "x"}), **lenient)
    assert not accepted(typed("JWT", token_use="id"), **lenient)
    assert accepted(typed("JWT", token_use="access"), **lenient)
    for kind in ("ID", "Refresh", "Offline", "Logout"):
        assert not accepted(typed("JWT", typ=kind), **lenient)
    for typ in ("dpop+jwt", "token-introspection+jwt", "logout+jwt", "id+jwt", ""):
        assert not accepted(typed(typ), **lenient)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profile": "fapi1"}, "profile="),
        ({"profile": ["fapi2"]}, "profile="),
        ({"profile": "fapi2", "algorithms": ["RS256"]}, "algorithms="),
        ({"profile": "fapi2", "algorithms": []}, "algorithms="),
        ({"profile": "fapi2", "typ": ["JWT"]}, "typ="),
        ({"profile": "rfc9068", "typ": ["JWT", "at+jwt"]}, "typ="),
        ({"profile": "without_explicit_typing", "typ": ["id+jwt"]}, "typ="),
        ({"typ": []}, "typ is empty"),
        ({"algorithms": ["HS256"]}, "algorithms="),
        ({"algorithms": "ES256"}, "algorithms="),
    ],
    ids=shown,
)
def test_nothing_beside_a_profile_widens_it(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        forge.access_tokens(**options)


def test_a_profile_can_be_narrowed() -> None:
    text = typed("at+jwt", cnf={})
    assert accepted(text, profile="fapi2", algorithms=["ES256"])
    assert not accepted(text, profile="fapi2", algorithms=["PS256"])
    assert not accepted(text, profile="fapi2", required_claims=["acr"])
    assert not accepted(typed("JWT"), profile="without_explicit_typing", typ=["at+jwt"])
