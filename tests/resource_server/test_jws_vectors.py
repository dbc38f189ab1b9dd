"""Other people's vectors: JWS that are no access tokens, so they may fail for their claims, for nothing before."""

import base64
import json
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, Refused, jwks
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.resource_server import jws
from tests.resource_server import forge
from tests.shared import read_json


def signature_holds(monkeypatch: pytest.MonkeyPatch, text: str, *keys: dict[str, Any]) -> bool:
    """Whether the reader accepts header, key and signature. The reason shows it: the payload is not a JSON object."""
    public = [{name: value for name, value in key.items() if name not in _PRIVATE} for key in keys]
    monkeypatch.setattr(jws, "_json_object", _with_type)
    try:
        keys = jwks.StaticKeys({"keys": public})
    except ConfigurationError:
        return False
    accepted = {"algorithms": jwks.ALGORITHMS, "typ": frozenset({"at+jwt"})}
    try:
        driver = BlockingDriver()
        current = driver.run(keys.current(0.0))
        return driver.run(jws.verify_jwt(text, source=keys, keys=current, now=0.0, **accepted)) is not None
    except Refused as refusal:
        return refusal.evidence[0].startswith(("not JSON", "not a JSON object"))


def _with_type(data: bytes) -> dict[str, Any]:
    """The reader's own, with the one thing that all these headers lack."""
    return {"typ": "at+jwt", **_json_object(data)}


_json_object = jws._json_object
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
    """Whether we mean to accept it where it is valid: no MAC, something in it, and the key's own alg."""
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
