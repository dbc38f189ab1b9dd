"""`TrustStore`: who is validated, who is refused and why; what is remembered; how much work a stranger can cause."""

import math
import time
import warnings
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.policy import Subject
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.validation import TrustStore, chain, revocation_list
from mtls_middleware.wsgi import protect
from tests.validation.authority import crl
from tests.validation.judged import reasons

NOW = time.time()
CRITICAL = True


@pytest.fixture(scope="module")
def ca():
    return CertificateAuthority()


@pytest.fixture(scope="module")
def store(ca):
    return TrustStore([ca.certificate])


def usage(*names):
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: name in names for name in every.split()})


def signed(ca, key, digest=None, *, scheme=None, extensions=(), serial=7, drop=()):
    """A client's certificate with what the throwaway CA would not sign."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=client"))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
    )
    usual = [x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())]
    for each in (*usual, *extensions):
        if type(each) not in drop:
            builder = builder.add_extension(each, critical=False)
    return ClientCertificate.from_der(
        builder.sign(ca.key, digest or hashes.SHA256(), rsa_padding=scheme).public_bytes(Encoding.DER)
    )


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
    assert "a CA certificate is no client" in reasons(store, ca.issue(ca=True), NOW)
    own = ClientCertificate.from_der(ca.certificate.public_bytes(Encoding.DER))
    assert reasons(store, own, NOW)[1] == "a root is no client"
    below = ca.intermediate()
    between = ClientCertificate.from_der(below.certificate.public_bytes(Encoding.DER))
    assert "a CA certificate is no client" in reasons(store, between, NOW)
    for sign in ("key_cert_sign", "crl_sign"):
        assert "keyUsage of a CA" in reasons(
            store, ca.issue(extensions=[(usage("digital_signature", sign), CRITICAL)]), NOW
        )
    reversed_chain = ClientCertificate.from_der(between.der, chain=(below.issue().der,))
    assert reasons(store, reversed_chain, NOW) != ()
    leaf = self_signed("CN=self")
    assert reasons(TrustStore([leaf.x509]), leaf, NOW)[1] == "a root is no client"


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
def test_a_ca_of_the_same_name_and_another_key_is_another(ca, store):
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


@pytest.mark.standard("M1")
@pytest.mark.case("079")
def test_a_verdict_dies_with_the_first_certificate_of_its_path(ca):
    until = datetime.fromtimestamp(int(NOW) + 100, UTC)
    below = ca.intermediate(not_after=until)
    store = TrustStore([ca.certificate])
    client = below.issue()
    assert reasons(store, client, NOW) == ()
    assert reasons(store, client, until.timestamp()) == ()
    assert reasons(store, client, until.timestamp() + 1) != ()
    assert reasons(store, client, NOW) == ()


RSA_1024 = rsa.generate_private_key(65537, 1024)
RSA_E3 = rsa.generate_private_key(3, 2048)


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


class RSAAuthority:
    """A root with a key of our choice."""

    def __init__(self, key, digest=None):
        self.key = key
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Own CA")])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, digest)
        )


@pytest.mark.case("075")
def test_signatures_by_rsa_with_sha2_are_accepted_and_older_or_newer_ones_are_not():
    client = ec.generate_private_key(ec.SECP256R1())
    strong = RSAAuthority(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    store = TrustStore([strong.certificate])
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    assert reasons(store, signed(strong, client), NOW) == ()
    assert reasons(store, signed(strong, client, hashes.SHA384()), NOW) == ()
    assert reasons(store, signed(strong, client, scheme=pss), NOW) == ()
    assert reasons(store, signed(strong, client, hashes.SHA224()), NOW) != ()
    for key, digest in (
        (RSA_1024, hashes.SHA256()),
        (RSA_E3, hashes.SHA256()),
        (ec.generate_private_key(ec.SECP224R1()), hashes.SHA256()),
    ):
        weak = RSAAuthority(key, digest)
        assert reasons(TrustStore([weak.certificate]), signed(weak, client), NOW) != ()


@pytest.mark.case("075")
def test_an_authority_with_an_edwards_key_is_refused_and_documented():
    from cryptography.hazmat.primitives.asymmetric import ed25519

    edwards = RSAAuthority(ed25519.Ed25519PrivateKey.generate())
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=client"))
        .issuer_name(edwards.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(edwards.key.public_key()), critical=False)
    )
    client = ClientCertificate.from_der(builder.sign(edwards.key, None).public_bytes(Encoding.DER))
    assert "Forbidden" in reasons(TrustStore([edwards.certificate]), client, NOW)[-1]


@pytest.mark.standard("M3")
@pytest.mark.case("076")
def test_a_critical_extension_that_nobody_processes_is_refused(ca, store):
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0")
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])
    explicit = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)
    for each in (unknown, policies):
        assert reasons(store, ca.issue(extensions=[(each, CRITICAL)]), NOW) != ()
        assert reasons(store, ca.intermediate(extensions=[(each, CRITICAL)]).issue(), NOW) != ()
    assert reasons(store, ca.issue(extensions=[(unknown, False)]), NOW) == ()
    for critical in (True, False):
        assert reasons(store, ca.intermediate(extensions=[(explicit, critical)]).issue(), NOW) != ()


def test_every_reason_is_told_to_the_operator(ca, store):
    found = reasons(store, ca.issue(ca=True, extended_key_usage=("server",)), NOW)
    assert {"a CA certificate is no client", "keyUsage of a CA", "extendedKeyUsage without clientAuth"} <= set(found)


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


@pytest.mark.case("080")
def test_depth_is_limited(ca):
    deep = ca
    for number in range(6):
        deep = deep.intermediate(f"CN=Level {number}")
    client = deep.issue()
    assert reasons(TrustStore([ca.certificate]), client, NOW) != ()
    assert reasons(TrustStore([ca.certificate], max_depth=5), client, NOW) != ()
    assert reasons(TrustStore([ca.certificate], max_depth=6), client, NOW) == ()
    assert reasons(TrustStore([ca.certificate], max_depth=0), ca.intermediate().issue(), NOW) != ()
    assert reasons(TrustStore([ca.certificate], max_depth=0), ca.issue(), NOW) == ()


@pytest.mark.case("080")
def test_a_stranger_s_maze_of_cas_costs_no_more_than_its_certificates(ca, store, monkeypatch):
    key = ec.generate_private_key(ec.SECP256R1())
    maze = [CertificateAuthority() for _ in range(10)]  # named like the root
    for each in maze:  # all of one name and key: each has signed each
        each._own = type(each._own)(signed_as_ca(key, each.certificate), key)
    client = maze[0].issue()
    certificate = ClientCertificate.from_der(
        client.der, chain=tuple(each.certificate.public_bytes(Encoding.DER) for each in maze)
    )
    checks = []
    check = chain._signed
    monkeypatch.setattr(chain, "_signed", lambda *arguments: checks.append(1) or check(*arguments))
    begun = time.process_time()
    assert reasons(store, certificate, NOW) != ()
    assert time.process_time() - begun < 0.5
    assert len(checks) == 10


def signed_as_ca(key, like):
    return (
        x509.CertificateBuilder()
        .subject_name(like.subject)
        .issuer_name(like.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(like.not_valid_before_utc)
        .not_valid_after(like.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


@pytest.mark.case("080")
def test_more_certificates_than_anybody_needs_are_refused_unread(ca, store):
    certificate = ClientCertificate.from_der(ca.issue().der, chain=(b"not even read",) * 11)
    assert "more than 10" in reasons(store, certificate, NOW)[1]
    names = ca.issue(dns=[f"h{number}.example" for number in range(600)])
    assert "more than 512 names" in reasons(store, names, NOW)[1]


def test_a_known_certificate_is_not_verified_again_but_another_chain_is(ca, monkeypatch):
    store = TrustStore([ca.certificate])
    below = ca.intermediate()
    client = below.issue()
    assert reasons(store, client, NOW) == ()
    paths = []
    find = chain.Roots.path
    monkeypatch.setattr(chain.Roots, "path", lambda *arguments: paths.append(1) or find(*arguments))
    assert reasons(store, client, NOW) == ()
    assert not paths
    assert reasons(store, ClientCertificate.from_der(client.der), NOW) != ()
    assert paths == [1]


def test_refusals_are_not_remembered_and_verdicts_are_bounded(ca):
    store = TrustStore([ca.certificate])
    stranger = CertificateAuthority("CN=other").issue()
    for _ in range(3):
        assert reasons(store, stranger, NOW) != ()
    assert len(store._snapshot.current(NOW).verdicts) == 0
    assert store._snapshot.current(NOW).verdicts._size == 4096


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roots": []}, "empty"),
        ({"roots": "ca.pem"}, "a list"),
        ({"roots": {"ca.pem": 1}}, "a list"),
        ({"roots": [b"ca.pem"]}, "no path"),
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


# Hostile octets: whatever a certificate or a list becomes by accident or malice, the answer is one of ours.
CA = CertificateAuthority()
BELOW = CA.intermediate()
CLIENT = BELOW.issue(
    "CN=billing,O=Acme",
    dns=["billing.internal"],
    uris=["spiffe://acme.internal/billing"],
    ip_addresses=["10.0.0.1"],
    emails=["a@b.example"],
)
LIST = crl(CA, [3, 4, 5], now=NOW)
flips = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4)


def mutated(octets, changes):
    found = bytearray(octets)
    for position, value in changes:
        found[position % len(found)] = value
    return bytes(found)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
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


@settings(max_examples=400, deadline=None)
@given(flips)
def test_mutated_lists_are_refused_in_our_words(changes):
    octets = mutated(LIST, changes)
    try:
        found = revocation_list.parse(octets)
    except ValueError:
        return
    assert octets == LIST or not found.is_signed_by(revocation_list.Question(CA.certificate, CA.certificate))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_are_no_list(octets):
    with pytest.raises(ValueError, match=r"\w"):
        revocation_list.parse(octets)
