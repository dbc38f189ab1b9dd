"""Which JWTs are access tokens of this issuer for this resource: RFC 9068 section 4, RFC 8725."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_middleware import AccessToken, ConfigurationError, Refused
from mtls_middleware.resource_server import JWTAccessTokens, signature
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.ids import shown
from tests.key_server import KeyServer
from tests.resource_server import forge
from tests.resource_server.stack import Stack
from tests.shared import read_json


def refused(text: str, **options: Any) -> bool:
    """Whether the validator refuses; anything but `invalid_token` without a word of the token fails the test."""
    try:
        forge.validate(forge.access_tokens(**options), text)
    except Refused as refusal:
        said = (refusal.code, any(part in repr(refusal) for part in text.split(".") if len(part) > 8))
    else:
        return False
    if said != ("invalid_token", False):
        pytest.fail(f"refused with {said}")
    return True


def with_header(**changes: Any) -> str:
    return forge.token({name: value for name, value in {**forge.HEADER, **changes}.items() if value is not ...})


def with_claims(**changes: Any) -> str:
    return forge.token(payload={name: value for name, value in forge.claims(**changes).items() if value is not ...})


@pytest.mark.standard("H5", "H8")
@pytest.mark.parametrize(
    "algorithm", ["ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
)
def test_every_asymmetric_algorithm_of_rfc_7518_and_rfc_8037_verifies(algorithm: str) -> None:
    issuer = TokenIssuer(algorithm=algorithm)
    assert forge.validate(issuer.access_tokens(), issuer.token()).subject == "user"


# --- the signature, and who may choose how it is checked ---


@pytest.mark.case("111")
@pytest.mark.standard("H5", "H11", "H12")
@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "", "HS256", "RS256", "ES384", "es256", 256, None, ["ES256"]]
)
@pytest.mark.parametrize("signature", ["", "AA", "good"])
def test_the_header_cannot_choose_another_algorithm(algorithm: Any, signature: str) -> None:
    signed, _, good = with_header(alg=algorithm).rpartition(".")
    assert refused(f"{signed}.{good if signature == 'good' else signature}")


PUBLIC_FORMS: dict[str, Callable[[], bytes]] = {
    "PEM": lambda: forge.KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "DER": lambda: forge.KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "point": lambda: forge.KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
    "JWK": lambda: json.dumps(forge.JWK).encode(),
    "JWKS": lambda: json.dumps(forge.JWKS).encode(),
    "empty": lambda: b"",
}


@pytest.mark.case("111")
@pytest.mark.standard("H11")
@pytest.mark.parametrize("form", PUBLIC_FORMS)
@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_a_mac_under_the_public_key_is_no_signature(form: str, algorithm: str) -> None:
    signed = forge.signing_input({**forge.HEADER, "alg": algorithm}, forge.claims())
    mac = hmac.digest(PUBLIC_FORMS[form](), signed.encode(), hashlib.sha256)
    assert refused(f"{signed}.{forge.base64url(mac)}")


@pytest.mark.case("111")
@pytest.mark.standard("H11")
def test_only_the_algorithms_that_were_configured_are_accepted() -> None:
    issuer = TokenIssuer(algorithm="PS256")
    rsa_keys = {"keys": [{name: value for name, value in issuer.jwks["keys"][0].items() if name != "alg"}]}
    assert forge.validate(issuer.access_tokens(jwks=rsa_keys, algorithms=["PS256"]), issuer.token())
    with pytest.raises(Refused):
        forge.validate(issuer.access_tokens(jwks=rsa_keys, algorithms=["RS256", "ES256"]), issuer.token())


@pytest.mark.standard("H11")
def test_a_keys_own_alg_binds_it_to_one_algorithm() -> None:
    issuer = TokenIssuer(algorithm="RS256")
    jwks = {"keys": [{**issuer.jwks["keys"][0], "alg": "PS256"}]}
    with pytest.raises(Refused):
        forge.validate(issuer.access_tokens(jwks=jwks), issuer.token())


@pytest.mark.case("112")
@pytest.mark.standard("H16")
@pytest.mark.parametrize("key_id", [forge.KEY_ID, "attacker", ...])
def test_a_key_that_the_token_brings_along_is_never_used_nor_fetched(
    stack: type[Stack], key_id: Any, mtls_client: IssuedCertificate
) -> None:
    attacker = TokenIssuer(forge.ISSUER)
    with KeyServer(attacker.jwks) as listener:
        brought = {
            "jwk": attacker.jwks["keys"][0],
            "jku": listener.url,
            "x5u": listener.url,
            "x5c": [base64.b64encode(mtls_client.der).decode()],
            "kid": key_id,
        }
        text = attacker.token(certificate=mtls_client, headers=brought)
        outcome = stack(forge.access_tokens()).request(f"Bearer {text}", certificate=mtls_client)
        assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)
        assert listener.requests == 0


@pytest.mark.case("112")
@pytest.mark.standard("H16")
def test_a_well_signed_token_may_carry_them_and_nobody_looks() -> None:
    with KeyServer(forge.JWKS) as listener:
        assert not refused(with_header(jku=listener.url, x5u=listener.url, jwk=forge.JWK, x5c=["AA"]))
        assert listener.requests == 0


@pytest.mark.case("113")
@pytest.mark.standard("H16")
@pytest.mark.parametrize(
    "key_id",
    [
        "../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "k" * 10_000,
        "",
        "FORGE",
        "forge\0",
        ["forge"],
        {"a": 1},
        1,
        True,
        "\ud800",
    ],
    ids=lambda key_id: repr(key_id)[:20],
)
def test_a_key_id_is_looked_up_and_nothing_else(key_id: Any) -> None:
    assert refused(with_header(kid=key_id))


@pytest.mark.case("113")
def test_without_a_key_id_only_a_single_usable_key_can_be_meant() -> None:
    text = with_header(kid=...)
    other = TokenIssuer().jwks["keys"][0]
    assert not refused(text)
    assert not refused(text, jwks={"keys": [forge.JWK, {"kty": "oct", "k": "AA"}]})
    assert refused(text, jwks={"keys": [forge.JWK, other]})


@pytest.mark.case("113")
def test_one_key_id_for_two_keys_is_never_a_guess() -> None:
    ed25519 = {**TokenIssuer(algorithm="EdDSA").jwks["keys"][0], "kid": forge.KEY_ID}
    second = {**TokenIssuer().jwks["keys"][0], "kid": forge.KEY_ID}
    for keys in ([forge.JWK, ed25519], [ed25519, forge.JWK], [forge.JWK, second], [second, forge.JWK]):
        assert refused(forge.token(), jwks={"keys": keys})


@pytest.mark.case("114")
@pytest.mark.parametrize(
    "changes",
    [
        *({"crit": crit} for crit in (["exp"], [], ["x"], ["b64"], "b64", None, {})),
        *({"b64": b64} for b64 in (False, True, None)),
    ],
    ids=str,
)
def test_extensions_of_jws_are_refused(changes: dict[str, Any]) -> None:
    assert refused(with_header(**changes))


@pytest.mark.case("120")
@pytest.mark.standard("H13")
def test_a_signature_over_other_bytes_or_of_another_shape_is_refused() -> None:
    header, payload, signature = forge.token().split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
    r, s = raw[:32], int.from_bytes(raw[32:])
    shapes = {
        "psychic": bytes(64),
        "r and s of one": (b"\0" * 31 + b"\1") * 2,
        "order": order.to_bytes(32) * 2,
        "s plus order": r + (s + order).to_bytes(33),
        "DER": jwt.utils.raw_to_der_signature(raw, SECP256R1()),
        "short": raw[:-1],
        "long": raw + b"\0",
        "half": r,
    }
    for name, shape in shapes.items():
        assert refused(f"{header}.{payload}.{forge.base64url(shape)}"), name
    assert refused(f"{header}.{forge.base64url(json.dumps(forge.claims(sub='admin')).encode())}.{signature}")
    assert not refused(f"{header}.{payload}.{signature}")


@pytest.mark.standard("G3", "G15")
def test_every_failed_check_is_the_same_invalid_token_to_the_client(
    stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    cnf = {"x5t#S256": mtls_client.thumbprint}
    failing = {
        "form": "abc",
        "signature": forge.token()[:-4] + "AAAA",
        "typ": with_header(typ="JWT"),
        "alg": with_header(alg="none"),
        "kid": with_header(kid="unknown"),
        "crit": with_header(crit=["exp"]),
        "iss": with_claims(iss="https://attacker.test", cnf=cnf),
        "aud": with_claims(aud="https://other.test", cnf=cnf),
        "exp": with_claims(exp=1, cnf=cnf),
        "nbf": with_claims(nbf=int(time.time()) + 200, cnf=cnf),
        "missing": with_claims(jti=..., cnf=cnf),
        "scope": with_claims(scope=["a"], cnf=cnf),
        "unbound": with_claims(),
    }
    app = stack(forge.access_tokens())
    outcomes = [app.request(f"Bearer {text}", certificate=mtls_client) for text in failing.values()]
    assert {(each.status, each.error, each.reached) for each in outcomes} == {(401, "invalid_token", False)}
    assert len({(each.body, each.headers["www-authenticate"]) for each in outcomes}) == 1  # which one is for the log


# --- the form ---


@pytest.mark.standard("H17", "H19")
def test_what_is_not_three_parts_of_unpadded_base64url_is_refused() -> None:
    text = forge.token()
    header, payload, signature = text.split(".")
    flattened = json.dumps({"protected": header, "payload": payload, "signature": signature})
    forms = [
        f"{text}=",
        f"{header}=.{payload}.{signature}",
        f"{text}.",
        f".{text}",
        f"{text}.AA.AA",
        f"{header}.{payload}",
    ]
    forms += [
        f"{header}..{signature}",
        flattened,
        text.replace(".", ".."),
        text + "\n",
        text + " ",
        text + "é",
        "",
        ".",
    ]
    forms += [f"{header}.{payload}.{signature[:-1]}+", f"A.{payload}.{signature}", f"{header}.A.{signature}"]
    for form in forms:
        assert refused(form), form


@pytest.mark.standard("H17")
def test_pad_bits_that_are_set_are_refused_also_where_the_signature_covers_them() -> None:
    claims = json.dumps(forge.claims()).encode()
    header, payload = forge.signing_input(forge.HEADER, claims + b" " * ((1 - len(claims)) % 3)).split(".")
    assert len(payload) % 4 == 2
    spelled = payload[:-1] + chr(ord(payload[-1]) + 1)
    for each in (payload, spelled):
        signed = f"{header}.{each}"
        found = refused(f"{signed}.{forge.base64url(forge._ES256.sign(signed.encode('ascii'), forge.KEY))}")
        assert found is (each == spelled)


def test_a_header_that_one_validator_accepts_is_judged_anew_by_another() -> None:
    text = forge.token()
    assert not refused(text)
    assert refused(text, algorithms=["PS256"])
    assert refused(text, typ=["JWT"])
    assert not refused(text)


@pytest.mark.standard("H17")
@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(forge.claims()).encode("utf-16"),
        json.dumps(forge.claims()).encode("utf-8-sig"),
        json.dumps(forge.claims()).encode("utf-32"),
        forge.with_member('"sub": "user", "sub": "admin"').encode(),
        forge.with_member('"iss": "https://attacker.test", "iss": "https://issuer.test"').encode(),
        forge.with_member('"s\\u0075b": "user", "sub": "admin"').encode(),
        forge.with_member('"deep": {"a": 1, "a": 2}').encode(),
        forge.with_member('"x": NaN').encode(),
        forge.with_member('"sub": "\udcff"').encode("utf-8", "surrogateescape"),
        forge.with_member('"x": ' + "[" * 4000 + "]" * 4000).encode(),
        forge.with_member('"x": ' + "1" * 5000).encode(),
        forge.with_member('"x": 01').encode(),
        json.dumps(forge.claims()).encode() + b"{}",
        json.dumps(forge.claims()).encode() + b"\0",
        b"[]",
        b'"text"',
        b"null",
        b"{",
        b"\xff\xfe",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_claims_that_are_not_one_plain_json_object_in_utf_8_are_refused(raw: bytes) -> None:
    assert refused(forge.token(payload=raw))


@pytest.mark.standard("H17")
@pytest.mark.parametrize(
    "raw",
    [
        b'{"alg":"none","alg":"ES256","typ":"at+jwt"}',
        b'{"typ":"JWT","typ":"at+jwt","alg":"ES256"}',
        b"[]",
        b"1",
        b"{",
        b"\xff",
        json.dumps(forge.HEADER).encode("utf-16"),
        b'{"typ":"at+jwt","alg":"ES256","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_a_header_that_is_not_one_plain_json_object_is_refused(raw: bytes) -> None:
    assert refused(forge.token(raw))


# --- the type ---


@pytest.mark.standard("H1", "H2")
@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "at+JWT", "application/at+jwt", "Application/AT+jwt"])
def test_typ_is_a_media_type_and_compared_without_case(typ: str) -> None:
    assert not refused(with_header(typ=typ))


@pytest.mark.standard("F14", "H1", "H18")
@pytest.mark.parametrize(
    "typ",
    [
        ...,
        "JWT",
        "jwt",
        "",
        "at",
        "jwt+at",
        "at+jwt ",
        "text/at+jwt",
        "application/application/at+jwt",
        "at+jwt;q=1",
        "dpop+jwt",
        "token-introspection+jwt",
        "logout+jwt",
        "id_token",
        "client-authentication+jwt",
        None,
        1,
        ["at+jwt"],
        "at+jwt\0",
        "at+\u212awt",
    ],
)
def test_any_other_type_is_not_an_access_token(typ: Any) -> None:
    assert refused(with_header(typ=typ))


# --- the claims ---


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


def test_fewer_claims_may_be_required_but_never_fewer_than_iss_exp_and_aud() -> None:
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


# --- construction ---


@pytest.mark.parametrize(
    "options",
    [
        {"issuer": ""},
        {"issuer": None},
        {"issuer": b"https://issuer.test"},
        {"audience": ""},
        {"audience": ["https://api.test"]},
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
    found = forge.access_tokens().validate(forge.token(), time.time())
    assert isinstance(found, AccessToken)
    assert found.subject == "user"


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


# --- other people's vectors: JWS that are no access tokens, so they may fail for their claims, for nothing before ---


def signature_holds(monkeypatch: pytest.MonkeyPatch, text: str, *keys: dict[str, Any]) -> bool:
    """Whether our reader accepts header, key and signature, told from its evidence: the payload cannot be claims."""
    public = [{name: value for name, value in key.items() if name not in _PRIVATE} for key in keys]
    monkeypatch.setattr(signature, "_json_object", _with_type)
    try:
        tokens = forge.access_tokens(jwks={"keys": public})
    except ConfigurationError:
        return False
    with pytest.raises(Refused) as refusal:
        forge.validate(tokens, text)
    return refusal.value.evidence[0].startswith(("not a JSON object", "without "))


def _with_type(data: bytes) -> dict[str, Any]:
    """The reader's own, with the one thing that all these headers lack."""
    return {"typ": "at+jwt", **_json_object(data)}


_json_object = signature._json_object
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth"}

# What we leave to the issuer: the fingerprint of Infineon's weak RSA generator (ROCA, CVE-2017-15361).
NOT_DETECTED = "rejectsKeyWithRocaVulnerability"


def wycheproof() -> list[Any]:
    found = []
    for name in ("signature", "crypto", "key"):
        for group in read_json(f"vectors/wycheproof-jose/json_web_{name}_test.json").get("testGroups", ()):
            key = group.get("public") or group.get("private") or {}
            for test in group["tests"]:
                if isinstance(test.get("jws"), str) and test["comment"] != NOT_DETECTED:
                    label = f"{name}-{test['tcId']}-{test['comment']}"
                    found.append(pytest.param(test["jws"], key.get("keys", [key]), test["result"], id=label))
    return found


@pytest.mark.shared
@pytest.mark.case("111", "120")
@pytest.mark.standard("H5", "H13")
@pytest.mark.parametrize(("text", "keys", "result"), wycheproof())
def test_wycheproofs_invalid_signatures_and_keys_are_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, keys: list[Any], result: str
) -> None:
    if signature_holds(monkeypatch, text, *keys):
        assert result == "valid"
    else:
        assert result == "invalid" or not readable(text, keys)


def readable(text: str, keys: list[dict[str, Any]]) -> bool:
    """Whether we mean to accept it where it is valid: no MAC, something in it, and the key's own alg (row H11)."""
    header, payload, _ = text.split(".")
    algorithm = json.loads(base64.urlsafe_b64decode(header + "=="))["alg"]
    return bool(payload) and all(key["kty"] != "oct" and key.get("alg", algorithm) == algorithm for key in keys)


@pytest.mark.shared
@pytest.mark.standard("H5")
def test_the_signatures_of_rfc_7520_and_rfc_8037_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    example = read_json("vectors/jose-rfc/thumbprints.json")["RFC 8037 A.4"]
    assert signature_holds(monkeypatch, example["jws"], example["jwk"])
    assert not signature_holds(monkeypatch, example["jws"][:-4] + "AAAA", example["jwk"])
    for name in ("4_1.rsa_v15_signature", "4_2.rsa-pss_signature", "4_3.ecdsa_signature"):
        found = read_json(f"vectors/jose-rfc/cookbook/jws/{name}.json")
        assert signature_holds(monkeypatch, found["output"]["compact"], found["input"]["key"]), name
        assert not signature_holds(monkeypatch, json.dumps(found["output"]["json"]), found["input"]["key"]), name


@pytest.mark.shared
@pytest.mark.case("114")
@pytest.mark.standard("H5", "H12")
@pytest.mark.parametrize("name", ["jws/4_4.hmac-sha2_integrity_protection", "rfc7797/4.2.hmac-sha2_b64_false"])
def test_macs_and_unencoded_payloads_of_the_cookbook_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = read_json(f"vectors/jose-rfc/cookbook/{name}.json")
    parts = found["output"]["json_flat"]
    payload = forge.base64url(found["input"]["payload"].encode())
    for text in (f"{parts['protected']}.{payload}.{parts['signature']}", json.dumps(parts)):
        assert not signature_holds(monkeypatch, text, forge.JWK, found["input"]["key"])
