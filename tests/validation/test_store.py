"""`TrustStore`: who is validated, who is refused and why, and how it is put together."""

import math
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.policy import Subject
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.validation import TrustStore
from mtls_middleware.wsgi import protect
from tests.validation.unusual_certificates import usage
from tests.validation.verdicts import reasons

NOW = time.time()
CRITICAL = True


@pytest.mark.standard("M1", "M11")
def test_certificates_as_internal_cas_issue_them_are_accepted(ca, store):
    below = ca.intermediate()
    for client in (
        ca.issue("CN=billing,O=Acme"),  # a name and nothing else
        ca.issue("", dns=["billing.internal"]),
        ca.issue(
            "CN=billing", uris=["spiffe://acme.internal/billing"], ip_addresses=["10.0.0.1"], emails=["a@b.example"]
        ),
        ca.issue(key="rsa"),
        ca.issue(key="ed25519"),  # signed by ECDSA
        ca.issue(key=ec.generate_private_key(ec.SECP521R1())),
        ca.issue(extended_key_usage=("server", "client")),
        ca.issue(extensions=[(usage("key_agreement"), CRITICAL)]),
        ca.issue(
            extensions=[
                (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]), False)
            ]
        ),
        below.issue(),
        below.intermediate("CN=Second").issue(),
    ):
        assert reasons(store, client, NOW) == ()


def test_a_root_without_key_usage_as_openssl_req_makes_it_is_a_root(tmp_path):
    import subprocess

    newkey = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    subprocess.run(f"{newkey} -x509 -subj /CN=Own -keyout k -out ca.pem".split(), cwd=tmp_path, check=True)
    (tmp_path / "e").write_text(
        "extendedKeyUsage=clientAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    for line in (
        f"{newkey} -subj /CN=c -keyout ck -out c.csr",
        "openssl x509 -req -in c.csr -CA ca.pem -CAkey k -CAcreateserial -days 3 -extfile e -out c.pem",
    ):
        subprocess.run(line.split(), cwd=tmp_path, check=True, capture_output=True)
    store = TrustStore.from_pem_file(tmp_path / "ca.pem")
    assert reasons(store, ClientCertificate.from_pem((tmp_path / "c.pem").read_bytes()), time.time()) == ()


@pytest.mark.standard("M5", "M6")
@pytest.mark.case("067", "068")
def test_extended_key_usage_names_clients_or_is_absent(ca, store):
    strict = TrustStore([ca.certificate], require_client_auth_eku=True)
    assert reasons(store, ca.issue(extended_key_usage=("server",)), NOW)[1] == "extendedKeyUsage without clientAuth"
    anything = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    assert reasons(store, ca.issue(extensions=[(anything, False)]), NOW) != ()
    absent = ca.issue(extended_key_usage=())
    assert reasons(store, absent, NOW) == ()
    assert reasons(strict, absent, NOW)[1] == "no extendedKeyUsage"
    assert reasons(strict, ca.issue(), NOW) == ()
    of_servers = ca.intermediate(extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)])
    assert reasons(store, of_servers.issue(), NOW) != ()


@pytest.mark.standard("M7")
@pytest.mark.parametrize("names", [("key_encipherment",), ("content_commitment",), ("data_encipherment",)])
def test_key_usage_that_signs_nothing_is_refused(ca, store, names):
    assert (
        reasons(store, ca.issue(extensions=[(usage(*names), CRITICAL)]), NOW)[1] == "keyUsage without digitalSignature"
    )


@pytest.mark.standard("M13")
@pytest.mark.case("069", "073")
def test_no_ca_is_a_client(ca, store):
    assert "a CA certificate cannot be a client certificate" in reasons(store, ca.issue(ca=True), NOW)
    own = ClientCertificate.from_der(ca.certificate.public_bytes(Encoding.DER))
    assert reasons(store, own, NOW)[1] == "a root certificate cannot be a client certificate"
    below = ca.intermediate()
    between = ClientCertificate.from_der(below.certificate.public_bytes(Encoding.DER))
    assert "a CA certificate cannot be a client certificate" in reasons(store, between, NOW)
    for sign in ("key_cert_sign", "crl_sign"):
        assert "keyUsage of a CA" in reasons(
            store, ca.issue(extensions=[(usage("digital_signature", sign), CRITICAL)]), NOW
        )
    reversed_chain = ClientCertificate.from_der(between.der, chain=(below.issue().der,))
    assert reasons(store, reversed_chain, NOW) != ()
    with pytest.raises(ConfigurationError, match=r"roots\[1\] can never validate a client .* it is a leaf"):
        TrustStore([ca.certificate, self_signed("CN=self").x509])


@pytest.mark.standard("M2", "M8")
@pytest.mark.case("070")
def test_only_cas_issue(ca, store):
    no_ca = ca.intermediate(extensions=[(x509.BasicConstraints(ca=False, path_length=None), CRITICAL)])
    no_sign = ca.intermediate(extensions=[(usage("digital_signature"), CRITICAL)])
    short = ca.intermediate(extensions=[(x509.BasicConstraints(ca=True, path_length=0), CRITICAL)])
    assert reasons(store, no_ca.issue(), NOW) != ()
    assert reasons(store, no_sign.issue(), NOW) != ()
    assert reasons(store, short.issue(), NOW) == ()
    assert reasons(store, short.intermediate("CN=Too deep").issue(), NOW) != ()
    client = ca.issue()
    child = CertificateAuthority("CN=child", parent=None)
    forged = ClientCertificate.from_der(child.issue().der, chain=(client.der,))
    assert reasons(store, forged, NOW) != ()


@pytest.mark.case("072")
def test_more_certificates_beside_the_leaf_change_nothing(ca, store):
    victim = ca.issue("CN=admin")
    client = ca.issue("CN=mallory")
    certificate = ClientCertificate.from_der(client.der, chain=(victim.der,))
    assert reasons(store, certificate, NOW) == ()
    assert certificate.subject == "CN=mallory"
    assert not Subject("CN=admin").holds(certificate)


@pytest.mark.standard("M1")
@pytest.mark.case("077")
def test_a_ca_with_the_same_name_and_another_key_does_not_match(ca, store):
    impostor = CertificateAuthority()
    assert impostor.certificate.subject == ca.certificate.subject
    assert reasons(store, impostor.issue(), NOW) != ()
    own = impostor.certificate.public_bytes(Encoding.DER)
    assert reasons(store, ClientCertificate.from_der(impostor.issue().der, chain=(own,)), NOW) != ()
    assert reasons(store, self_signed("CN=Test Client CA,O=Tests"), NOW) != ()
    both = TrustStore([impostor.certificate, ca.certificate])
    assert reasons(both, ca.issue(), NOW) == reasons(both, impostor.issue(), NOW) == ()


@pytest.mark.standard("M1")
@pytest.mark.case("066", "078")
def test_validity_is_inclusive_and_has_no_leeway_unless_configured(ca):
    begins = datetime.fromtimestamp(int(NOW) - 1000, UTC)
    ends = begins + timedelta(seconds=2000)
    client = ca.issue(not_before=begins, not_after=ends)
    first, last = begins.timestamp(), ends.timestamp()
    exact, lenient = TrustStore([ca.certificate]), TrustStore([ca.certificate], leeway=60)
    for moment, inside, nearby in (
        (first, True, True),
        (last, True, True),
        (first - 1, False, True),
        (last + 1, False, True),
        (first - 30, False, True),
        (last + 30, False, True),
        (first - 61, False, False),
        (last + 61, False, False),
    ):
        # Twice: what is remembered says the same.
        assert [reasons(exact, client, moment) == () for _ in range(2)] == [inside] * 2, moment - first
        assert [reasons(lenient, client, moment) == () for _ in range(2)] == [nearby] * 2, moment - first


@pytest.mark.standard("M3")
@pytest.mark.case("076")
def test_an_unprocessed_critical_extension_is_rejected(ca, store):
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])
    explicit = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)
    for each in (unknown, policies):
        assert reasons(store, ca.issue(extensions=[(each, CRITICAL)]), NOW) != ()
        assert reasons(store, ca.intermediate(extensions=[(each, CRITICAL)]).issue(), NOW) != ()
    assert reasons(store, ca.issue(extensions=[(unknown, False)]), NOW) == ()
    for critical in (True, False):
        assert reasons(store, ca.intermediate(extensions=[(explicit, critical)]).issue(), NOW) != ()


def test_the_operator_gets_every_reason(ca, store):
    found = reasons(store, ca.issue(ca=True, extended_key_usage=("server",)), NOW)
    assert "a CA certificate cannot be a client certificate" in found
    assert {"keyUsage of a CA", "extendedKeyUsage without clientAuth"} <= set(found)


def test_what_the_certificate_says_does_not_reach_the_log(ca, store):
    rogue = CertificateAuthority("CN=rogue").issue("CN=surprise")
    assert "surprise" not in " ".join(reasons(store, rogue, NOW))


def test_the_chain_may_come_from_the_client_or_from_configuration(ca):
    below = ca.intermediate()
    alone = ClientCertificate.from_der(below.issue().der)
    assert reasons(TrustStore([ca.certificate]), alone, NOW) != ()
    assert reasons(TrustStore([ca.certificate], intermediates=[below.certificate]), alone, NOW) == ()
    assert reasons(TrustStore([below.certificate]), alone, NOW) == ()  # a sub-CA may be the root
    assert reasons(TrustStore([below.certificate]), ca.issue(), NOW) != ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roots": []}, "contains no certificate"),
        ({"roots": "ca.pem"}, "a list"),
        ({"roots": {"ca.pem": 1}}, "a list"),
        ({"roots": [b"ca.pem"]}, "for example"),
        ({"roots": ["/nowhere/ca.pem"]}, "cannot be read"),
        ({"max_depth": True}, "max_depth"),
        ({"max_depth": 17}, "max_depth"),
        ({"leeway": -1}, "leeway"),
        ({"leeway": 301}, "leeway"),
        ({"leeway": math.nan}, "leeway"),
        ({"revocation": ["ca.crl"]}, "RevocationLists"),
    ],
    ids=str,
)
def test_wrong_configuration_is_refused_at_construction(ca, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        TrustStore(**{"roots": [ca.certificate]} | arguments)


def test_a_layer_takes_the_store(ca, mtls_client, mtls_ca):
    from werkzeug.test import Client
    from werkzeug.wrappers import Response

    from mtls_middleware.sources import ServerTLS

    app = protect(Response("fine"), source=ServerTLS(), trust_store=TrustStore([mtls_ca.certificate]))
    unverified = {"verify": "GENEROUS"}
    assert Client(app).get("/", environ_overrides=mtls_client.as_environ(**unverified)).status_code == 200
    assert Client(app).get("/", environ_overrides=ca.issue().as_environ(**unverified)).status_code == 403
