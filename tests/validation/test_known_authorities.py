"""CAs that are remembered: what they were proven by stays true; their dates, and other roots, are asked again."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.validation import TrustStore, chain
from tests.validation.verdicts import reasons

NOW = time.time()
HOUR = 3600


@pytest.fixture
def ca():
    return CertificateAuthority()


def signatures(monkeypatch):
    """The issuers' signatures that are looked at before a path is sought, one entry for each."""
    looked, signed = [], chain._is_signed_by
    monkeypatch.setattr(chain, "_is_signed_by", lambda *pair: looked.append(pair) or signed(*pair))
    return looked


def test_an_intermediate_is_proven_once(ca, monkeypatch):
    store, below = TrustStore([ca.certificate]), ca.intermediate()
    looked = signatures(monkeypatch)
    assert reasons(store, below.issue(), NOW) == ()
    first = len(looked)
    assert reasons(store, below.issue(), NOW) == ()
    assert (first, len(looked)) == (1, 1)


def test_an_expired_known_intermediate_is_not_used(ca):
    store = TrustStore([ca.certificate])
    below = ca.intermediate(not_after=datetime.fromtimestamp(NOW, UTC) + timedelta(hours=1))
    assert reasons(store, below.issue(), NOW) == ()
    assert reasons(store, below.issue(), NOW + 2 * HOUR)


def test_a_known_intermediate_proves_what_it_issued_and_nothing_else(ca):
    store, below = TrustStore([ca.certificate]), ca.intermediate()
    assert reasons(store, below.issue(), NOW) == ()
    further = below.intermediate("CN=Further")
    assert reasons(store, further.issue(), NOW) == ()
    twin = CertificateAuthority("CN=Test Intermediate CA,O=Tests")  # the same name, and another key
    forged = twin.issue()
    assert reasons(store, IssuedCertificate(forged.x509, forged.key, further.issue().chain), NOW)
    assert reasons(store, IssuedCertificate(forged.x509, forged.key, (twin.certificate, *below.issue().chain)), NOW)


def test_what_one_store_knows_another_does_not(ca):
    below, other = ca.intermediate(), CertificateAuthority("CN=Other")
    leaf = below.issue()
    assert reasons(TrustStore([ca.certificate]), leaf, NOW) == ()
    assert reasons(TrustStore([other.certificate]), leaf, NOW)


def test_a_stranger_s_certificates_are_not_remembered(ca, monkeypatch):
    store, stranger = TrustStore([ca.certificate]), CertificateAuthority(ca.certificate.subject)
    looked = signatures(monkeypatch)
    for _ in range(3):
        assert reasons(store, stranger.intermediate().issue(), NOW)
    assert len(looked) == 3
    assert len(store._snapshot.current(NOW).roots._verified_authorities) == 0


def test_an_unfit_authority_is_unfit_each_time(ca):
    for_servers = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    store, below = TrustStore([ca.certificate]), ca.intermediate(extensions=[for_servers])
    for _ in range(2):
        found = reasons(store, below.issue(), NOW)
        assert "an issuer whose extendedKeyUsage lacks clientAuth" in found


def test_constraints_of_a_known_authority_are_held_against_each_leaf(ca):
    within = x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Acme"))], None)
    store, below = TrustStore([ca.certificate]), ca.intermediate(extensions=[(within, False)])
    for _ in range(2):
        assert reasons(store, below.issue("CN=client,O=Acme"), NOW) == ()
        assert "a name that is not in the permitted directory names" in reasons(
            store, below.issue("CN=client,O=Eve"), NOW
        )
