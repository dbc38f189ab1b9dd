"""Compares the results for a generated PKI with those of `openssl verify`, and explains the differences."""

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.chains.drafts import NOW, PKI
from tests.chains.explanations import (
    ABOUT_LISTS,
    ANY_PURPOSE,
    HIGHER_NUMBER,
    OTHER_PATH,
    PLACE_FOR_SOME_REASONS,
    ROOT_IS_CHECKED,
    STRICTER,
)
from tests.chains.generate import draw
from tests.validation.openssl_verify import Problem, verify

OPTIONS = "-crl_check_all", "-policy_check"


class Differs(AssertionError):  # noqa: N818 (a result)
    """A difference without an explanation."""


@dataclass
class Tally:
    """How often each result occurred.

    Attributes:
        explained: the differences, by explanation.
        accepted_with, rejected_with: how many chains with each change OpenSSL accepted and rejected.
    """

    chains: int = 0
    accepted: int = 0
    rejected: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    accepted_with: Counter[str] = field(default_factory=Counter)
    rejected_with: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        self.chains += other.chains
        self.accepted += other.accepted
        self.rejected += other.rejected
        for name in ("explained", "accepted_with", "rejected_with"):
            getattr(self, name).update(getattr(other, name))

    def __str__(self) -> str:
        lines = [f"{self.chains} chains: {self.accepted} accepted by both, {self.rejected} rejected by both"]
        return "\n".join([*lines, *(f"{count:8} {name}" for name, count in self.explained.most_common())])


def compare(seed: object, chains: int) -> Tally:
    """Compare so many generated chains. Raises `Differs` with the seed of a PKI and the difference."""
    tally, number = Tally(), 0
    while tally.chains < chains:
        with tempfile.TemporaryDirectory() as directory:
            tally.add(compare_one(f"{seed}/{number}", Path(directory)))
        number += 1
    return tally


def compare_one(seed: str, directory: Path) -> Tally:
    """Compare the chains of the PKI that is drawn with this seed."""
    random = Random(seed)
    pki = draw(random)
    built = Built.of(pki)
    theirs = verify(directory, built.roots, built.between, built.lists, built.leaves, *OPTIONS, now=NOW)
    ours = _our_results(built, directory, presents_chain=random.random() < 0.5)
    tally = Tally()
    for number, (own, problems) in enumerate(zip(ours, theirs, strict=True)):
        changes = [*pki.changes, *pki.leaf_changes[number]]
        tally.chains += 1
        (tally.rejected_with if problems else tally.accepted_with).update(changes)
        if not own.reasons and not problems:
            tally.accepted += 1
        elif own.reasons and problems:
            tally.rejected += 1
        else:
            try:
                explanation = _explain(own, built, directory)
            except Differs as difference:
                raise Differs(f"{difference}; seed {seed!r}, leaf {number}: {', '.join(changes)}") from None
            tally.explained[explanation] += 1
    return tally


@dataclass
class Built:
    """The certificates and lists of a `PKI`."""

    roots: list[x509.Certificate]
    between: list[x509.Certificate]
    leaves: list[x509.Certificate]
    lists: list[bytes]

    @classmethod
    def of(cls, pki: PKI) -> "Built":
        roots, between, leaves = ([each.build() for each in drafts] for drafts in (pki.roots, pki.between, pki.leaves))
        return cls(roots, between, leaves, [each.build() for each in pki.lists])


@dataclass
class Result:
    """The result for one leaf: why it is rejected, or the path with which it is accepted, leaf first."""

    reasons: Sequence[str] = ()
    path: Sequence[x509.Certificate] = ()


def _our_results(built: Built, directory: Path, *, presents_chain: bool) -> list[Result]:
    """Return the result for each leaf. `presents_chain`: otherwise, the store has the CAs."""
    files = []
    for number, octets in enumerate(built.lists):
        files.append(directory / f"{number}.crl")
        files[-1].write_bytes(octets)
    try:
        lists = RevocationLists(files or [directory / "none.crl"])
    except ConfigurationError as error:
        return [Result((str(error),))] * len(built.leaves)
    store = TrustStore(built.roots, intermediates=() if presents_chain else built.between, revocation=lists)
    chain = tuple(each.public_bytes(Encoding.DER) for each in built.between) if presents_chain else ()
    return [_our_result(store, each.public_bytes(Encoding.DER), chain) for each in built.leaves]


def _our_result(store: TrustStore, der: bytes, chain: tuple[bytes, ...]) -> Result:
    try:
        certificate = ClientCertificate.from_der(der, chain=chain)
        validated = BlockingDriver().run(store.validate(certificate, NOW))
    except MalformedCertificate as error:
        return Result(error.evidence)
    except Refused as error:
        return Result(error.evidence[1:])  # the first one is the thumbprint
    return Result((), [x509.load_der_x509_certificate(each) for each in validated.path])


def _explain(own: Result, built: Built, directory: Path) -> str:
    """Return the explanation of a difference. Raises `Differs` if there is none."""
    if own.reasons:
        for pattern, explanation in STRICTER.items():
            if any(re.search(pattern, each) for each in own.reasons):
                return f"rejected here: {explanation}"
        raise Differs(f"rejected here only: {own.reasons}")
    # OpenSSL gets only the path that was found here, and the lists that its CAs signed.
    leaf, *between, root = own.path
    lists = [each for each in built.lists if _is_signed(each, own)]
    (problems,) = verify(directory, [root], between, lists, [leaf], *OPTIONS, now=NOW)
    explanations = [_explain_problem(problem, own.path, lists) for problem in problems]
    if None in explanations:  # each problem must be explained
        raise Differs(f"ACCEPTED HERE ONLY: {problems}")
    found = dict.fromkeys(each for each in explanations if each is not None)
    return f"accepted here: {'; '.join(found) or OTHER_PATH}"


def _is_signed(octets: bytes, own: Result) -> bool:
    found = x509.load_der_x509_crl(octets)
    keys = [each.public_key() for each in own.path[1:]]
    return any(found.is_signature_valid(each) for each in keys if isinstance(each, ec.EllipticCurvePublicKey))


def _explain_problem(problem: Problem, path: Sequence[x509.Certificate], lists: Sequence[bytes]) -> str | None:
    position, message = problem
    if message == "certificate revoked" and _is_released(path[position], path[position + 1], lists):
        return HIGHER_NUMBER
    if message in ABOUT_LISTS:
        if position == len(path) - 1:
            return ROOT_IS_CHECKED
        if any(point.reasons for point in _points(path[position])):
            return PLACE_FOR_SOME_REASONS
    if message == "unsuitable certificate purpose" and position and _is_for_any_purpose(path[position]):
        return ANY_PURPOSE
    return None


def _is_released(certificate: x509.Certificate, issuer: x509.Certificate, lists: Sequence[bytes]) -> bool:
    """Return whether each list that names the certificate has a successor: same scope and time, and a higher number."""
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = [each for each in map(x509.load_der_x509_crl, lists) if each.is_signature_valid(key)]
    naming = [each for each in signed if each.get_revoked_certificate_by_serial_number(certificate.serial_number)]
    return all(any(_follows(other, each) for other in signed if other not in naming) for each in naming)


def _follows(later: x509.CertificateRevocationList, earlier: x509.CertificateRevocationList) -> bool:
    (later_number, later_scope), (number, scope) = _number_and_scope(later), _number_and_scope(earlier)
    return later.last_update_utc == earlier.last_update_utc and later_number > number and later_scope == scope


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
