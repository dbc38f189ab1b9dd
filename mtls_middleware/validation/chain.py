"""`Roots`: is there a path from a client certificate to one of these roots? RFC 5280 section 6.

Must never know: files, revocation, and addresses that a certificate names. `cryptography` builds and verifies the
path; what it leaves to its callers is in `profile.py` and `constraints.py`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
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
from mtls_middleware.validation import constraints, path_work, profile
from mtls_middleware.validity import outside

# Certificates beside the leaf that a client may present. Two or three are usual; each costs look-ups and signatures.
MOST_PRESENTED = 10
# Names of one certificate that constraints are held against: the engine's own limit is far above.
_MOST_NAMES = 512

# CAs of the house of which it is remembered that they are ours, and how they look by themselves.
_REMEMBERED = 256

# How `cryptography`, or a name of ours, says that something in a certificate cannot be read.
UNREADABLE = (*parser_errors.UNREADABLE, MalformedCertificate)


class Path(NamedTuple):
    """Leaf to root, and the seconds since the epoch between which all of them are valid."""

    certificates: tuple[x509.Certificate, ...]
    begins: float
    ends: float


class _Authority(NamedTuple):
    """A CA looked at alone: why it is unfit, whether it constrains names."""

    reasons: tuple[str, ...]
    constrains: bool


class Roots:
    """Roots, the intermediates that are known beside them, and what is asked of a path. Immutable.

    Arguments:
        max_depth: certificates that may stand between leaf and root.
        purpose: the extended key usage that is asked for. Always `clientAuth`, save in a test suite made for servers.
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
        # What is said of a CA by itself, and by its issuer's signature, holds as long as these roots do. Its dates, and
        # its place in a path, are looked at each time.
        self._judged = lru_cache(maxsize=_REMEMBERED)(self._judge)
        self._ours: Cache[bytes, x509.Certificate] = Cache(_REMEMBERED)
        # `profile.py` checks leaves. The engine's profile applies to CAs, with two exceptions: a CA may lack keyUsage,
        # as `openssl req -x509` makes it, and `profile.py` checks the purpose.
        either = verification.Criticality.AGNOSTIC
        authority = (
            verification.ExtensionPolicy.webpki_defaults_ca()
            .may_be_present(x509.KeyUsage, either, None)
            .may_be_present(x509.ExtendedKeyUsage, either, None)
        )
        self._policy = (
            verification.PolicyBuilder()
            .store(verification.Store(list(roots)))
            .max_chain_depth(max_depth)
            .extension_policies(ca_policy=authority, ee_policy=verification.ExtensionPolicy.permit_all())
        )

    def path(self, certificate: ClientCertificate, now: float, leeway: float = 0.0) -> Path:
        """A path that is valid at `now` (seconds since the epoch), with this tolerance at both ends of its period.

        Raises `Refused` with every reason.
        """
        if certificate.der in self._anchors:
            raise refused(certificate, "a root is no client")
        if len(certificate.chain) > MOST_PRESENTED:
            raise refused(certificate, f"more than {MOST_PRESENTED} certificates beside the leaf")
        reasons: list[str] = []
        left_out = 0
        try:
            found = profile.extensions(certificate.x509)
            reasons += profile.unfit_client(certificate.x509, found, self._purpose, require_purpose=self._require_eku)
            names = path_work.name_count(certificate.x509)
            if names > _MOST_NAMES:
                raise refused(certificate, f"more than {_MOST_NAMES} names in one certificate")
            if not path_work.is_affordable(names, self._constraints):
                raise refused(certificate, f"{names} names under {self._constraints} name constraints")
            presented, left_out = self._presented(certificate)
            path = self._path_at(certificate.x509, [*presented, *self._intermediates], now, leeway)
            judged = [self._judged(each, each is path.certificates[-1]) for each in path.certificates[1:]]
            reasons += [reason for each in judged for reason in each.reasons]
            if x509.NameConstraints.oid in found or any(each.constrains for each in judged):
                reasons += constraints.violations(path.certificates)
        except verification.VerificationError as error:
            if left_out:
                reasons.append(f"{left_out} CAs of the client are left out: too many possible paths, or constraints")
            # What follows quotes the certificate's names, which are whoever made it to choose.
            raise refused(certificate, *reasons, str(error).partition(" (encountered")[0][:200]) from None
        except UNREADABLE as error:
            raise refused(certificate, f"a certificate of the path cannot be read ({type(error).__name__})") from None
        if reasons:
            raise refused(certificate, *dict.fromkeys(reasons))
        return path

    def _path_at(self, leaf: x509.Certificate, known: Sequence[x509.Certificate], now: float, leeway: float) -> Path:
        """The path that the engine finds. Raises `VerificationError`: the one of the first moment says most."""
        failure = verification.VerificationError("no path is valid at this time")
        for attempt, moment in enumerate(self._moments([leaf, *known, *self._authorities], now, leeway)):
            verifier = self._policy.time(datetime.fromtimestamp(moment, UTC)).build_client_verifier()
            try:
                certificates = tuple(verifier.verify(leaf, list(known)).chain)
            except verification.VerificationError as error:
                failure = failure if attempt else error
                continue
            begins, ends = zip(*map(_validity, certificates), strict=True)
            path = Path(certificates, max(begins), min(ends))
            if path.begins - leeway <= now <= path.ends + leeway:  # a leeway below a second may contain no whole second
                return path
        raise failure

    @staticmethod
    def _moments(certificates: Iterable[x509.Certificate], now: float, leeway: float) -> Iterator[int]:
        """The whole seconds to look at, so that a path is found if there is one.

        All of a path is valid at one time. If this time is within the tolerance, then so is the later of these two: the
        earliest second within the tolerance, and the beginning of the path, where the last of its certificates begins.
        """
        yield math.floor(now)
        earliest = math.ceil(now - leeway)
        if earliest != math.floor(now):
            yield earliest
        begins = {_validity(each)[0] for each in certificates}
        yield from sorted(int(each) for each in begins if earliest < each <= now + leeway)

    def outside(self, certificate: ClientCertificate, now: float, clock_skew: float) -> tuple[str, ...]:
        """For the log: which certificate between the leaf and a root is outside its validity period, and how far.

        Only issuers of the leaf count, by name: a client can present other expired certificates.
        """
        try:
            proven = (self._ours.get(der) for der in certificate.chain[:MOST_PRESENTED])  # by `path`
            known = [*(each for each in proven if each is not None), *self._authorities]
            level = [certificate.x509]
            for place in ("the client certificate", *["an issuer in its path"] * (MOST_PRESENTED + 1)):
                periods = [_validity(each) for each in level]
                if periods and not any(first - clock_skew <= now <= last + clock_skew for first, last in periods):
                    return f"{place} is outside of its validity period", *outside(periods[0], now, clock_skew)
                names = {each.issuer for each in level if each.issuer != each.subject}
                level = [each for each in known if each.subject in names]
        except UNREADABLE:
            pass
        return ()

    def _judge(self, authority: x509.Certificate, is_anchor: bool) -> _Authority:
        reasons = profile.unfit_authority(authority, self._purpose, is_anchor=is_anchor)
        constrains = profile.extension(authority, x509.NameConstraints) is not None
        return _Authority(tuple(reasons), constrains)

    def _presented(self, certificate: ClientCertificate) -> tuple[list[x509.Certificate], int]:
        """The CAs that the client presents and that are proven; and how many are left out to bound the search."""
        before = {der: self._ours.get(der) for der in certificate.chain}
        proven = [each for each in before.values() if each is not None]
        new = self._proven(
            [x509.load_der_x509_certificate(der) for der, each in before.items() if each is None], proven
        )
        for each in new:
            self._ours.put(each.public_bytes(Encoding.DER), each)
        proven += new
        kept = path_work.affordable(
            certificate.x509,
            proven,
            roots=self._roots,
            intermediates=self._intermediates,
            constraints=self._constraints,
            depth=self._max_depth,
        )
        return kept, len(proven) - len(kept)

    def _proven(
        self, presented: Sequence[x509.Certificate], ours: Sequence[x509.Certificate]
    ) -> list[x509.Certificate]:
        """The presented CAs that a known CA has signed, directly or through other presented CAs. The rest is dropped.

        So a client without one of these CAs causes at most one check of each signature per issuer of that name.
        """
        proven: list[x509.Certificate] = []
        waiting, issuers = [each for each in presented if _is_authority(each)], [*self._authorities, *ours]
        while waiting and issuers:
            found = [each for each in waiting if any(_signed(each, issuer) for issuer in issuers)]
            waiting = [each for each in waiting if each not in found]
            proven += found
            issuers = found
        return proven


def refused(certificate: ClientCertificate, *reasons: str, new_connection: bool = False) -> Refused:
    """The refusal of a client certificate, `reasons` for the operator."""
    return Refused(
        "client_certificate_refused",
        f"{certificate.thumbprint} does not validate",
        *reasons,
        new_connection=new_connection,
    )


def _validity(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _constraint_count(authority: x509.Certificate) -> int:
    """0 if it cannot be read: then no path through this CA is accepted."""
    try:
        return path_work.constraint_count(authority)
    except UNREADABLE:
        return 0


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether it says that it is a CA. What a client signs with the key of its own certificate proves nothing."""
    try:
        basic = profile.extension(certificate, x509.BasicConstraints)
    except UNREADABLE:
        return False
    return basic is not None and basic.value.ca


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        if certificate.issuer != issuer.subject:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True
