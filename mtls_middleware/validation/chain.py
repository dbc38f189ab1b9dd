"""`Roots`: finds and validates a path from a client certificate to a trusted root (RFC 5280 section 6).

`cryptography` builds and verifies the path. `profile.py` and `constraints.py` make checks that `cryptography` omits.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware import parser_errors
from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate, Refused
from mtls_middleware.validation import constraints, diagnosis, path_work, presented_chain, profile
from mtls_middleware.validation.root_check import authority_policy
from mtls_middleware.validity import outside

# Maximum number of issuers that are used among the certificates that a client presents. Two or three are usual. Each of
# them costs signature checks. The issuers nearest to the leaf are used.
MAX_PRESENTED = 10
# Maximum number of names in the leaf. They are compared with name constraints. `cryptography` has a much higher limit.
_MAX_NAMES = 512

# Size of two caches: of CA certificates whose signature is verified, and of the results of the checks of CAs.
_CACHED_AUTHORITIES = 256

# The exceptions that `cryptography` and this library raise for an unreadable part of a certificate.
UNREADABLE = (*parser_errors.UNREADABLE, MalformedCertificate)


class Path(NamedTuple):
    """A validated path.

    Attributes:
        certificates: the certificates of the path, from leaf to root.
        begins, ends: the period in which all these certificates are valid, in seconds since the epoch.
    """

    certificates: tuple[x509.Certificate, ...]
    begins: float
    ends: float


class _AuthorityCheck(NamedTuple):
    """The result of the checks of one CA certificate.

    Attributes:
        reasons: the reasons why the CA certificate is not acceptable; empty if it is acceptable.
        has_constraints: whether the CA certificate has name constraints.
    """

    reasons: tuple[str, ...]
    has_constraints: bool


class Roots:
    """Finds a path from a client certificate to one of the trusted roots. Immutable.

    Arguments:
        roots: the trusted roots.
        intermediates: CA certificates that clients need not present.
        max_depth: maximum number of certificates between leaf and root.
        require_client_auth_eku: reject a leaf without extended key usage.
        purpose: the required extended key usage, which is `clientAuth`. Only a test suite for servers gives another
            value.
    """

    def __init__(
        self,
        roots: Sequence[x509.Certificate],
        intermediates: Sequence[x509.Certificate],
        *,
        max_depth: int,
        require_client_auth_eku: bool,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> None:
        self._roots, self._intermediates = list(roots), list(intermediates)
        self._max_depth = max_depth
        self._anchors = frozenset(each.public_bytes(Encoding.DER) for each in roots)
        self._authorities = [*roots, *intermediates]
        self._constraints = sum(map(_constraint_count, self._authorities))
        self._require_eku = require_client_auth_eku
        self._purpose = purpose
        # Two caches that exist as long as this object: the results of the checks of each CA certificate, and the CA
        # certificates whose signature is verified. Validity periods and positions in the path are checked for each
        # path.
        self._cached_check = lru_cache(maxsize=_CACHED_AUTHORITIES)(self._check_authority)
        self._encoded = lru_cache(maxsize=_CACHED_AUTHORITIES)(_encoded)
        self._verified_authorities: Cache[bytes, x509.Certificate] = Cache(_CACHED_AUTHORITIES)
        self._policy = (
            verification.PolicyBuilder()
            .store(verification.Store(list(roots)))
            .max_chain_depth(max_depth)
            .extension_policies(ca_policy=authority_policy(), ee_policy=verification.ExtensionPolicy.permit_all())
        )

    def path(self, certificate: ClientCertificate, now: float, leeway: float = 0.0) -> Path:
        """Return a path that is valid at `now` (seconds since the epoch).

        `leeway`: tolerance in seconds at both ends of the validity period. Raises `Refused` with all reasons if no path
        is valid at this time.
        """
        if certificate.der in self._anchors:
            raise refused(certificate, "a root certificate cannot be a client certificate")
        reasons: list[str] = []
        ignored = 0
        try:
            leaf = certificate.x509
            contents = profile.CertificateContents(leaf)
            reasons += profile.client_defects(contents, self._purpose, require_purpose=self._require_eku)
            names = path_work.name_count(contents)
            if names > _MAX_NAMES:
                raise refused(certificate, f"a certificate has more than {_MAX_NAMES} names")
            if not path_work.is_affordable(names, self._constraints):
                raise refused(
                    certificate, f"too many comparisons: {names} names with {self._constraints} name constraints"
                )
            issuers = presented_chain.issuers(leaf, certificate.chain, self._verified_authorities.get)
            presented_chain.log_ignored(certificate.thumbprint, len(certificate.chain) - len(issuers), now)
            authorities, ignored = self._presented_authorities(leaf, dict(islice(issuers.items(), MAX_PRESENTED)))
            ignored += max(0, len(issuers) - MAX_PRESENTED)
            path = self._find_path(leaf, [*authorities, *self._intermediates], now, leeway)
            checks = [self._cached_check(each, each is path.certificates[-1]) for each in path.certificates[1:]]
            reasons += [reason for each in checks for reason in each.reasons]
            if x509.NameConstraints.oid in contents.extensions or any(each.has_constraints for each in checks):
                reasons += constraints.violations(path.certificates)
        except verification.VerificationError as error:
            if ignored:
                reasons.append(
                    f"{ignored} of the CAs that the client presented are ignored, because there are more than "
                    f"{MAX_PRESENTED}, they allow too many paths, or they have too many name constraints"
                )
            # The end of the error's message is removed, because it quotes names that the client chose.
            reasons.append(str(error).partition(" (encountered")[0][:200])
            causes, advice = self._diagnosed(certificate, now, leeway)
            raise refused(certificate, *dict.fromkeys([*reasons[:-1], *causes, reasons[-1]]), advice=advice) from None
        except UNREADABLE as error:
            raise refused(certificate, *dict.fromkeys([*reasons, *_unreadable(certificate, error)])) from None
        if reasons:
            raise refused(certificate, *dict.fromkeys(reasons))
        return path

    def encoded(self, path: Path) -> tuple[bytes, ...]:
        """Return the CA certificates of a path as DER. All paths share the same `bytes` objects, to save memory."""
        return tuple(map(self._encoded, path.certificates[1:]))

    def _find_path(self, leaf: x509.Certificate, known: Sequence[x509.Certificate], now: float, leeway: float) -> Path:
        """Return the path that `cryptography` finds.

        If it finds no path, raise the `VerificationError` for the time `now`.
        """
        failure = verification.VerificationError("no path is valid at this time")
        for attempt, time in enumerate(self._times_to_try([leaf, *known, *self._authorities], now, leeway)):
            verifier = self._policy.time(datetime.fromtimestamp(time, UTC)).build_client_verifier()
            try:
                certificates = tuple(verifier.verify(leaf, list(known)).chain)
            except verification.VerificationError as error:
                failure = failure if attempt else error
                continue
            begins, ends = zip(*map(_validity, certificates), strict=True)
            path = Path(certificates, max(begins), min(ends))
            # This check is needed, because a leeway below a second may contain no whole second.
            if path.begins - leeway <= now <= path.ends + leeway:
                return path
        raise failure

    @staticmethod
    def _times_to_try(certificates: Iterable[x509.Certificate], now: float, leeway: float) -> Iterator[int]:
        """Yield the times, in whole seconds, at which to search for a path, so that every acceptable path is found.

        The times are `now`, the earliest second within the leeway, and each notBefore within the leeway. These times
        are sufficient: a path that is valid at some time within the leeway is also valid either at the earliest second
        or at the latest notBefore of its certificates.
        """
        yield math.floor(now)
        earliest = math.ceil(now - leeway)
        if earliest != math.floor(now):
            yield earliest
        begins = {_validity(each)[0] for each in certificates}
        yield from sorted(int(each) for each in begins if earliest < each <= now + leeway)

    def outside(self, certificate: ClientCertificate, now: float, clock_skew: float) -> tuple[str, ...]:
        """Return log messages about the certificate between leaf and root that is outside of its validity period.

        The result is empty if no certificate is outside of its validity period. In addition to the leaf, only
        certificates with the name of an issuer are checked, because a client can present unrelated certificates.
        """
        try:
            # The method `path` has already filled this cache.
            verified = map(self._verified_authorities.get, certificate.chain)
            known = [*(each for each in verified if each is not None), *self._authorities]
            level = [certificate.x509]
            for place in ("the client certificate", *["an issuer in its path"] * (MAX_PRESENTED + 1)):
                periods = [_validity(each) for each in level]
                if periods and not any(first - clock_skew <= now <= last + clock_skew for first, last in periods):
                    return f"{place} is outside of its validity period", *outside(periods[0], now, clock_skew)
                names = {each.issuer for each in level if each.issuer != each.subject}
                level = [each for each in known if each.subject in names]
        except UNREADABLE:
            pass
        return ()

    def diagnose(self, certificate: ClientCertificate, now: float, leeway: float = 0.0) -> diagnosis.Diagnosis:
        """Return the reasons why no path is valid at `now` (seconds since the epoch), for the log.

        Raises the exceptions of `chain.UNREADABLE` for unreadable certificates.
        """
        leaf = certificate.x509
        issuers = presented_chain.issuers(leaf, certificate.chain, self._verified_authorities.get)
        # After the CAs with the name of an issuer come all other CAs, because the name of an issuer may be spelt
        # differently.
        others = dict(islice(issuers.items(), MAX_PRESENTED)) | presented_chain.readable(
            certificate.chain[:MAX_PRESENTED]
        )
        return diagnosis.diagnose(
            leaf,
            diagnosis.Authorities(self._roots, [*self._intermediates, *others.values()]),
            self._purpose,
            now=now,
            leeway=leeway,
            max_depth=self._max_depth,
        )

    def _diagnosed(
        self, certificate: ClientCertificate, now: float, leeway: float
    ) -> tuple[tuple[str, ...], str | None]:
        """Return the reasons that `diagnose` finds, and its advice."""
        try:
            found = self.diagnose(certificate, now, leeway)
        except UNREADABLE as error:
            return (f"a certificate of the path cannot be read: {parser_errors.reason(error)}",), None
        return found.reasons, found.advice

    def _check_authority(self, authority: x509.Certificate, is_anchor: bool) -> _AuthorityCheck:
        reasons = profile.authority_defects(authority, self._purpose, is_anchor=is_anchor)
        has_constraints = profile.extension(authority, x509.NameConstraints) is not None
        return _AuthorityCheck(tuple(reasons), has_constraints)

    def _presented_authorities(
        self, leaf: x509.Certificate, issuers: Mapping[bytes, x509.Certificate]
    ) -> tuple[list[x509.Certificate], int]:
        """Return the presented CAs with a verified signature, and the number of CAs that are ignored.

        CAs beyond a limit are ignored, so that the search ends in time.
        """
        cached = {der: self._verified_authorities.get(der) for der in issuers}
        verified = [each for each in cached.values() if each is not None]
        new = self._signed_by_known([issuers[der] for der, each in cached.items() if each is None], verified)
        for each in new:
            self._verified_authorities.put(each.public_bytes(Encoding.DER), each)
        verified += new
        kept = path_work.affordable(
            leaf,
            verified,
            roots=self._roots,
            intermediates=self._intermediates,
            constraints=self._constraints,
            depth=self._max_depth,
        )
        return kept, len(verified) - len(kept)

    def _signed_by_known(
        self, presented: Sequence[x509.Certificate], verified: Sequence[x509.Certificate]
    ) -> list[x509.Certificate]:
        """Return the presented CAs that a known CA has signed, directly or through further presented CAs.

        All other CAs are dropped. So a client of an unknown CA causes only a few signature checks: a presented CA is
        checked at most once against each known CA that has the name of its issuer.
        """
        signed: list[x509.Certificate] = []
        remaining, issuers = [each for each in presented if _is_authority(each)], [*self._authorities, *verified]
        while remaining and issuers:
            found = [each for each in remaining if any(_is_signed_by(each, issuer) for issuer in issuers)]
            remaining = [each for each in remaining if each not in found]
            signed += found
            issuers = found
        return signed


def refused(
    certificate: ClientCertificate, *reasons: str, new_connection: bool = False, advice: str | None = None
) -> Refused:
    """Create the exception for a rejected client certificate. `reasons`: messages for the log of the operator."""
    return Refused(
        "client_certificate_refused",
        f"{certificate.thumbprint} is not valid",
        *reasons,
        new_connection=new_connection,
        advice=advice,
    )


def _unreadable(certificate: ClientCertificate, error: BaseException) -> tuple[str, ...]:
    """Return the reasons why a certificate of the path cannot be read, with the entry of subjectAltName."""
    with suppress(MalformedCertificate):
        _ = certificate.alternative_names
    return (
        f"a certificate of the path cannot be read: {parser_errors.reason(error)}",
        *certificate.unreadable_parts,
    )


def _encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _validity(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _constraint_count(authority: x509.Certificate) -> int:
    """Return the number of name constraints of a CA, or 0 if the constraints are unreadable.

    A path through a CA with unreadable constraints is never accepted.
    """
    try:
        return path_work.constraint_count(authority)
    except UNREADABLE:
        return 0


def _is_authority(certificate: x509.Certificate) -> bool:
    """Return whether basicConstraints marks the certificate as a CA certificate."""
    try:
        basic = profile.extension(certificate, x509.BasicConstraints)
    except UNREADABLE:
        return False
    return basic is not None and basic.value.ca


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        if certificate.issuer != issuer.subject:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True
