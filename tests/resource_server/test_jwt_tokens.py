"""Which JWTs are access tokens of this issuer for this resource: RFC 9068 section 4, RFC 8725."""

import time
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, Refused
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.testing import TokenIssuer
from tests.ids import shown
from tests.resource_server import forge
from tests.resource_server.handmade_tokens import refused, with_claims, with_header


@pytest.mark.standard("A17", "H4", "H7", "H15")
@pytest.mark.parametrize("name", ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"])
@pytest.mark.parametrize("value", [..., None, [], {}, True], ids=shown)
def test_every_claim_of_rfc_9068_must_be_there_and_of_its_type(name: str, value: Any) -> None:
    assert refused(with_claims(**{name: value}))


@pytest.mark.case("116")
@pytest.mark.standard("H3")
@pytest.mark.parametrize(
    "issuer",
    [
        f"{forge.ISSUER}/",
        "https://issuer.tes",
        "https://issuer",
        "HTTPS://ISSUER.TEST",
        [forge.ISSUER],
        f" {forge.ISSUER}",
        "",
        f"{forge.ISSUER}\0",
        "https://issuer.test:443",
        "https://attacker.test",
        1,
        None,
        {"https://issuer.test": 1},
    ],
    ids=shown,
)
def test_the_issuer_is_compared_character_by_character(issuer: Any) -> None:
    assert refused(with_claims(iss=issuer))
    assert refused(forge.token(), issuer=f"{forge.ISSUER}/")


@pytest.mark.case("116")
@pytest.mark.standard("A21", "H4", "H15")
@pytest.mark.parametrize(
    "audience",
    [
        "https://api.tes",
        "https://api.test/",
        "https://other.test",
        "",
        [],
        ["https://other.test"],
        1,
        None,
        True,
        ["https://api.test/"],
        {"https://api.test": 1},
        [["https://api.test"]],
        "https://api.test https://other.test",
        "HTTPS://API.TEST",
    ],
    ids=shown,
)
def test_a_token_for_another_resource_is_refused(audience: Any) -> None:
    assert refused(with_claims(aud=audience))


@pytest.mark.standard("H4")
@pytest.mark.parametrize(
    "audience", [forge.AUDIENCE, [forge.AUDIENCE], ["https://other.test", forge.AUDIENCE]], ids=shown
)
def test_the_audience_is_a_text_or_a_list_that_holds_this_resource(audience: Any) -> None:
    assert not refused(with_claims(aud=audience))


TIMES = {
    "exp missing": forge.with_member('"exp_": 1', exp=0).replace('"exp": 0, ', ""),
    **{
        f"{name} {value}": forge.with_member(f'"{name}": {value}')
        for name in ("exp", "nbf", "iat")
        for value in ('"4102444800"', "1e400", "-1e400", "true", "null", "[]", "{}", "1" * 400, "99999999999999")
    },
}


@pytest.mark.case("117")
@pytest.mark.standard("H6")
@pytest.mark.parametrize("claims", TIMES.values(), ids=[name[:24] for name in TIMES])
def test_times_are_finite_json_numbers_within_the_calendar(claims: str) -> None:
    assert refused(forge.token(payload=claims))


@pytest.mark.case("117")
@pytest.mark.standard("H6")
@pytest.mark.parametrize(
    ("claims", "leeway", "late", "accepted"),
    [
        ({"exp": 1000}, 0, 999.9, True),
        ({"exp": 1000}, 0, 1000, False),
        ({"exp": 1000}, 60, 1059.9, True),
        ({"exp": 1000}, 60, 1060, False),
        ({"exp": 1000.5}, 0, 1000.4, True),
        ({"exp": -1}, 0, 999, False),
        ({"exp": 2000, "nbf": 1061}, 60, 1000, False),
        ({"exp": 2000, "nbf": 1060}, 60, 1000, True),
        ({"exp": 2000, "nbf": 1010}, 10, 1000, True),
        ({"exp": 2000, "iat": 1061}, 60, 1000, False),
        ({"exp": 2000, "iat": 1011}, 10, 1000, False),
        ({"exp": 2000, "iat": 1010}, 10, 1000, True),
    ],
)
def test_time_is_checked_to_the_second_on_first_and_later_sight(
    claims: dict[str, Any], leeway: float, late: float, accepted: bool
) -> None:
    tokens = forge.access_tokens(leeway=leeway)
    text = with_claims(**{"iat": 900, **claims})
    for _ in range(2):  # the second answer comes from what is remembered
        if accepted:
            assert forge.validate(tokens, text, late)
        else:
            with pytest.raises(Refused):
                forge.validate(tokens, text, late)


@pytest.mark.case("117", "125")
def test_a_remembered_token_is_refused_outside_of_its_time() -> None:
    tokens, text = forge.access_tokens(leeway=0), with_claims(iat=1000, exp=2000)
    assert forge.validate(tokens, text, 1500)
    for now in (999, 2000):
        with pytest.raises(Refused):
            forge.validate(tokens, text, now)
    assert forge.validate(tokens, text, 1999)


@pytest.mark.standard("H10", "H18")
@pytest.mark.parametrize(
    "claims",
    [{"scope": ["a", "b"]}, {"scope": None}, {"scope": 1}, {"sub": 1}, {"client_id": ["x"]}, {"jti": 1}],
    ids=shown,
)
def test_texts_among_the_claims_are_texts(claims: dict[str, Any]) -> None:
    assert refused(with_claims(**claims))


def test_iss_exp_and_aud_are_required_whatever_the_setting() -> None:
    lean = dict.fromkeys(("sub", "client_id", "iat", "jti"), ...)
    assert not refused(with_claims(**lean), required_claims=())
    for name in ("iss", "exp", "aud"):
        assert refused(with_claims(**{name: ...}), required_claims=())
    assert refused(with_claims(), required_claims=("acr",))


def test_another_type_can_be_configured_and_then_alone_is_accepted() -> None:
    assert not refused(with_header(typ="JWT"), typ=["JWT"])
    assert refused(forge.token(), typ=["JWT"])


@pytest.mark.standard("H18")
@pytest.mark.parametrize("name", ["nonce", "at_hash", "c_hash", "s_hash", "events"])
def test_a_type_that_id_tokens_share_lets_no_id_token_through(name: str) -> None:
    plain = forge.token({**forge.HEADER, "typ": "JWT"}, forge.claims(**{name: "x"}))
    assert refused(plain, typ=["JWT"])
    assert refused(plain, typ=["at+jwt", "JWT"])
    assert not refused(with_claims(**{name: "x"}), typ=["at+jwt", "JWT"])


@pytest.mark.parametrize(
    "options",
    [
        {"issuer": ""},
        {"issuer": None},
        {"issuer": b"https://issuer.test"},
        {"audience": ""},
        {"audience": []},
        {"algorithms": []},
        {"algorithms": ["none"]},
        {"algorithms": ["HS256"]},
        {"algorithms": ["ES256", "HS256"]},
        {"algorithms": "ES256"},
        {"algorithms": ["es256"]},
        {"leeway": -1},
        {"leeway": 61},
        {"leeway": float("nan")},
        {"leeway": "10"},
        {"typ": []},
        {"typ": "at+jwt"},
        {"typ": [1]},
        {"required_claims": "acr"},
        {"required_claims": [1]},
        {"jwks": None},
        {"jwks_uri": "https://issuer.test/jwks"},
        {"jwks": {}},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}},
        {"jwks": "https://issuer.test/jwks"},
        {"jwks": None, "jwks_uri": ""},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        forge.access_tokens(**options)


def test_with_its_own_keys_a_validator_asks_for_nothing() -> None:
    flow = forge.access_tokens().validate(forge.token(), time.time())
    with pytest.raises(StopIteration) as ended:  # the flow yields no need
        next(flow)
    assert ended.value.value.subject == "user"


@pytest.mark.standard("H14")
def test_two_issuers_with_one_key_id_keep_their_keys_apart() -> None:
    ours, theirs = TokenIssuer("https://a.test"), TokenIssuer("https://b.test")
    shared_id = {"kid": "1"}
    validators = [
        JWTAccessTokens(
            issuer=each.issuer, audience=each.audience, jwks={"keys": [{**each.jwks["keys"][0], **shared_id}]}
        )
        for each in (ours, theirs)
    ]
    for signer in (ours, theirs):
        for validator, issuer in zip(validators, (ours, theirs), strict=True):
            text = signer.token(headers=shared_id, claims={"iss": issuer.issuer})
            if signer is issuer:
                assert forge.validate(validator, text)
            else:
                with pytest.raises(Refused):
                    forge.validate(validator, text)
