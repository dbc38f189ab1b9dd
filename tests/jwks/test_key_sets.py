"""What may be a key, and where keys may come from."""

import contextlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware import ConfigurationError, jwks
from mtls_middleware.effects.address import check_address
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


def test_an_ignored_key_is_logged_once_with_its_id_its_place_and_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    document = json.dumps({"keys": [{**GOOD, "kid": "enc-1", "use": "enc"}, GOOD]})
    for _ in range(3):
        jwks.parse_text(document, "https://as.example/jwks")
    (line,) = (each.getMessage() for each in caplog.records)
    assert line == "JWK Set of https://as.example/jwks: key 0 with kid 'enc-1' is ignored: not for signatures"
    jwks.parse_text(document, "https://other.example/jwks")
    assert len(caplog.records) == 2


@pytest.mark.parametrize("key_id", ["\x1b[31m\u202e" + "x" * 5_000, 1, None, {"a": 1}])
def test_the_id_of_an_ignored_key_is_escaped_and_cut(key_id: Any, caplog: pytest.LogCaptureFixture) -> None:
    KeySet.parse({"keys": [{**GOOD, "kid": key_id, "use": "enc"}]})
    (line,) = (each.getMessage() for each in caplog.records)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 300


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


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "k", "kid", "alg", "use", "key_ops"]), VALUES
    )
)
def test_no_key_of_any_shape_breaks_the_set(member: dict[str, Any]) -> None:
    assert GOOD["kid"] in [key.key_id for key in KeySet.parse({"keys": [member, GOOD]}).keys]


@settings(max_examples=100)
@given(st.binary() | st.text() | JSON.map(json.dumps))
def test_no_text_of_any_kind_is_more_than_a_value_error(text: Any) -> None:
    with contextlib.suppress(ValueError):
        jwks.parse_text(text)


def test_one_of_many_keys_is_chosen_by_its_id_and_algorithm() -> None:
    keys = KeySet.parse({"keys": [{**GOOD, "kid": str(number)} for number in range(200)]})
    found = keys.choose("150", "ES256")
    assert found
    assert found.key_id == "150"
    assert keys.choose("150", "ES384") is None


RSA = jwk_of(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), "RS256")
RSA_2 = jwk_of(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), "RS256")
EC_2 = jwk_of(ec.generate_private_key(ec.SECP256R1()).public_key(), "ES256")
ED = jwk_of(ed25519.Ed25519PrivateKey.generate().public_key(), "EdDSA")
THRICE = [{**RSA, "alg": name} for name in ("RS256", "RS384", "RS512")]
NO_ID = {"kid": None}

# The keys of a set, the kid and alg of a token, and the position of the key that verifies the token.
CHOICES: dict[str, tuple[list[dict[str, Any]], str | None, str, int | None]] = {
    "one key for three algorithms": (THRICE, "1", "RS256", 0),
    "one key for three algorithms, the last": (THRICE, "1", "RS512", 2),
    "one key for three algorithms, another": (THRICE, "1", "PS256", None),
    "RSA and EC with one id, for EC": ([RSA, GOOD], "1", "ES256", 1),
    "RSA and EC with one id, for RSA": ([GOOD, RSA], "1", "RS256", 1),
    "signature and encryption with one id": ([{**RSA_2, "use": "enc"}, {**RSA, "use": "sig"}], "1", "RS256", 1),
    "one key twice": ([GOOD, GOOD], "1", "ES256", 0),
    "one key twice, with different ids": ([GOOD, {**GOOD, "kid": "2"}], None, "ES256", 0),
    "two EC keys with one id": ([GOOD, EC_2], "1", "ES256", None),
    "two RSA keys with one id": ([RSA, RSA_2], "1", "RS256", None),
    "two RSA keys with one id for different algorithms": (
        [{**RSA, "alg": "RS256"}, {**RSA_2, "alg": "PS256"}], "1", "PS256", 1,
    ),
    "two RSA keys of which one is for any algorithm": ([{**RSA, "alg": "RS256"}, RSA_2], "1", "RS256", None),
    "no id in the token, one key matches": ([RSA, {**GOOD, "kid": "2"}], None, "ES256", 1),
    "no id in the token, two keys match": ([RSA, {**RSA_2, "kid": "2"}], None, "RS256", None),
    "no id in the token, keys for different algorithms": (
        [{**RSA, "alg": "RS256"}, {**RSA_2, "kid": "2", "alg": "PS256"}], None, "RS256", 0,
    ),
    "no id anywhere": ([{**GOOD, **NO_ID}, {**RSA, **NO_ID}], None, "ES256", 0),
    "no id in the set": ([{**GOOD, **NO_ID}], "1", "ES256", None),
    "an unknown id": ([GOOD], "2", "ES256", None),
    "a key for EdDSA, a token with Ed25519": ([{**ED, "alg": "EdDSA"}], "1", "Ed25519", 0),
    "a key for Ed25519, a token with EdDSA": ([{**ED, "alg": "Ed25519"}], "1", "EdDSA", 0),
    "a key without alg, a token with Ed25519": ([ED], "1", "Ed25519", 0),
    "a key for Ed25519, a token with Ed448": ([{**ED, "alg": "Ed25519"}], "1", "Ed448", None),
    "an EC key that says Ed25519": ([{**GOOD, "alg": "Ed25519"}], "1", "Ed25519", None),
}  # fmt: skip


@pytest.mark.parametrize(("members", "key_id", "algorithm", "expected"), CHOICES.values(), ids=CHOICES)
def test_a_key_is_chosen_by_id_type_and_algorithm_together(
    members: list[dict[str, Any]], key_id: str | None, algorithm: str, expected: int | None
) -> None:
    found = KeySet.parse({"keys": members}).choose(key_id, algorithm)
    if expected is None:
        assert found is None
        return
    (wanted,) = KeySet.parse({"keys": [members[expected]]}).keys
    assert found is not None
    assert found.key == wanted.key
    assert algorithm in found.algorithms


@pytest.mark.parametrize(
    "name", ["use", "key_ops", "alg", "kid", "x5c", "x5t", "x5t#S256", "x5u", "d", "p", "ext", "crv", "unknown"]
)
def test_an_optional_member_that_is_null_counts_as_absent(name: str) -> None:
    absent = {key: value for key, value in RSA.items() if key != name}
    assert KeySet.parse({"keys": [{**RSA, name: None}]}) == KeySet.parse({"keys": [absent]})
    assert len(KeySet.parse({"keys": [{**RSA, name: None}]}).keys) == 1


@pytest.mark.parametrize("name", ["kty", "n", "e"])
def test_a_key_whose_required_member_is_null_is_left_out(name: str) -> None:
    assert KeySet.parse({"keys": [{**RSA, name: None}]}).keys == ()


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
    monkeypatch.setattr("mtls_middleware.effects.address.urlsplit", lambda _: pytest.fail("split"))
    with pytest.raises(ConfigurationError, match="not a URL"):
        check_address("jwks_uri", "https://a\u0f73.test", allow_http=False)


def test_a_mapped_loopback_address_is_one_on_every_python() -> None:
    check_address("jwks_uri", "http://[::ffff:127.0.0.1]/jwks", allow_http=True)
    with pytest.raises(ConfigurationError):
        check_address("jwks_uri", "http://[::ffff:10.0.0.1]/jwks", allow_http=True)
