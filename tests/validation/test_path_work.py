"""The search for a path is bounded, whatever CAs a client presents. Work is counted, not timed."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.validation import TrustStore, chain, path_work
from tests.validation.unusual_certificates import SHA256
from tests.validation.verdicts import reasons

NOW = time.time()
KEY = ec.generate_private_key(ec.SECP256R1())


def issued(subject, issuer, signer, *, extensions=(), ca=True, emails=0):
    """A certificate for `KEY`."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    mailbox = [x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, f"{number}@b.test") for number in range(emails)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*name, *mailbox]))
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(NOW, UTC) - timedelta(days=1))
        .not_valid_after(datetime.fromtimestamp(NOW, UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for each in extensions:
        builder = builder.add_extension(each, critical=isinstance(each, x509.NameConstraints))
    return builder.sign(signer, SHA256)


def dns(*names):
    return x509.SubjectAlternativeName([x509.DNSName(each) for each in names])


def excluding(count):
    return x509.NameConstraints(None, [x509.DNSName(f"x{number}.test") for number in range(count)])


def presenting(leaf, *others):
    der = [each.public_bytes(Encoding.DER) for each in (leaf, *others)]
    return ClientCertificate.from_der(der[0], chain=tuple(der[1:]))


@pytest.fixture
def searched(monkeypatch):
    """How many signatures each search may verify."""
    found = []
    presented = chain.Roots._presented_authorities

    def counted(self, leaf, others):
        kept, left_out = presented(self, leaf, others)
        links = [(each.subject, None) for each in self._roots] + [(each.subject, each.issuer) for each in kept]
        found.append(path_work._signatures(leaf.issuer, links, self._max_depth))
        return kept, left_out

    monkeypatch.setattr(chain.Roots, "_presented_authorities", counted)
    return found


def maze(first):
    """CAs of the name of `first`, each of which has signed each."""
    return [first, *(issued("maze", first.subject, KEY) for _ in range(8))]


def test_certificates_signed_by_a_client_key_are_not_searched(ca, store, searched):
    own = issued("maze", ca.certificate.subject, ca.key, ca=False)
    leaf = issued("x", own.subject, KEY, ca=False)
    assert reasons(store, presenting(leaf, *maze(own)), NOW) != ()
    assert searched == [0]


@pytest.mark.parametrize("depth", [5, 16])
def test_a_maze_of_a_ca_of_the_house_is_searched_in_part(ca, searched, depth):
    store = TrustStore([ca.certificate], max_depth=depth)
    entrance = issued("maze", ca.certificate.subject, ca.key, extensions=[excluding(1)])
    leaf = issued("x", entrance.subject, KEY, ca=False, extensions=[dns("x0.test")])
    found = reasons(store, presenting(leaf, *maze(entrance)), NOW)
    assert any("CAs that the client presented are ignored" in each for each in found)
    assert 0 < searched[0] <= 32


def test_a_good_leaf_beside_a_maze_is_accepted(ca, store, searched):
    entrance = issued("maze", ca.certificate.subject, ca.key)
    good = ca.intermediate().issue(dns=["a.test"])
    found = presenting(
        good.x509, *maze(entrance)[:8], x509.load_der_x509_certificate(good.client_certificate().chain[0])
    )
    assert reasons(store, found, NOW) == ()
    assert searched[0] <= 32


def test_two_versions_of_every_ca_are_all_searched(ca, searched):
    names = ["top", "middle", "low"]
    first = ca.certificate
    versions = []
    for _ in range(2):
        versions.append(issued("top", first.subject, ca.key))
        versions += [issued(low, _name(high), KEY) for high, low in pairwise(names)]
    leaf = issued("x", _name("low"), KEY, ca=False)
    assert reasons(TrustStore([first]), presenting(leaf, *versions), NOW) == ()
    assert searched == [2 + 4 + 8 + 8]


def _name(common):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


@pytest.mark.parametrize(("count", "accepted"), [(256, True), (257, False)])
def test_names_times_constraints_are_bounded(ca, store, count, accepted):
    middle = issued("middle", ca.certificate.subject, ca.key, extensions=[excluding(count)])
    leaf = issued("x", middle.subject, KEY, ca=False, extensions=[dns(*(f"a{number}.test" for number in range(512)))])
    assert (reasons(store, presenting(leaf, middle), NOW) == ()) is accepted


@pytest.mark.parametrize(("count", "accepted"), [(256, True), (257, False)])
def test_so_are_names_times_the_constraints_of_the_operator(ca, count, accepted):
    middle = issued("middle", ca.certificate.subject, ca.key, extensions=[excluding(count)])
    store = TrustStore([ca.certificate], intermediates=[middle])
    leaf = issued("x", middle.subject, KEY, ca=False, extensions=[dns(*(f"a{number}.test" for number in range(512)))])
    found = reasons(store, presenting(leaf), NOW)
    assert (found == ()) is accepted
    assert accepted or "too many comparisons: 512 names with 257 name constraints" in found


def test_mailboxes_in_a_subject_count_as_names(ca, store):
    leaf = issued("x", ca.certificate.subject, ca.key, ca=False, emails=513)
    assert "a certificate has more than 512 names" in reasons(store, presenting(leaf), NOW)


LINKS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", None])), max_size=7)


@given(LINKS, st.integers(0, 4))
def test_signatures_are_counted_as_a_search_finds_them(links, depth):
    def search(issuer, left):
        above = [its_issuer for subject, its_issuer in links if subject == issuer]
        return len(above) + sum(search(each, left - 1) for each in above if each is not None and left)

    assert path_work._signatures("a", links, depth) == search("a", depth)
