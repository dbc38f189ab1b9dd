"""Which keys and signatures are strong enough."""

import time

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.validation import TrustStore
from tests.validation.unusual_certificates import RSA_1024, RSA_E3, Authority, signed
from tests.validation.verdicts import reasons

NOW = time.time()


@pytest.mark.case("075")
@pytest.mark.parametrize(
    ("key", "word"),
    [
        (RSA_1024, "1024 bits"),
        (RSA_E3, "exponent"),
        (ec.generate_private_key(ec.SECP224R1()), "secp224r1"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (dsa.generate_private_key(2048), "DSA"),
    ],
    ids=["RSA-1024", "RSA with e=3", "P-224", "secp256k1", "DSA"],
)
def test_weak_keys_of_clients_are_refused(ca, store, key, word):
    assert word in " ".join(reasons(store, signed(ca, key), NOW))


def test_ed448_keys_of_clients_are_strong_enough(ca, store):
    assert reasons(store, signed(ca, ed448.Ed448PrivateKey.generate()), NOW) == ()


@pytest.mark.case("075")
def test_only_strong_keys_and_current_hashes_sign_certificates():
    client = ec.generate_private_key(ec.SECP256R1())
    strong = Authority(rsa.generate_private_key(65537, 2048))
    store = TrustStore([strong.certificate])
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    assert reasons(store, signed(strong, client), NOW) == ()
    assert reasons(store, signed(strong, client, hashes.SHA384()), NOW) == ()
    assert reasons(store, signed(strong, client, scheme=pss), NOW) == ()
    assert reasons(store, signed(strong, client, hashes.SHA224()), NOW) != ()
    for key in (RSA_1024, RSA_E3, ec.generate_private_key(ec.SECP224R1())):
        with pytest.raises(ConfigurationError, match=r"can never validate a client .*key"):
            TrustStore([Authority(key).certificate])


@pytest.mark.case("075")
def test_an_authority_with_an_edwards_key_is_refused_and_documented():
    edwards = Authority(ed25519.Ed25519PrivateKey.generate(), None)
    with pytest.raises(ConfigurationError, match="unsupported type: Ed25519PublicKey"):
        TrustStore([edwards.certificate])
