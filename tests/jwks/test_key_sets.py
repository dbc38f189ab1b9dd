"""What may be a key, and where keys may come from."""

import contextlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware import ConfigurationError, jwks
from mtls_middleware.effects.remote_document import check_address
from mtls_middleware.jwks import FetchedKeys, KeySet


def jwk_of(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    return {**jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True), "kid": "1", **members}


GOOD = jwk_of(ec.generate_private_key(ec.SECP256R1()).public_key(), "ES256")
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
LEFT_OUT: dict[str, Any] = {
    "symmetric": {"kty": "oct", "k": "AAAA", "kid": "1", "alg": "HS256"},
    "private": jwk_of(ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "RSA of 1024 bits": jwk_of(SMALL.public_key(), "RS256"),
    "RSA with exponent 1": {**jwk_of(SMALL.public_key(), "RS256"), "n": "w" * 342 + "Q", "e": "AQ"},
    "RSA without exponent": {"kty": "RSA", "n": "w" * 342 + "Q"},
    "X25519": {"kty": "OKP", "crv": "X25519", "x": GOOD["x"], "kid": "1"},
    "Ed448": jwk_of(ed448.Ed448PrivateKey.generate().public_key(), "EdDSA"),
    "secp256k1": jwk_of(ec.generate_private_key(ec.SECP256K1()).public_key(), "ES256K"),
    "point off the curve": {**GOOD, "y": GOOD["x"]},
    "short coordinate": {**GOOD, "x": "AA"},
    "for encryption": {**GOOD, "use": "enc"},
    "for encryption by key_ops": {**GOOD, "key_ops": ["encrypt"]},
    "for nothing": {**GOOD, "key_ops": []},
    "key_ops a text": {**GOOD, "key_ops": "verify"},
    "key_ops a number": {**GOOD, "key_ops": 1},
    "alg of another type": {**GOOD, "alg": "RS256"},
    "alg of another curve": {**GOOD, "alg": "ES384"},
    "alg symmetric": {**GOOD, "alg": "HS256"},
    "alg a list": {**GOOD, "alg": ["ES256"]},
    "kid a number": {**GOOD, "kid": 1},
    "kty of another type": {**GOOD, "kty": "RSA"},
    "kty unknown": {**GOOD, "kty": "ec"},
    "kty a list": {**GOOD, "kty": ["EC"]},
    "curve unknown": {**GOOD, "crv": "P-512"},
    "curve a list": {**GOOD, "crv": []},
    "coordinate a number": {**GOOD, "x": 1},
    "coordinate not base64": {**GOOD, "x": "!"},
    "empty": {},
    "null": None,
    "list": [],
    "text": "key",
}


@pytest.mark.case("120")
@pytest.mark.parametrize("member", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_key_that_must_not_verify_is_left_out_and_the_others_stay(
    member: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeySet.parse({"keys": [member, {**GOOD, "kid": "2"}, member]})
    assert [key.key_id for key in keys.keys] == ["2"]
    assert len(caplog.records) == 2
    for value in member.values() if isinstance(member, dict) else ():
        assert len(str(value)) < 20 or str(value) not in caplog.text


@pytest.mark.parametrize("document", [None, [], "keys", {}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"Keys": []}])
def test_an_invalid_key_set_is_a_value_error(document: Any) -> None:
    with pytest.raises(ValueError, match="not a JWK Set"):
        KeySet.parse(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
VALUES = JSON | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "X25519", "AQAB", "sig", GOOD["x"]])


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "k", "kid", "alg", "use", "key_ops"]), VALUES
    )
)
def test_no_key_of_any_shape_breaks_the_set(member: dict[str, Any]) -> None:
    assert GOOD["kid"] in [key.key_id for key in KeySet.parse({"keys": [member, GOOD]}).keys]


@settings(max_examples=100, deadline=None)
@given(st.binary() | st.text() | JSON.map(json.dumps))
def test_no_text_of_any_kind_is_more_than_a_value_error(text: Any) -> None:
    with contextlib.suppress(ValueError):
        jwks.parse_text(text)


def test_many_keys_cost_no_more_than_one_to_choose_from() -> None:
    keys = KeySet.parse({"keys": [{**GOOD, "kid": str(number)} for number in range(200)]})
    found = keys.choose("150", "ES256")
    assert found
    assert found.key_id == "150"
    assert keys.choose(None, "ES256") is None
    assert keys.choose("150", "ES384") is None


@pytest.mark.parametrize(
    "address",
    [
        "http://as.example/jwks",
        "http://10.0.0.1/jwks",
        "http://169.254.169.254/latest",
        "http://127.0.0.1.attacker.test/jwks",
        "http://localhost.attacker.test/jwks",
        "http://127.0.0.1@attacker.test/jwks",
        "http://0.0.0.0/jwks",
        "file:///etc/passwd",
        "ftp://127.0.0.1/jwks",
        "//as.example/jwks",
        "as.example/jwks",
        "https://",
        "https:///jwks",
        "https://user:password@as.example/jwks",
        "https://as.example/jwks#fragment",
        "https://as.example:port/jwks",
        "https://[::1/jwks",
        "",
        None,
        b"https://as.example/jwks",
        1,
    ],
)
@pytest.mark.parametrize("allow_http", [False, True])
def test_an_address_other_than_https_is_refused_at_construction(address: Any, allow_http: bool) -> None:
    with pytest.raises(ConfigurationError, match="jwks_uri"):
        FetchedKeys(address, allow_http=allow_http, tls=None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "localhost"])
def test_plain_http_is_for_loopback_alone_and_only_where_allowed(host: str) -> None:
    check_address("jwks_uri", f"http://{host}:8000/jwks", allow_http=True)
    with pytest.raises(ConfigurationError):
        check_address("jwks_uri", f"http://{host}:8000/jwks", allow_http=False)
    check_address("jwks_uri", "https://10.0.0.1/jwks", allow_http=False)  # an authorization server of one's own


@pytest.mark.parametrize(
    "host",
    [
        "[::1].a.test",
        "a[::1]",
        "[v1.a]",
        "[::1",
        "[fe80::1%25eth0]",
        "[1.2.3.4]",
        "u@a.test",
        "%61.test",
        "a;b",
        "[::g]",
    ],
)
def test_a_host_that_python_versions_read_differently_is_rejected(host: str) -> None:
    for allow_http in (True, False):
        with pytest.raises(ConfigurationError):
            check_address("jwks_uri", f"https://{host}/jwks", allow_http=allow_http)


@pytest.mark.parametrize(
    "host", ["a.test", "a_b.test:8443", "10.0.0.1", "[::1]", "[2001:db8::1]:8443", "[::ffff:10.0.0.1]"]
)
def test_names_and_addresses_are_hosts(host: str) -> None:
    check_address("jwks_uri", f"https://{host}/jwks", allow_http=False)


def test_an_address_is_bounded_before_it_is_read() -> None:
    check_address("jwks_uri", f"https://a.test/{'a' * 2_033}", allow_http=False)
    for long in (f"https://a.test/{'a' * 2_034}", "https://a.test" + "\u0f73" * 20_000):
        with pytest.raises(ConfigurationError, match=r"jwks_uri of \d+ characters: expected at most 2048") as error:
            check_address("jwks_uri", long, allow_http=False)
        assert len(str(error.value)) < 200


def test_only_ascii_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """`urlsplit` takes the square of the number of combining marks."""
    monkeypatch.setattr("mtls_middleware.effects.remote_document.urlsplit", lambda _: pytest.fail("split"))
    with pytest.raises(ConfigurationError, match="not a URL"):
        check_address("jwks_uri", "https://a\u0f73.test", allow_http=False)


def test_a_mapped_loopback_address_is_one_on_every_python() -> None:
    check_address("jwks_uri", "http://[::ffff:127.0.0.1]/jwks", allow_http=True)
    with pytest.raises(ConfigurationError):
        check_address("jwks_uri", "http://[::ffff:10.0.0.1]/jwks", allow_http=True)
