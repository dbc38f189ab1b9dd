"""X.509-SVIDs against the bundle of their own trust domain, and what a bundle may be."""

import base64
import json
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.cache import CacheMemory, caches_of
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import OCSP, SpiffeTrust
from mtls_middleware.validation.spiffe_bundles import read_jwks
from tests import shared
from tests.ids import shown
from tests.validation.unusual_certificates import usage
from tests.validation.verdicts import reasons

NOW = time.time()
ID = "spiffe://acme.internal/billing"
GO = shared.ROOT / "vectors" / "spiffe" / "go-spiffe"
PY = shared.ROOT / "vectors" / "spiffe" / "py-spiffe" / "testutils"


@pytest.fixture(scope="module")
def acme():
    return CertificateAuthority("CN=Acme")


@pytest.fixture(scope="module")
def partner():
    return CertificateAuthority("CN=Partner")


@pytest.fixture(scope="module")
def trust(acme, partner):
    return SpiffeTrust({"acme.internal": [acme.certificate], "partner.example": [partner.certificate]})


@pytest.mark.standard("N1", "N8")
def test_an_svid_of_a_known_domain_is_validated(acme, partner, trust):
    assert reasons(trust, acme.issue("", uris=[ID]), NOW) == ()
    assert reasons(trust, acme.intermediate().issue(uris=[ID], dns=["billing.internal"]), NOW) == ()
    assert reasons(trust, partner.issue(uris=["spiffe://partner.example/a"]), NOW) == ()


def test_all_domains_share_the_memory_of_their_stack(acme, partner):
    ocsp = OCSP("http://ocsp.test")
    bundles = {"acme.internal": [acme.certificate], "partner.example": [partner.certificate]}
    validating = SpiffeTrust(bundles).with_clock_skew(60)
    memory = CacheMemory(100_000)
    for cache in caches_of(validating):
        cache.share(memory)
    for ca, domain in ((acme, "acme.internal"), (partner, "partner.example")):
        assert reasons(validating, ca.issue(uris=[f"spiffe://{domain}/billing"]), NOW) == ()
    assert len(memory) == 2
    assert [each for each in caches_of(SpiffeTrust(bundles, revocation=ocsp)) if each in ocsp.caches] == [*ocsp.caches]


@pytest.mark.standard("N8")
@pytest.mark.case("101")
def test_an_id_is_checked_against_its_own_domain_s_bundle_alone(acme, partner, trust):
    assert reasons(trust, partner.issue(uris=[ID]), NOW) != ()
    assert reasons(trust, acme.issue(uris=["spiffe://partner.example/a"]), NOW) != ()
    for domain in ("acme.internal.evil", "evil.acme.internal", "acme", "unknown.example"):
        found = reasons(trust, acme.issue(uris=[f"spiffe://{domain}/billing"]), NOW)
        assert "no bundle" in found[1]


@pytest.mark.standard("N1", "N2", "N3", "N9", "N10", "N11")
@pytest.mark.case("101")
@pytest.mark.parametrize(
    "uris",
    [
        [],
        [ID, ID],
        [ID, "spiffe://acme.internal/other"],
        [ID, "https://acme.internal/"],
        ["https://acme.internal/billing"],
        ["spiffe://acme.internal"],
        ["spiffe://acme.internal/"],
        ["spiffe://ACME.internal/billing"],
        ["SPIFFE://acme.internal/billing"],
        ["spiffe://acme.internal/billing/"],
        ["spiffe://acme.internal/a/../billing"],
        ["spiffe://acme.internal/bil%6cing"],
        ["spiffe://acme.internal:8443/billing"],
        ["spiffe://u@acme.internal/billing"],
        ["spiffe://acme.internal/billing?x"],
        ["spiffe://acme.internal/billing#x"],
        ["spiffe://acme.internal/" + "a" * 2048],
    ],
    ids=lambda uris: shown(uris)[:60],
)
def test_a_certificate_without_exactly_one_id_is_not_an_svid(acme, trust, uris):
    assert reasons(trust, acme.issue(uris=uris), NOW) != ()


@pytest.mark.shared
@pytest.mark.case("101")
@pytest.mark.standard("N9", "N10", "N11")
def test_no_invalid_id_of_the_vectors_is_one(acme):
    vectors = shared.read_json("vectors/spiffe/spiffe-ids.json")
    texts = [text for text in vectors["invalid"] if text.isascii() and text.isprintable()]
    assert len(texts) > 20
    wide = SpiffeTrust({"trustdomain": [acme.certificate], "acme.internal": [acme.certificate]})
    for text in texts:
        try:
            certificate = acme.issue(uris=[text])
        except ValueError:
            continue
        assert reasons(wide, certificate, NOW) != (), text


@pytest.mark.standard("N4", "N5", "N6", "N13")
def test_usage_of_an_svid(acme, trust):
    critical = True
    assert (
        reasons(trust, acme.issue(uris=[ID], extensions=[(usage("digital_signature", "key_agreement"), critical)]), NOW)
        == ()
    )
    for extensions in (
        [(usage("digital_signature"), False)],
        [(usage("key_agreement"), critical)],
        [(usage("digital_signature", "key_cert_sign"), critical)],
        [(usage("digital_signature", "crl_sign"), critical)],
        [(x509.BasicConstraints(ca=True, path_length=None), critical)],
    ):
        assert reasons(trust, acme.issue(uris=[ID], extensions=extensions), NOW) != ()
    assert reasons(trust, acme.issue(uris=[ID], ca=True), NOW) != ()


@pytest.mark.standard("N7")
def test_extended_key_usage_of_an_svid_has_client_auth(acme, trust):
    assert reasons(trust, acme.issue(uris=[ID], extended_key_usage=("client", "server")), NOW) == ()
    assert reasons(trust, acme.issue(uris=[ID], extended_key_usage=()), NOW) == ()
    assert reasons(trust, acme.issue(uris=[ID], extended_key_usage=("server",)), NOW) != ()


@pytest.mark.shared
@pytest.mark.standard("N3", "N4", "N5", "N6", "N13")
@pytest.mark.parametrize("folder", [GO / "x509svid", PY], ids=["go-spiffe", "py-spiffe"])
def test_svids_of_other_libraries(folder):
    """The vectors bring no bundle: whatever issued the certificate is taken for one where it is there."""
    seen = set()
    for path in sorted(folder.glob("*wrong*.pem")):
        certificate = ClientCertificate.from_pem(path.read_bytes())
        roots = [x509.load_der_x509_certificate(each) for each in certificate.chain] or [certificate.x509]
        trust = SpiffeTrust(dict.fromkeys(("example.org", "domain.test", "test.domain", "example.com"), roots))
        moment = max(each.not_valid_before_utc.timestamp() for each in (certificate.x509, *roots)) + 1
        assert reasons(trust, certificate, moment) != ()
        seen.add(path.name)
    assert len(seen) >= 6


@pytest.mark.shared
@pytest.mark.parametrize(
    "path", sorted(GO.glob("x509svid/good*.pem")) + sorted(PY.glob("*good*.pem")), ids=lambda path: path.name
)
def test_good_svids_of_other_libraries_are_svids(path):
    certificate = ClientCertificate.from_pem(path.read_bytes())
    assert certificate.spiffe_id is not None
    domain = certificate.spiffe_id.split("/")[2]
    other = SpiffeTrust({domain: [CertificateAuthority().certificate]})
    found = reasons(other, certificate, certificate.not_valid_before.timestamp() + 1)
    assert found
    assert not any("SPIFFE" in each or "SVID" in each or "keyUsage" in each for each in found)


@pytest.mark.shared
def test_broken_svids_of_other_libraries_are_malformed():
    paths = [GO / "x509svid" / "corrupt-cert.pem", GO / "x509svid" / "not-pem", PY / "corrupted"]
    for path in paths:
        with pytest.raises(MalformedCertificate):
            ClientCertificate.from_pem(path.read_bytes())


@pytest.mark.shared
@pytest.mark.standard("N12")
@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("spiffebundle/spiffebundle_valid_1.json", True),
        ("spiffebundle/spiffebundle_valid_2.json", True),
        ("spiffebundle/spiffebundle_missing_kid.json", True),  # the kid of a JWT key, which is not ours to use
        ("spiffebundle/spiffebundle_multiple_x509.json", False),
        ("spiffebundle/spiffebundle_no_keys.json", False),
        ("x509bundle/cert.pem", True),
        ("x509bundle/certs.pem", True),
        ("x509bundle/corrupted.pem", False),
        ("x509bundle/empty.pem", False),
        ("x509bundle/not-pem.pem", False),
    ],
)
def test_bundles_of_other_libraries(name, good):
    if good:
        SpiffeTrust({"domain.test": [GO / name]})
    else:
        with pytest.raises(ConfigurationError):
            SpiffeTrust({"domain.test": [GO / name]})


def jwk(certificate, **changes):
    x5c = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
    return {"use": "x509-svid", "kty": "EC", "x5c": x5c} | changes


@pytest.mark.standard("N12")
def test_a_jwk_bundle_is_a_bundle(acme, partner, tmp_path):
    path = tmp_path / "bundle.json"
    jwt, without = {"use": "jwt-svid", "kid": "a", "kty": "EC"}, jwk(partner.certificate)
    del without["x5c"]
    path.write_text(json.dumps({"keys": [jwt, without, jwk(acme.certificate)], "spiffe_sequence": 3}))
    trust = SpiffeTrust({"acme.internal": [path]})
    assert reasons(trust, acme.issue(uris=[ID]), NOW) == ()
    assert reasons(trust, partner.issue(uris=[ID]), NOW) != ()


@pytest.mark.standard("N12")
@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"keys": None},
        {"keys": ["a"]},
        {"keys": []},
        {"keys": [{"use": "x509-svid", "x5c": []}]},
        {"keys": [{"use": "x509-svid", "x5c": ["AAAA", "AAAA"]}]},
        {"keys": [{"use": "x509-svid", "x5c": ["AAAA"]}]},
        {"keys": [{"use": "x509-svid", "x5c": ["%%%"]}]},
        {"keys": [{"use": "x509-svid", "x5c": [5]}]},
        {"keys": [{"use": "x509-svid", "x5c": "AAAA"}]},
    ],
    ids=str,
)
def test_half_a_bundle_is_none(document):
    with pytest.raises(ValueError, match=r"\w"):
        read_jwks(json.dumps(document).encode())


@pytest.mark.parametrize(
    "bundles",
    [
        {},
        ["acme.internal"],
        {"": []},
        {"acme.internal": []},
        {"spiffe://acme.internal": ["a"]},
        {"Acme": ["a"]},
        {5: ["a"]},
    ],
    ids=str,
)
def test_wrong_configuration_is_refused_at_construction(bundles):
    with pytest.raises(ConfigurationError):
        SpiffeTrust(bundles)
