"""Name constraints: each kind applied, or the certificate refused; never passed over."""

import ipaddress
import time

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import TrustStore, constraints
from tests.validation.verdicts import reasons

NOW = time.time()
Name = x509.Name.from_rfc4514_string
MAILBOX = x509.Name(
    [
        x509.NameAttribute(NameOID.EMAIL_ADDRESS, "eve@evil.example"),
        x509.NameAttribute(NameOID.COMMON_NAME, "billing"),
    ]
)


@pytest.fixture(scope="module")
def root():
    return CertificateAuthority("CN=Root,O=Tests")


@pytest.fixture(scope="module")
def store(root):
    return TrustStore([root.certificate])


def below(root, permitted=None, excluded=None, *, critical=True):
    subtrees = x509.NameConstraints(permitted, excluded)
    return root.intermediate("CN=Below,O=Tests", extensions=[(subtrees, critical)])


def directory(text):
    return x509.DirectoryName(Name(text))


@pytest.mark.standard("M4")
@pytest.mark.case("074")
@pytest.mark.parametrize(
    ("subtree", "inside", "outside"),
    [
        (x509.DNSName("internal"), {"dns": ["billing.internal"]}, {"dns": ["billing.example"]}),
        (x509.RFC822Name("acme.example"), {"emails": ["a@acme.example"]}, {"emails": ["a@evil.example"]}),
        (
            x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
            {"ip_addresses": ["10.1.2.3"]},
            {"ip_addresses": ["192.0.2.1"]},
        ),
    ],
    ids=["dns", "email", "ip"],
)
def test_names_are_held_against_constraints_of_their_kind(root, store, subtree, inside, outside):
    for critical in (True, False):
        only, all_but = (
            below(root, [subtree], critical=critical),
            below(root, None, [subtree], critical=critical),
        )
        assert reasons(store, only.issue(**inside), NOW) == ()
        assert reasons(store, only.issue(**outside), NOW) != ()
        assert reasons(store, only.issue(**{key: [*inside[key], *outside[key]] for key in inside}), NOW) != ()
        assert reasons(store, all_but.issue(**inside), NOW) != ()
        assert reasons(store, all_but.issue(**outside), NOW) == ()
        assert reasons(store, only.issue("CN=other"), NOW) == ()  # no name of that kind


@pytest.mark.standard("M4")
def test_excluded_beats_permitted(root, store):
    ca = below(root, [x509.DNSName("internal")], [x509.DNSName("secret.internal")])
    assert reasons(store, ca.issue(dns=["a.internal"]), NOW) == ()
    assert reasons(store, ca.issue(dns=["a.secret.internal"]), NOW) != ()


@pytest.mark.standard("M4")
@pytest.mark.case("074")
def test_directory_name_constraints_are_applied_or_rejected(root, store):
    critical = below(root, [directory("O=Acme")])
    assert reasons(store, critical.issue("CN=billing,O=Evil"), NOW) != ()
    plain = below(root, [directory("O=Acme")], [directory("OU=Admins,O=Acme")], critical=False)
    assert reasons(store, plain.issue("CN=billing,O=Acme"), NOW) == ()
    assert reasons(store, plain.issue("CN=billing,O=ACME"), NOW) == ()  # compared as RFC 5280 7.1 says
    for subject in ("CN=billing,O=Evil", "O=Acme,CN=billing", "CN=O\\=Acme", "CN=eve,OU=Admins,O=Acme"):
        found = reasons(store, plain.issue(subject), NOW)
        assert "directory names" in found[1], subject
    names = x509.SubjectAlternativeName([directory("CN=eve,O=Evil")])
    assert reasons(store, plain.issue("CN=billing,O=Acme", extensions=[(names, False)]), NOW) != ()


@pytest.mark.standard("M4")
@pytest.mark.case("074")
def test_a_uri_constraint_rejects_only_certificates_with_a_uri(root, store):
    for subtrees in (
        [[x509.UniformResourceIdentifier("acme.internal")], None],
        [None, [x509.UniformResourceIdentifier("evil")]],
    ):
        for critical in (True, False):
            ca = below(root, *subtrees, critical=critical)
            assert reasons(store, ca.issue(uris=["spiffe://acme.internal/billing"]), NOW) != ()
            assert reasons(store, ca.issue("CN=billing"), NOW) == ()


@pytest.mark.case("074")
def test_a_mailbox_in_the_subject_is_a_mailbox(root, store):
    only, but = below(root, [x509.RFC822Name("acme.example")]), below(root, None, [x509.RFC822Name("evil.example")])
    exact = below(root, [x509.RFC822Name("eve@evil.example")])
    under = below(root, [x509.RFC822Name(".example")])
    assert "mailbox" in reasons(store, only.issue(MAILBOX), NOW)[1]
    assert "mailbox" in reasons(store, but.issue(MAILBOX), NOW)[1]
    assert reasons(store, exact.issue(MAILBOX), NOW) == ()
    assert reasons(store, under.issue(MAILBOX), NOW) == ()


def test_constraints_of_a_root_count_and_those_of_a_leaf_are_refused(root, store):
    subtrees = x509.NameConstraints([x509.DNSName("internal")], None)
    own = CertificateAuthority("CN=Constrained", extensions=[(subtrees, True)])
    narrow = TrustStore([own.certificate])
    assert reasons(narrow, own.issue(dns=["a.internal"]), NOW) == ()
    assert reasons(narrow, own.issue(dns=["a.example"]), NOW) != ()
    for critical in (True, False):
        assert reasons(store, root.issue(extensions=[(subtrees, critical)]), NOW) != ()


def test_a_minimum_or_maximum_that_the_parser_drops_is_refused(root, store):
    raw = bytes.fromhex("300fa00d300b8206") + b"a.test" + bytes.fromhex("800101")  # dNSName, minimum 1
    subtrees = x509.UnrecognizedExtension(x509.NameConstraints.oid, raw)
    ca = root.intermediate("CN=Below,O=Tests", extensions=[(subtrees, True)])
    assert ca.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    found = reasons(store, ca.issue(dns=["x.a.test"]), NOW)
    assert "name constraints with a minimum or a maximum" in found


def test_nothing_is_wrong_without_constraints(root):
    assert list(constraints.violations([root.issue().x509, root.certificate])) == []
