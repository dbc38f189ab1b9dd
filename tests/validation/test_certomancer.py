"""A real responder by others, certomancer: the verdicts of OpenSSL's client and of this library about its responses."""

import time
import urllib.request

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.validation import OCSP, RevocationLists, TrustStore
from tests.live.servers import free_port, running
from tests.validation import certomancer_pki, openssl_ocsp
from tests.validation.authority import crl
from tests.validation.test_ocsp import outcome
from tests.validation.unusual_certificates import signed

pytestmark = [pytest.mark.live]

# By the certificate and the last segments of the URL: the verdicts of OpenSSL and of this library.
VERDICTS = {
    ("good", "now", "ca"): ("good", "good"),
    ("revoked", "now", "ca"): ("revoked", "refused"),
    # certomancer responds `unauthorized` for a serial number that it does not know.
    ("unlisted", "now", "ca"): ("unusable", "unavailable"),
    ("good", "now", "without-next-update"): ("good", "good"),
    ("revoked", "now", "without-next-update"): ("revoked", "refused"),
    # Times with fractions of a second, which `cryptography` rejects (RFC 5280 4.1.2.5.2).
    ("good", "running", "ca"): ("good", "unavailable"),
    ("good", "past", "ca"): ("unusable", "unavailable"),
    ("good", "future", "ca"): ("unusable", "unavailable"),
    ("good", "now", "sha384"): ("good", "good"),
    ("good", "now", "sha1"): ("good", "unavailable"),  # a signature with SHA-1
    ("good", "now", "delegate"): ("good", "good"),
    ("revoked", "now", "delegate"): ("revoked", "refused"),
    ("unlisted", "now", "delegate"): ("unusable", "unavailable"),
    ("good", "now", "to-be-checked"): ("good", "unavailable"),  # the responder's certificate may be revoked
    ("good", "now", "without-purpose"): ("unusable", "unavailable"),
    ("good", "now", "for-clients"): ("unusable", "unavailable"),
    ("good", "now", "expired"): ("unusable", "unavailable"),
    ("good", "now", "elsewhere"): ("unusable", "unavailable"),
    ("good", "now", "wrong-key"): ("unusable", "unavailable"),
    ("good", "now", "other-ca"): ("unusable", "unavailable"),
    # A responder for another CA: it responds `unauthorized`.
    ("good", "now", "of-other-ca"): ("unusable", "unavailable"),
    ("good", "now", "critical-extension"): ("good", "unavailable"),  # OpenSSL ignores it
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certomancer")


@pytest.fixture(scope="module")
def url(folder):
    configuration, port = certomancer_pki.write(folder), free_port()
    with running(["-m", "tests.certomancer_server", str(configuration), str(port)], port):
        yield f"http://127.0.0.1:{port}"


class PKI:
    """The certificates of one of the PKIs, which certomancer issues, and the files for OpenSSL."""

    def __init__(self, kind, url, folder):
        self.url, self.kind, self.folder = url, kind, folder / kind
        self.folder.mkdir(exist_ok=True)
        self.certificate, self.der = self._certificate("root"), {}
        self.key = load_pem_private_key((folder / f"{kind}-root.key").read_bytes(), None)
        (self.folder / "ca.pem").write_bytes(self._pem("root"))
        for name in ("good", "revoked"):
            (self.folder / f"{name}.pem").write_bytes(self._pem(name))
        unlisted = signed(self, self.key)
        (self.folder / "unlisted.pem").write_text(unlisted.pem)

    def _pem(self, name):
        path = f"now/_certomancer/any-cert/{self.kind}/{name}.cert.pem"
        return urllib.request.urlopen(f"{self.url}/{path}").read()

    def _certificate(self, name):
        return x509.load_pem_x509_certificate(self._pem(name))

    def responder(self, clock, name):
        return f"{self.url}/{clock}/{self.kind}/ocsp/{name}"

    def outcome(self, name, source):
        pem = (self.folder / f"{name}.pem").read_text()
        certificate = ClientCertificate.from_pem(pem)
        return outcome(TrustStore([self.certificate], revocation=source), certificate, time.time())


@pytest.fixture(scope="module", params=certomancer_pki.KINDS)
def pki(request, url, folder):
    return PKI(request.param, url, folder)


@pytest.mark.parametrize("case", VERDICTS, ids=", ".join)
def test_a_responder_by_others_has_the_two_verdicts(pki, case):
    name, *responder = case
    address = pki.responder(*responder)
    # certomancer's own clock writes fractions of a second, which OpenSSL 3.0 accepts and OpenSSL 3.6 rejects.
    also = {"unusable"} if "running" in responder else set()
    assert openssl_ocsp.asked(pki.folder, address, name) in {VERDICTS[case][0], *also}
    assert pki.outcome(name, OCSP(address)) == VERDICTS[case][1]


@pytest.mark.parametrize("options", [{"nonce": "required"}, {"nonce": "none"}, {"hash_algorithm": "SHA-256"}], ids=str)
def test_a_responder_by_others_reads_each_kind_of_request(pki, options):
    for name, expected in (("good", "good"), ("revoked", "refused")):
        assert pki.outcome(name, OCSP(pki.responder("now", "delegate"), **options)) == expected


def test_a_delegate_by_others_is_checked_by_a_list(pki, tmp_path):
    path = tmp_path / "ca.crl"
    path.write_bytes(crl(pki, now=time.time()))
    source = OCSP(pki.responder("now", "to-be-checked"), responder_lists=RevocationLists([path]))
    assert pki.outcome("good", source) == "good"


def test_signed_by_accepts_the_responder_of_another_ca(pki):
    other = pki._certificate("other")
    assert pki.outcome("good", OCSP(pki.responder("now", "other-ca"), signed_by=other)) == "good"
    assert pki.outcome("good", OCSP(pki.responder("now", "ca"), signed_by=other)) == "unavailable"


@pytest.mark.parametrize("pki", ["rsa"], indirect=True)
def test_a_responder_by_others_signs_with_rsa_pss(pki):
    address = pki.responder("now", "pss")
    for name, verdict, expected in (("good", "good", "good"), ("revoked", "revoked", "refused")):
        assert openssl_ocsp.asked(pki.folder, address, name) == verdict
        assert pki.outcome(name, OCSP(address)) == expected


def test_the_log_says_which_part_of_a_response_is_unreadable(pki, caplog):
    assert pki.outcome("good", OCSP(pki.responder("running", "ca"))) == "unavailable"
    assert "ResponseData::produced_at" in caplog.text
