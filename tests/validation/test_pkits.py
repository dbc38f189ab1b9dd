"""NIST PKITS as certificates of clients, each with the CRLs of its path: nothing invalid passes.

What is valid and refused all the same is listed with the reason, which the refusal itself has to give.
"""

import re
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.validation.verdicts import reasons

PKITS = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data"
NOW = 1_790_000_000  # within the suite's twenty years from 2010
CLIENTS = sorted(PKITS.glob("certs/*EE.crt"))
ROOT = "TrustAnchorRootCertificate.crt"

POLICIES = "certificate contains unaccounted-for critical extensions|is not (processed|supported)"
SELF_ISSUED = "signature does not match"  # the engine's last word, when self-issued CAs exceed its path length
SPELLING = "no interior errors"  # the engine compares names of issuers octet by octet
DIRECTORY_NAMES = "unsupported directoryName"
CA_AS_LEAF = "a CA certificate cannot be a client certificate"
NO_LIST = (
    "no revocation list of its issuer covers|ConfigurationError"  # delta, indirect, for some reasons, other signer
)
REFUSED_ALL_THE_SAME = {
    r"PolicyMapping|inhibitAnyPolicy|requireExplicitPolicy": f"{POLICIES}|{SELF_ISSUED}",
    r"SelfIssuedpathLenConstraint": SELF_ISSUED,
    r"DNnameConstraints|DNandRFC822nameConstraints": DIRECTORY_NAMES,
    r"URInameConstraints": "unsupported name constraint",
    r"NameChaining(Capitalization|Whitespace)|RolloverfromPrintable|UTF8StringCaseInsensitive": SPELLING,
    r"DSA": "DSAPublicKey|MalformedCertificate|ConfigurationError",
    r"ValidGeneralizedTimenotBeforeDate": "must be UtcTime",
    r"basicConstraintsNotCritical": "incorrect criticality",
    r"ValidpathLenConstraintTest(8|14)EE|onlyContainsCACerts": CA_AS_LEAF,
    r"deltaCRL|onlySomeReasons|cRLIssuer|indirectCRL|distributionPointTest[457]": NO_LIST,
    r"SeparateCertificateandCRLKeys|ValidBasicSelfIssued(NewWithOldTest4|OldWithNew|CRLSigningKey)": NO_LIST,
}


def certificates():
    for path in sorted(PKITS.glob("certs/*.crt")):
        if not path.name.endswith("EE.crt") and path.name != ROOT:
            try:
                yield x509.load_der_x509_certificate(path.read_bytes())
            except (ValueError, UnsupportedAlgorithm):
                assert "DSAParametersInherited" in path.name


AUTHORITIES = list(certificates())
LISTS = {path: x509.load_der_x509_crl(path.read_bytes()) for path in sorted(PKITS.glob("crls/*.crl"))}


def lists_of_the_path(client):
    """The CRL files of all names above the client: what an operator would configure."""
    names, more = {AUTHORITIES[0].issuer}, {client.issuer}
    while more - names:
        names |= more
        more = {each.issuer for each in AUTHORITIES if each.subject in names}
    return [path for path, each in LISTS.items() if each.issuer in names]


def why_not(path):
    root = x509.load_der_x509_certificate((PKITS / "certs" / ROOT).read_bytes())
    try:
        client = ClientCertificate.from_der(path.read_bytes())
        lists = RevocationLists(lists_of_the_path(client.x509))
    except (MalformedCertificate, ConfigurationError) as error:
        return (type(error).__name__,)
    return reasons(TrustStore([root], intermediates=AUTHORITIES, revocation=lists, max_depth=8), client, NOW)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.standard("M1", "M2", "M3", "M4", "M8", "M9", "M10")
@pytest.mark.case("070", "071", "074", "081")
@pytest.mark.parametrize(
    "path", [each for each in CLIENTS if each.name.startswith("Invalid")], ids=lambda path: path.stem
)
def test_nothing_invalid_passes(path):
    assert why_not(path) != ()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.case("071")
@pytest.mark.parametrize(
    "path", [each for each in CLIENTS if each.name.startswith("Valid")], ids=lambda path: path.stem
)
def test_what_is_valid_passes_or_is_refused_for_a_known_reason(path):
    expected = [reason for name, reason in REFUSED_ALL_THE_SAME.items() if re.search(name, path.name)]
    found = why_not(path)
    assert bool(found) == bool(expected), found
    assert not expected or re.search(expected[0], " ".join(found))


def test_the_suite_is_whole():
    assert [sum(path.name.startswith(kind) for path in CLIENTS) for kind in ("Valid", "Invalid")] == [88, 115]
