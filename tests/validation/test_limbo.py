"""x509-limbo: all cases. No false accept but by rules of the web PKI; what is refused all the same is listed, and why.

Cases of kind SERVER are judged with serverAuth as the purpose, by the very same code; that the peer has the expected
name is judged as `policy.py` would: whole names, no wildcard, no CN.
"""

import ipaddress
import itertools
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.validation import RevocationLists
from mtls_middleware.validation.chain import Roots
from mtls_middleware.validation.revocation import RevocationSources, status_requests
from tests import shared

CASES = shared.read_json("vectors/x509-limbo/limbo-generated.json").get("testcases", [])
NOW = 1_773_000_000  # where a case names no time: when the suite was generated, about

CN = "the web has a CN repeat an alternative name; a client's CN is its name in the CA's own terms"
EKU = "RFC 5280 4.2.1.12 allows it, and clientAuth is what counts"
# Valid by RFC 5280, wrong by rules of the CA/Browser Forum, which bind no client certificate; and one of 5280.
RULES_OF_THE_WEB = {
    "rfc5280::aki::cross-signed-root-missing-aki": "trusted for itself, nothing above it is looked at",
    "rfc5280::nc::permitted-dns-match-noncritical": "critical by 5280, maybe not by the web: enforced either way",
    "webpki::aki::root-with-aki-all-fields": "openssl writes all fields into roots",
    "webpki::aki::root-with-aki-ski-mismatch": "a hint for building paths, and no path is built above a root",
    "webpki::cn::ipv4-hex-mismatch": CN,
    "webpki::cn::ipv4-leading-zeros-mismatch": CN,
    "webpki::cn::ipv6-uppercase-mismatch": CN,
    "webpki::cn::ipv6-uncompressed-mismatch": CN,
    "webpki::cn::ipv6-non-rfc5952-mismatch": CN,
    "webpki::cn::punycode-not-in-san": CN,
    "webpki::cn::utf8-vs-punycode-mismatch": CN,
    "webpki::cn::not-in-san": CN,
    "webpki::cn::case-mismatch": CN,
    "webpki::eku::ee-anyeku": EKU,
    "webpki::eku::ee-critical-eku": EKU,
    "webpki::eku::ee-without-eku": EKU,
    "webpki::eku::root-has-eku": EKU,
    "webpki::san::san-critical-with-nonempty-subject": "RFC 5280 4.2.1.6 says SHOULD NOT",
    "webpki::forbidden-rsa-not-divisible-by-8-in-root": "strong enough",
    "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf": "strong enough",
}

CA_AS_LEAF = "a CA's certificate is no client's"
SELF_ISSUED = "the engine counts self-issued CAs like others (RFC 5280 6.1.4 l does not)"
WILDCARD = "no rule of ours expands a wildcard"
REFUSED_ALL_THE_SAME = {
    "pathlen::validation-ignores-pathlen-in-leaf": CA_AS_LEAF,
    "rfc5280::ca-as-leaf": CA_AS_LEAF,
    "pathlen::self-issued-certs-pathlen": SELF_ISSUED,
    "pathlen::max-chain-depth-1-self-issued": SELF_ISSUED,
    "rfc5280::nc::permitted-dn-match": "the engine refuses critical constraints on directory names",
    "webpki::nc::nc-permits-dns-san-pattern": WILDCARD,
    "webpki::san::leftmost-wildcard-san": WILDCARD,
    "online::docs.python.org": WILDCARD,
    "rfc5280::validity::notafter-fractional": "half a second after notAfter is after it, here and in the layers",
}


def load(pem):
    return x509.load_pem_x509_certificate(pem.encode())


def accepts(case, directory):
    now = NOW if case["validation_time"] is None else datetime.fromisoformat(case["validation_time"]).timestamp()
    purposes = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    depth = case["max_chain_depth"]
    roots = Roots(
        [load(pem) for pem in case["trusted_certs"]],
        [load(pem) for pem in case["untrusted_intermediates"]],
        max_depth=8 if depth is None else depth,
        require_client_auth_eku=False,
        purpose=purposes[case["validation_kind"] == "CLIENT"],
    )
    for number, pem in enumerate(case["crls"]):
        (directory / f"{number}.crl").write_text(pem)
    try:
        certificate = ClientCertificate.from_pem(case["peer_certificate"])
        path = roots.path(certificate, now)
        if case["crls"]:
            lists = RevocationLists([directory], leaf_only=True)
            BlockingDriver().run(RevocationSources(lists).check(status_requests(path.certificates), now))
        return case["validation_kind"] == "CLIENT" or has_name(certificate, case["expected_peer_name"])
    except (Refused, ConfigurationError):
        return False


def has_name(certificate, name):
    if name is None:
        return True
    if name["kind"] == "IP":
        return ipaddress.ip_address(name["value"]) in certificate.ip_addresses
    assert name["kind"] == "DNS"
    return certificate.alternative_names.has_dns(name["value"])


@pytest.mark.shared
@pytest.mark.standard("M1", "M2", "M3", "M4", "M5", "M8")
@pytest.mark.case("070", "071", "074", "075")
@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # which is then refused
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_limbo(case, tmp_path):
    expected = case["expected_result"] == "SUCCESS"
    if case["id"] in REFUSED_ALL_THE_SAME:
        assert expected
        expected = False
    elif case["id"] in RULES_OF_THE_WEB:
        assert not expected
        expected = True
    assert accepts(case, tmp_path) is expected


@pytest.mark.shared
def test_every_case_of_limbo_is_there():
    ids = {case["id"] for case in CASES}
    assert len(CASES) == len(ids) == 207
    assert set(itertools.chain(RULES_OF_THE_WEB, REFUSED_ALL_THE_SAME)) <= ids
