"""Hostile octets: whatever a certificate or a list becomes by accident or malice, the answer is one of ours."""

import base64
import json
import ssl
import time
import warnings

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.servers.extension import first_certificate
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import SpiffeTrust, TrustStore
from mtls_middleware.validation.crl import StatusRequest, parse
from mtls_middleware.validation.ocsp_response import Requirements, UnusableOCSPResponse, build_request, verify
from mtls_middleware.validation.spiffe_bundles import read_jwks
from mtls_middleware.validation.trust_files import read_certificates
from tests.validation.authority import crl
from tests.validation.responder import respond
from tests.validation.verdicts import reasons

NOW = time.time()

CA = CertificateAuthority()
BELOW = CA.intermediate()
CLIENT = BELOW.issue(
    "CN=billing,O=Acme",
    dns=["billing.internal"],
    uris=["spiffe://acme.internal/billing"],
    ip_addresses=["10.0.0.1"],
    emails=["a@b.example"],
)
# The count of unused bits in the BIT STRING of a signature is not signed. If the last bit is 1, only 0 is valid.
LIST = next(each for each in iter(lambda: crl(CA, [3, 4, 5], now=NOW), None) if each[-1] % 2)
flips = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4)


def mutated(octets, changes):
    found = bytearray(octets)
    for position, value in changes:
        found[position % len(found)] = value
    return bytes(found)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(flips, flips, st.sampled_from(["leaf", "chain", "both"]))
def test_mutated_certificates_are_refused_in_our_words(leaf_changes, chain_changes, which):
    der, (above,) = CLIENT.der, (each.public_bytes(Encoding.DER) for each in CLIENT.chain)
    if which != "chain":
        der = mutated(der, leaf_changes)
    if which != "leaf":
        above = mutated(above, chain_changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            certificate = ClientCertificate.from_der(der, chain=(above,))
        except MalformedCertificate:
            return
        accepted = reasons(TrustStore([CA.certificate]), certificate, NOW) == ()
    assert not accepted or (der == CLIENT.der and above == CLIENT.chain[0].public_bytes(Encoding.DER))


@settings(max_examples=400)
@given(flips)
def test_mutated_lists_are_refused_in_our_words(changes):
    octets = mutated(LIST, changes)
    try:
        found = parse(octets)
    except ValueError:
        return
    assert octets == LIST or not found.is_signed_by_issuer(StatusRequest(CA.certificate, CA.certificate))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_octets_are_rejected_as_a_list(octets):
    with pytest.raises(ValueError, match=r"\w"):
        parse(octets)


def of_an_unknown_version():
    """The DER of a certificate of version 8: `cryptography` raises an exception that is no `ValueError`."""
    der = CLIENT.der
    version = b"\xa0\x03\x02\x01\x02"
    assert der.count(version) == 1
    return der.replace(version, version[:-1] + b"\x07")


def test_a_bundle_with_a_certificate_of_an_unknown_version_is_none(tmp_path):
    text = base64.b64encode(of_an_unknown_version()).decode()
    bundle = json.dumps({"keys": [{"use": "x509-svid", "x5c": [text]}]})
    with pytest.raises(ValueError, match="certificate in x5c cannot be read"):
        read_jwks(bundle.encode())
    (tmp_path / "bundle.json").write_text(bundle)
    with pytest.raises(ConfigurationError, match=r"bundle\.json"):
        SpiffeTrust({"acme.internal": [tmp_path / "bundle.json"]})


def test_a_file_with_a_certificate_of_an_unknown_version_holds_none(tmp_path):
    pem = ssl.DER_cert_to_PEM_cert(of_an_unknown_version())
    with pytest.raises(ValueError, match=r"\S"):
        read_certificates(pem.encode())
    (tmp_path / "ca.pem").write_text(pem)
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        TrustStore([tmp_path / "ca.pem"])
    assert first_certificate(tmp_path / "ca.pem") is None


REQUEST = build_request(StatusRequest(CLIENT.x509, BELOW.certificate), hashes.SHA256(), b"n" * 32)
RESPONSE = respond(BELOW, ocsp.load_der_ocsp_request(REQUEST.der))


@settings(max_examples=400)
@given(flips)
def test_mutated_ocsp_responses_are_never_good(changes):
    octets = mutated(RESPONSE, changes)
    try:
        verify(octets, REQUEST, BELOW.certificate, NOW, Requirements())
    except UnusableOCSPResponse:
        return
    # ECDSA signatures can be changed only to the other valid signature, and the certificates are not signed.
    assert load(octets) == load(RESPONSE)


def load(octets):
    return ocsp.load_der_ocsp_response(octets).tbs_response_bytes


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_octets_are_rejected_as_an_ocsp_response(octets):
    with pytest.raises(UnusableOCSPResponse):
        verify(octets, REQUEST, BELOW.certificate, NOW, Requirements())
