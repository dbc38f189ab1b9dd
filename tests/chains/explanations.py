"""Explains the differences from OpenSSL. docs/validation.md has each explanation."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.chains.drafts import NOW
from tests.chains.ours import Built, Result, lists_of
from tests.validation.openssl_verify import Problem, verify

OPTIONS = "-crl_check_all", "-policy_check"

# Patterns of the reasons for which only this library rejects a chain, and the explanation. The first match counts.
STRICTER: Mapping[str, str] = {
    "a delta CRL|an indirect CRL|for some reasons only|attribute certificates": "a kind of list that is not supported",
    r"\.crl: an entry has a critical extension": "a kind of list that is not supported",
    r"\.crl: the list has a critical": "a list with an unknown critical extension, even if another list is valid",
    r"\.crl: the list has no cRLNumber": "a list without cRLNumber",
    "none.crl": "no list at all",
    "a CA certificate cannot be a client certificate|keyUsage of a CA": "a leaf that is a CA",
    "keyUsage without digitalSignature": "a leaf whose key usage is not for signatures",
    "extendedKeyUsage (without|lacks) clientAuth": "extended key usage without clientAuth",
    "name constraints in a certificate that is not a CA": "name constraints in a leaf",
    "name constraints? matched SAN": "name constraints in a leaf",  # `cryptography` compares its own names with them
    "(no|without) authorityKeyIdentifier|without subjectKeyIdentifier": "no key identifier",
    "critical extension that is not supported|unaccounted-for critical": "a critical extension that is not processed",
    "requireExplicitPolicy, which is not supported": "requireExplicitPolicy",
    "policyMappings of anyPolicy": "a mapping of anyPolicy",
    "unsupported directoryName": "a critical constraint on directory names",
    "is not a CA|has no basicConstraints": "a CA without basicConstraints",
    "is revoked": "on one list of several, or on a list outside of its scope, or as removeFromCRL",
    "no revocation list of its issuer covers": "a list by another key of the issuer, or no list for the path found",
    "the revocation list for serial .* has expired": "the newest list has expired, and an older one has not",
    "signature does not match|no interior errors": "a reason above, in a CA with the name of another CA",
    "path length constraint violated|exceeds max depth": "a self-issued CA that counts for the path length",
    "unsupported type|unsupported name constraint": "a constraint on URIs",
}
ABOUT_LISTS = frozenset({"unable to get certificate CRL", "different CRL scope"})
ABOUT_TIMES = frozenset({"CRL has expired", "CRL is not yet valid"})
ROOT_IS_CHECKED = "OpenSSL also checks the root by its own list"
PLACE_FOR_SOME_REASONS = "a list without scope, for a certificate whose distribution point is for some reasons only"
OTHER_PATH = "OpenSSL tries another path or list"
ANY_PURPOSE = "a CA for any purpose"
HIGHER_NUMBER = "two lists with the same thisUpdate, of which the one with the higher cRLNumber counts"


class Differs(AssertionError):  # noqa: N818 (a result)
    """A difference without an explanation."""


def explain(own: Result, built: Built, directory: Path) -> str:
    """Return the explanation of a difference. Raises `Differs` if there is none."""
    if own.reasons:
        for pattern, explanation in STRICTER.items():
            if any(re.search(pattern, each) for each in own.reasons):
                return f"rejected here: {explanation}"
        raise Differs(f"rejected here only: {own.reasons}")
    # OpenSSL gets only the path that was found here, and the lists that its CAs signed.
    leaf, *between, root = own.path
    lists = lists_of(own, built)
    (problems,) = verify(directory, [root], between, lists, [leaf], *OPTIONS, now=NOW)
    explanations = [_explain_problem(problem, own.path, lists) for problem in problems]
    if None in explanations:  # each problem must be explained
        raise Differs(f"ACCEPTED HERE ONLY: {problems}")
    found = dict.fromkeys(each for each in explanations if each is not None)
    return f"accepted here: {'; '.join(found) or OTHER_PATH}"


def _explain_problem(problem: Problem, path: Sequence[x509.Certificate], lists: Sequence[bytes]) -> str | None:
    position, message = problem
    if message == "certificate revoked":
        names, successors = lists_naming(path[position], path[position + 1], lists)
        if all(any(_has_higher_number(new, old) for new in successors) for old in names):
            return HIGHER_NUMBER
    if message in ABOUT_LISTS | ABOUT_TIMES and position == len(path) - 1:
        return ROOT_IS_CHECKED
    if message in ABOUT_LISTS and any(point.reasons for point in _points(path[position])):
        return PLACE_FOR_SOME_REASONS
    if message == "unsuitable certificate purpose" and position and _is_for_any_purpose(path[position]):
        return ANY_PURPOSE
    return None


def lists_naming(
    certificate: x509.Certificate, issuer: x509.Certificate, lists: Sequence[bytes]
) -> tuple[list[x509.CertificateRevocationList], list[x509.CertificateRevocationList]]:
    """Return the lists of the issuer on which the certificate is, and its other lists."""
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = [each for each in map(x509.load_der_x509_crl, lists) if each.is_signature_valid(key)]
    naming = [each for each in signed if each.get_revoked_certificate_by_serial_number(certificate.serial_number)]
    return naming, [each for each in signed if each not in naming]


def _has_higher_number(new: x509.CertificateRevocationList, old: x509.CertificateRevocationList) -> bool:
    return new.last_update_utc == old.last_update_utc and replaces(new, old)


def replaces(new: x509.CertificateRevocationList, old: x509.CertificateRevocationList) -> bool:
    """Return whether `new` has the scope of `old`, has begun, and has a later time or a higher number, and no lower."""
    (new_number, new_scope), (number, scope) = _number_and_scope(new), _number_and_scope(old)
    after, before = (new.last_update_utc, new_number), (old.last_update_utc, number)
    is_newer = after != before and after[0] >= before[0] and after[1] >= before[1]
    return is_newer and new_scope == scope and new.last_update_utc.timestamp() <= NOW


def _number_and_scope(found: x509.CertificateRevocationList) -> tuple[int, x509.IssuingDistributionPoint | None]:
    values = {type(each.value): each.value for each in found.extensions}
    return values[x509.CRLNumber].crl_number, values.get(x509.IssuingDistributionPoint)


def _is_for_any_purpose(certificate: x509.Certificate) -> bool:
    purposes = [each.value for each in certificate.extensions if isinstance(each.value, x509.ExtendedKeyUsage)]
    return any(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in each for each in purposes)


def _points(certificate: x509.Certificate) -> Sequence[x509.DistributionPoint]:
    for each in certificate.extensions:
        if isinstance(each.value, x509.CRLDistributionPoints):
            return list(each.value)
    return []
