"""A real responder, `openssl ocsp`: its statuses here, and the verdict of OpenSSL's own client beside ours."""

import time

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import OCSP
from tests.openssl_responder import responding, row
from tests.validation import openssl_ocsp
from tests.validation.test_ocsp import outcome, store_of

pytestmark = [pytest.mark.live]

GOOD, REVOKED, UNKNOWN = "good", "revoked", "unknown"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ocsp")


@pytest.fixture(scope="module")
def clients(ca, folder):
    found = {each: ca.issue(f"CN={each}") for each in (GOOD, REVOKED, UNKNOWN)}
    for name, each in found.items():
        (folder / f"{name}.pem").write_text(each.pem)
    lines = [row("V", "", found[GOOD]), row("R", "250101000000Z,keyCompromise", found[REVOKED])]
    (folder / "index.txt").write_text("".join(lines))
    (folder / "ca.pem").write_text(ca.pem)
    return found


def delegate(ca, *purposes, nocheck=True, **options):
    extensions = [(x509.ExtendedKeyUsage(list(purposes)), False)] if purposes else []
    extensions += [(x509.OCSPNoCheck(), False)] if nocheck else []
    return ca.issue("CN=OCSP", extended_key_usage=(), extensions=extensions, **options)


OURS = {"good": "good", "revoked": "refused", "unknown": "refused", "unusable": "unavailable"}


@pytest.mark.parametrize("options", [("-nmin", "5"), ()], ids=["nextUpdate", "no nextUpdate"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_openssl_and_the_library_read_the_same_status(ca, clients, folder, options, method):
    with responding(folder, ca, *options) as url:
        store = store_of(ca, OCSP(url, method=method))
        for name, client in clients.items():
            verdict = openssl_ocsp.asked(folder, url, name)
            assert verdict == name
            assert outcome(store, client, time.time()) == OURS[verdict]


@pytest.mark.parametrize(
    ("purposes", "verdict"),
    [
        ([ExtendedKeyUsageOID.OCSP_SIGNING], "good"),
        ([ExtendedKeyUsageOID.OCSP_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH], "good"),
        ([ExtendedKeyUsageOID.CLIENT_AUTH], "unusable"),
        ([], "unusable"),
    ],
    ids=["OCSPSigning", "OCSPSigning and clientAuth", "clientAuth", "none"],
)
def test_openssl_and_the_library_accept_the_same_delegates(ca, clients, folder, purposes, verdict):
    with responding(folder, delegate(ca, *purposes), "-nmin", "5") as url:
        assert openssl_ocsp.asked(folder, url, GOOD) == verdict
        assert outcome(store_of(ca, OCSP(url)), clients[GOOD], time.time()) == OURS[verdict]


def test_a_responder_of_another_ca_is_accepted_by_neither(ca, clients, folder):
    other = CertificateAuthority()
    with responding(folder, delegate(other, ExtendedKeyUsageOID.OCSP_SIGNING), "-nmin", "5") as url:
        assert openssl_ocsp.asked(folder, url, GOOD) == "unusable"
        assert outcome(store_of(ca, OCSP(url)), clients[GOOD], time.time()) == "unavailable"


def test_a_delegate_without_nocheck_is_accepted_by_openssl_only(ca, clients, folder):
    # OpenSSL does not look up the status of the responder's certificate (RFC 6960 4.2.2.2.1 leaves it to the client).
    with responding(folder, delegate(ca, ExtendedKeyUsageOID.OCSP_SIGNING, nocheck=False), "-nmin", "5") as url:
        assert openssl_ocsp.asked(folder, url, GOOD) == "good"
        assert outcome(store_of(ca, OCSP(url)), clients[GOOD], time.time()) == "unavailable"


@pytest.mark.parametrize(
    ("options", "openssl", "ours"),
    [
        (["sha256"], "good", "good"),
        (["sha384"], "good", "good"),
        (["sha512"], "good", "good"),
        (["sha256", "rsa_padding_mode:pss"], "good", "good"),
        (["sha384", "rsa_padding_mode:pss", "rsa_pss_saltlen:digest"], "good", "good"),
        (["sha512", "rsa_padding_mode:pss", "rsa_pss_saltlen:20"], "good", "good"),
        # RFC 4055 3.1 recommends the same hash for MGF1. `cryptography` does not read which other hash it is.
        (["sha256", "rsa_padding_mode:pss", "rsa_mgf1_md:sha512"], "good", "unavailable"),
        (["sha1"], "good", "unavailable"),
        (["sha1", "rsa_padding_mode:pss"], "good", "unavailable"),
        (["sha224", "rsa_padding_mode:pss"], "good", "unavailable"),
    ],
    ids=lambda each: each if isinstance(each, str) else ", ".join(each),
)
def test_rsa_signatures_of_both_kinds_are_verified(ca, clients, folder, options, openssl, ours):  # noqa: PLR0917 (fixtures)
    digest, *parameters = options
    given = ["-rmd", digest, *(word for each in parameters for word in ("-rsigopt", each))]
    with responding(folder, delegate(ca, ExtendedKeyUsageOID.OCSP_SIGNING, key="rsa"), "-nmin", "5", *given) as url:
        assert openssl_ocsp.asked(folder, url, GOOD) == openssl
        assert outcome(store_of(ca, OCSP(url)), clients[GOOD], time.time()) == ours


def test_openssl_reads_our_request(ca, clients, folder):
    with responding(folder, ca) as url:
        assert outcome(store_of(ca, OCSP(url, nonce="required")), clients[GOOD], time.time()) == "good"
