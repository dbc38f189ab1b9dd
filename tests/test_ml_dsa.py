"""Keys of ML-DSA (FIPS 204), as docs/stability.md describes them."""

import base64
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtls_middleware import ClientCertificate, ConfigurationError, Refused, Verification
from mtls_middleware.binding import confirm
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.jwks import parse_text
from mtls_middleware.policy import Subject, Thumbprint
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.token_endpoint import RegisteredClient
from mtls_middleware.validation import TrustStore

KINDS = [mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey]
NOW = datetime.now(UTC)


def certificate(key: Any, signer: Any, subject: str, issuer: str, *, ca: bool) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (subject, issuer)]
    authority = signer.public_key()
    builder = x509.CertificateBuilder(names[1], names[0], key.public_key(), 7, NOW, NOW + timedelta(days=1))
    for extension, critical in (
        (x509.BasicConstraints(ca, None), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), False),
        (x509.KeyUsage(True, *(False,) * 4, ca, ca, *(False,) * 2), True),
    ):
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256() if isinstance(signer, ec.EllipticCurvePrivateKey) else None)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def key(request: pytest.FixtureRequest) -> Any:
    return request.param.generate()


def test_a_certificate_is_attached_named_and_bound(key: Any) -> None:
    der = certificate(key, key, "client", "client", ca=False).public_bytes(Encoding.DER)
    found = ClientCertificate.from_der(der, verification=Verification.BY_PROXY)
    assert found.subject == "CN=client"
    assert Subject("CN=client").holds(found)
    assert Thumbprint(found.thumbprint).holds(found)
    assert confirm({"cnf": {"x5t#S256": found.thumbprint}}, found, "required").thumbprint == found.thumbprint


@pytest.mark.parametrize("which", ["leaf", "authority", "both"])
def test_no_trust_store_accepts_such_a_key(key: Any, which: str) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    leaf, authority = (key if which != "authority" else other), (key if which != "leaf" else other)
    root = certificate(authority, authority, "root", "root", ca=True)
    presented = certificate(leaf, authority, "client", "root", ca=False)
    if which != "leaf":
        with pytest.raises(ConfigurationError, match="MLDSA"):
            TrustStore([root])
        return
    store = TrustStore([root])
    with pytest.raises(Refused) as refusal:
        BlockingDriver().run(
            store.validate(ClientCertificate.from_der(presented.public_bytes(Encoding.DER)), time.time())
        )
    assert refusal.value.code == "client_certificate_refused"


def test_a_key_of_an_issuer_is_left_out(key: Any) -> None:
    public = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    keys = parse_text(f'{{"keys": [{{"kty": "AKP", "alg": "ML-DSA-65", "pub": "{public}"}}]}}')
    assert keys.choose(None, "ML-DSA-65") is None


@pytest.mark.parametrize("algorithm", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
def test_no_token_names_such_an_algorithm(algorithm: str) -> None:
    signing = ec.generate_private_key(ec.SECP256R1())
    jwk = {**jwt.algorithms.ECAlgorithm.to_jwk(signing.public_key(), as_dict=True), "kid": "one"}
    tokens = JWTAccessTokens(issuer="https://as.example", audience="https://api.example", jwks={"keys": [jwk]})
    token = jwt.encode({"iss": "https://as.example"}, signing, "ES256", {"typ": "at+jwt", "kid": "one"})
    header = base64.urlsafe_b64encode(f'{{"alg":"{algorithm}","typ":"at+jwt"}}'.encode()).rstrip(b"=").decode()
    with pytest.raises(Refused, match="alg"):
        BlockingDriver().run(tokens.validate(".".join([header, *token.split(".")[1:]]), time.time()))


def test_no_self_signed_client_registers_such_a_key(key: Any) -> None:
    der = certificate(key, key, "client", "client", ca=False).public_bytes(Encoding.DER)
    entry = {"kty": "AKP", "x5c": [base64.b64encode(der).decode()]}
    with pytest.raises(ConfigurationError, match="requires an entry with a usable x5c"):
        RegisteredClient(
            client_id="billing", token_endpoint_auth_method="self_signed_tls_client_auth", jwks={"keys": [entry]}
        )
