"""Delta CRLs and partitions: what each kind of list says about a certificate, here and in OpenSSL.

OpenSSL runs with delta CRLs and extended CRL features (`-use_deltas -extended_crl`). Nothing is good here that is not
good in OpenSSL.
"""

import logging
import time

import pytest
from cryptography import x509

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.validation.authority import crl
from tests.validation.openssl_verify import verify
from tests.validation.verdicts import reasons

NOW = float(int(time.time()))
URI = x509.UniformResourceIdentifier
ONE, TWO = "http://crl.internal/1", "http://crl.internal/2"
DIRECTORY = x509.DirectoryName(x509.Name.from_rfc4514_string("CN=List 1,O=Acme"))
OTHER = x509.DirectoryName(x509.Name.from_rfc4514_string("CN=Other"))
RELATIVE = x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, "List 1")])
FLAGS = x509.ReasonFlags
SOME = frozenset([FLAGS.key_compromise, FLAGS.ca_compromise])
REST = frozenset(FLAGS) - SOME - {FLAGS.unspecified, FLAGS.remove_from_crl}
HOLD = x509.CRLReason(FLAGS.certificate_hold), False
REMOVED = x509.CRLReason(FLAGS.remove_from_crl), False
FRESHEST = x509.FreshestCRL([x509.DistributionPoint([URI(TWO)], None, None, None)]), False


def part(**given):
    """An issuingDistributionPoint."""
    fields = dict.fromkeys(("full_name", "relative_name", "only_some_reasons"))
    flags = ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs")
    return x509.IssuingDistributionPoint(**fields | dict.fromkeys(flags, False) | given), True


def place(name=ONE, *, relative=None, why=None, issuer=None):
    """The cRLDistributionPoints of a certificate."""
    full = None if relative is not None else [URI(name) if isinstance(name, str) else name]
    return x509.CRLDistributionPoints([x509.DistributionPoint(full, relative, why, issuer)]), False


def of(*extensions, revoked=False, number=5, entries=()):
    """A list, with the certificate on it or not."""
    return {"extensions": extensions, "revoked": revoked, "number": number, "entries": entries}


def delta(*extensions, **given):
    return of((x509.DeltaCRLIndicator(5), True), *extensions, number=6, **given)


GOOD, REVOKED, NO_LIST = "good", "is revoked", "no revocation list of its issuer covers"
UNABLE, SCOPE = "unable to get certificate CRL", "different CRL scope"
ON_IT = "certificate revoked"
# The extensions of the certificate; the lists; the result here; the result in OpenSSL.
TABLE = {
    "complete": ([], [of()], GOOD, GOOD),
    "complete, revoked": ([], [of(revoked=True)], REVOKED, ON_IT),
    "delta alone": ([], [delta()], "a delta CRL", UNABLE),
    "delta alone, revoked": ([], [delta(revoked=True)], "a delta CRL", UNABLE),
    "complete and delta": ([FRESHEST], [of(), delta()], "a delta CRL", GOOD),
    "complete and delta, revoked by the delta": ([FRESHEST], [of(), delta(revoked=True)], "a delta CRL", ON_IT),
    "on hold, and released by a delta": (
        [FRESHEST],
        [of(revoked=True, entries=[HOLD]), delta(revoked=True, entries=[REMOVED])],
        "a delta CRL",
        GOOD,
    ),
    "freshestCRL in the certificate, without delta": ([FRESHEST], [of()], GOOD, GOOD),
    "freshestCRL in the list, without delta": ([], [of(FRESHEST)], GOOD, GOOD),
    "clients": ([], [of(part(only_contains_user_certs=True))], GOOD, GOOD),
    "clients, revoked": ([], [of(part(only_contains_user_certs=True), revoked=True)], REVOKED, ON_IT),
    "CAs": ([], [of(part(only_contains_ca_certs=True))], NO_LIST, SCOPE),
    "attribute certificates": (
        [],
        [of(part(only_contains_attribute_certs=True))],
        "a CRL for attribute certificates",
        SCOPE,
    ),
    "some reasons": ([], [of(part(only_some_reasons=SOME))], "a CRL for some reasons", UNABLE),
    "all reasons in two lists": (
        [],
        [of(part(only_some_reasons=SOME)), of(part(only_some_reasons=REST), number=6)],
        "a CRL for some reasons",
        GOOD,
    ),
    "indirect": ([], [of(part(indirect_crl=True))], "an indirect CRL", GOOD),
    "indirect, revoked": ([], [of(part(indirect_crl=True), revoked=True)], "an indirect CRL", ON_IT),
    "entry of another issuer": (
        [],
        [of(revoked=True, entries=[(x509.CertificateIssuer([OTHER]), True)])],
        "an entry has a critical extension",
        GOOD,
    ),
    "partition of the certificate": ([place(ONE)], [of(part(full_name=[URI(ONE)]))], GOOD, GOOD),
    "partition of the certificate, revoked": (
        [place(ONE)],
        [of(part(full_name=[URI(ONE)]), revoked=True)],
        REVOKED,
        ON_IT,
    ),
    "another partition": ([place(TWO)], [of(part(full_name=[URI(ONE)]))], NO_LIST, SCOPE),
    "another partition, revoked": ([place(TWO)], [of(part(full_name=[URI(ONE)]), revoked=True)], REVOKED, SCOPE),
    "partition, certificate without a place": ([], [of(part(full_name=[URI(ONE)]))], NO_LIST, SCOPE),
    "both partitions": (
        [place(TWO)],
        [of(part(full_name=[URI(ONE)])), of(part(full_name=[URI(TWO)]), number=6)],
        GOOD,
        GOOD,
    ),
    "partition with one of two names": (
        [place(TWO)],
        [of(part(full_name=[URI(ONE), URI(TWO)]))],
        GOOD,
        GOOD,
    ),
    "partition by directory name": ([place(DIRECTORY)], [of(part(full_name=[DIRECTORY]))], GOOD, GOOD),
    "partition by another directory name": ([place(OTHER)], [of(part(full_name=[DIRECTORY]))], NO_LIST, SCOPE),
    "partition by relative name": (
        [place(relative=RELATIVE)],
        [of(part(relative_name=RELATIVE))],
        "a distribution point with a relative name",
        GOOD,
    ),
    "partition for clients": (
        [place(ONE)],
        [of(part(full_name=[URI(ONE)], only_contains_user_certs=True))],
        GOOD,
        GOOD,
    ),
    "partition for CAs": (
        [place(ONE)],
        [of(part(full_name=[URI(ONE)], only_contains_ca_certs=True))],
        NO_LIST,
        SCOPE,
    ),
    "partition, and a place for some reasons": (
        [place(ONE, why=SOME)],
        [of(part(full_name=[URI(ONE)]))],
        NO_LIST,
        UNABLE,
    ),
    "partition, and a place of another issuer": (
        [place(ONE, issuer=[OTHER])],
        [of(part(full_name=[URI(ONE)]))],
        NO_LIST,
        SCOPE,
    ),
    "complete, and a place of another issuer": ([place(ONE, issuer=[OTHER])], [of()], GOOD, GOOD),
    "scope that is not critical": ([], [of((part(only_contains_ca_certs=True)[0], False))], NO_LIST, SCOPE),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_the_result_of_each_kind_of_list_here_and_in_openssl(ca, row, tmp_path):
    extensions, lists, ours, theirs = row
    client = ca.issue("CN=billing", extensions=extensions)
    encoded = [encode(ca, client, each) for each in lists]
    (tmp_path / "openssl").mkdir()
    arguments = tmp_path / "openssl", [ca.certificate], [], encoded, [client.x509]
    (found,) = verify(*arguments, "-crl_check", "-use_deltas", "-extended_crl", now=NOW)
    assert [message for _, message in found[:1]] == ([] if theirs == GOOD else [theirs])
    for number, each in enumerate(encoded):
        (tmp_path / f"{number}.crl").write_bytes(each)
    for each in (tmp_path, [tmp_path / f"{number}.crl" for number in reversed(range(len(encoded)))]):
        assert ours in our_result(ca, client, [each] if each is tmp_path else each)
    assert ours != GOOD or theirs == GOOD


def encode(ca, client, fields):
    revoked = [client] if fields["revoked"] else [1]
    given = {name: fields[name] for name in ("extensions", "number", "entries")}
    return crl(ca, revoked, now=NOW, **given)


def our_result(ca, client, files):
    try:
        lists = RevocationLists(files)
    except ConfigurationError as error:
        return str(error)
    return " ".join(reasons(TrustStore([ca.certificate], revocation=lists), client, NOW)) or GOOD


def test_a_delta_that_replaces_a_list_at_run_time_is_not_used(ca, tmp_path, caplog):
    client, other = ca.issue("CN=revoked"), ca.issue("CN=other")
    file = tmp_path / "a.crl"
    file.write_bytes(crl(ca, [client], now=NOW))
    store = TrustStore([ca.certificate], revocation=RevocationLists([file]))
    assert "is revoked" in reasons(store, client, NOW)[1]
    assert reasons(store, other, NOW) == ()
    released = of((x509.DeltaCRLIndicator(1), True), revoked=True, number=6, entries=[REMOVED])
    (tmp_path / "new").write_bytes(encode(ca, client, released))
    (tmp_path / "new").replace(file)
    with caplog.at_level(logging.ERROR):
        assert "is revoked" in reasons(store, client, NOW + 2)[1]
    assert "a.crl: the list is a delta CRL, which is not supported" in caplog.text
