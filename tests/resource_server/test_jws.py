"""The signature of a JWT access token, and who may choose how it is checked: RFC 8725 3.1 to 3.3."""

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

from mtls_middleware import Refused
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.key_server import KeyServer
from tests.resource_server import forge
from tests.resource_server.handmade_tokens import refused, with_claims, with_header
from tests.resource_server.stack import Stack


@pytest.mark.standard("H5", "H8")
@pytest.mark.parametrize(
    "algorithm", ["ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
)
def test_every_asymmetric_algorithm_of_rfc_7518_and_rfc_8037_verifies(algorithm: str) -> None:
    issuer = TokenIssuer(algorithm=algorithm)
    assert forge.validate(issuer.access_tokens(), issuer.token()).subject == "user"


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
def test_a_mac_with_the_public_key_is_not_a_signature(form: str, algorithm: str) -> None:
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
def test_key_urls_in_a_valid_token_header_are_not_fetched() -> None:
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
    for keys in ([forge.JWK, second], [second, forge.JWK]):
        assert refused(forge.token(), jwks={"keys": keys})
    for keys in (
        [forge.JWK, ed25519],
        [ed25519, forge.JWK],
    ):  # RFC 7517 4.5
        assert not refused(forge.token(), jwks={"keys": keys})


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
    assert len({(each.body, each.header("WWW-Authenticate")) for each in outcomes}) == 1  # which one is for the log
