"""How much work a stranger can cause a trust store, and what it remembers."""

import time
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import TrustStore, chain
from tests.validation.unusual_certificates import signed_as_ca
from tests.validation.verdicts import reasons

NOW = time.time()


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
        each._identity = type(each._identity)(signed_as_ca(key, each.certificate), key)
    client = maze[0].issue()
    certificate = ClientCertificate.from_der(
        client.der, chain=tuple(each.certificate.public_bytes(Encoding.DER) for each in maze)
    )
    checks = []
    check = chain._is_signed_by
    monkeypatch.setattr(chain, "_is_signed_by", lambda *arguments: checks.append(1) or check(*arguments))
    assert reasons(store, certificate, NOW) != ()
    assert len(checks) == 10


@pytest.mark.case("080")
def test_too_many_names_are_rejected_unread(ca, store):
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
    assert len(store._paths) == 0
    assert store._paths.memory.limit == 16 * 1024 * 1024
